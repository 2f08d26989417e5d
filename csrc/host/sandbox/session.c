#include "host/sandbox/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "common/packet.h"

/* ---- life of a session ---- */

struct sp_session *sp_session_new(sp_launcher *launcher) {
    struct sp_session *session = calloc(1, launcher->ops->session_size);
    if (session != NULL) {
        sp_launcher_ref(launcher);
        session->launcher = launcher;
        session->refs = 1;
        pthread_mutex_init(&session->sending, NULL);
        session->control = -1;
        session->pidfd = -1;
        session->home = "/tmp";
    }
    return session;
}

bool sp_session_is_whole(const struct sp_session *session) {
    return sp_is_own(session->control, &session->control_identity) &&
           (session->pidfd == -1 || sp_is_own(session->pidfd, &session->pidfd_identity));
}

/* Another part of this process may have closed a number of ours and opened a file with it. Nothing is signalled through
 * such a number, and it is not closed. */
static void drop_foreign_fds(struct sp_session *session) {
    if (!sp_is_own(session->control, &session->control_identity)) {
        session->control = -1;
    }
    if (!sp_is_own(session->pidfd, &session->pidfd_identity)) {
        session->pidfd = -1;
    }
}

void sp_session_free(struct sp_session *session) {
    sp_close_own(&session->pidfd, &session->pidfd_identity);
    pthread_mutex_destroy(&session->sending);
    free(session);
}

/* ---- whether a command is probably the last request to its sandbox ---- */

/* So many sandboxes in a row have had only one. */
#define SINGLE_ENOUGH 4

/* relaxed, here and below: it is only a guess, and orders nothing */
static unsigned count_of(const atomic_uint *count) { return atomic_load_explicit(count, memory_order_relaxed); }

static bool is_probably_last(const struct sp_session *session) {
    return count_of(&session->requests) == 1 && count_of(&session->launcher->single) == SINGLE_ENOUGH;
}

/* A command, or what is asked for after the first one. */
static void count_request(struct sp_session *session) {
    if (atomic_fetch_add_explicit(&session->requests, 1, memory_order_relaxed) != 0 &&
        count_of(&session->launcher->single) != 0) {
        atomic_store_explicit(&session->launcher->single, 0, memory_order_relaxed);
    }
}

static void count_end(const struct sp_session *session) {
    const unsigned single = count_of(&session->launcher->single);
    if (count_of(&session->requests) == 1 && single < SINGLE_ENOUGH) {
        atomic_store_explicit(&session->launcher->single, single + 1, memory_order_relaxed);
    }
}

/* ---- the end of a session ---- */

static void end(struct sp_session *session) {
    drop_foreign_fds(session);
    count_end(session);
    session->launcher->ops->kill_sandbox(session);
    if (session->launcher->ops->release != NULL) {
        session->launcher->ops->release(session);
    }
    sp_fd_close(&session->control);
    sp_launcher *launcher = session->launcher;
    /* relaxed: if the last pool leaves meanwhile, the session is freed with the launcher */
    if (session->pidfd != -1 && atomic_load_explicit(&launcher->checkers, memory_order_relaxed) != 0) {
        sp_dying_add(session); /* from here on this thread does not own it */
    } else {
        sp_session_free(session);
    }
    sp_launcher_unref(launcher);
}

void sp_session_unref(struct sp_session *session) {
    /* acq_rel: what the others did with the session happens before the last one ends it */
    if (session != NULL && atomic_fetch_sub_explicit(&session->refs, 1, memory_order_acq_rel) == 1) {
        end(session);
    }
}

void sp_session_end(struct sp_session *session) {
    /* relaxed: with one reference nobody else can take another one, and with more it does not matter who ends it. The
     * kill cannot wait for the others, who may be waiting for this sandbox. */
    if (session != NULL && atomic_load_explicit(&session->refs, memory_order_relaxed) != 1 &&
        sp_session_is_whole(session)) {
        session->launcher->ops->kill_sandbox(session);
    }
    sp_session_unref(session);
}

/* ---- commands ---- */

static int send_exec(struct sp_session *session, const struct sp_session_exec *exec, int64_t deadline) {
    if (!sp_session_is_whole(session)) {
        return -EBADF;
    }
    size_t cwd_len = strlen(exec->cwd) + 1;
    size_t len = cwd_len + exec->argv_len + exec->env_len;
    if (len > SP_PAYLOAD_MAX) {
        return -E2BIG;
    }
    char *payload = malloc(len);
    if (payload == NULL) {
        return -ENOMEM;
    }
    memcpy(payload, exec->cwd, cwd_len);
    memcpy(payload + cwd_len, exec->argv, exec->argv_len);
    if (exec->env_len != 0) {
        memcpy(payload + cwd_len + exec->argv_len, exec->env, exec->env_len);
    }
    struct sp_record record = {
        .type = SP_REC_EXEC,
        .u.exec = {.id = ++session->last_id,
                   .flags = (exec->has_stdin ? SP_EXEC_HAS_STDIN : 0) | (exec->runs ? SP_EXEC_RUN : 0) |
                            (exec->for_runtime ? SP_EXEC_RUNTIME : 0) | (is_probably_last(session) ? SP_EXEC_LAST : 0),
                   .argc = exec->argc,
                   .envc = exec->envc,
                   .payload_len = (uint32_t)len,
                   .cpu_seconds = exec->cpu_seconds}};
    struct sp_outgoing out = {.record = &record,
                              .payload = payload,
                              .payload_len = len,
                              .fds = exec->fds,
                              .n_fds = exec->for_runtime ? 0 : 2u + exec->has_stdin + exec->runs};
    session->acked = false;
    session->for_runtime = exec->for_runtime;
    pthread_mutex_lock(&session->sending);
    session->open = true;
    int rc = sp_packet_send(session->control, &out, deadline);
    pthread_mutex_unlock(&session->sending);
    free(payload);
    return rc;
}

int sp_session_send_exec(struct sp_session *session, const struct sp_session_exec *exec, int64_t deadline) {
    count_request(session);
    return send_exec(session, exec, deadline);
}

void sp_session_send_kill(struct sp_session *session) {
    struct sp_record record = {.type = SP_REC_KILL, .u.id.id = session->last_id};
    pthread_mutex_lock(&session->sending);
    (void)sp_packet_send(session->control, &(struct sp_outgoing){.record = &record}, sp_now());
    pthread_mutex_unlock(&session->sending);
}

/* ---- requests with a reply socket ---- */

/*
 * While a command runs that the standby has become, init sleeps until a signal comes, so it is woken as soon as there
 * is something to read: it may have to read before the rest of the payload finds room in the socket.
 */
static int send_locked(struct sp_session *session, const struct sp_session_request *request,
                       const struct sp_outgoing *out, int64_t deadline) {
    static const struct sp_record serve = {.type = SP_REC_SERVE};
    size_t sent = 0;
    if (!sp_session_is_whole(session)) {
        return -EBADF;
    }
    int rc =
        request->for_init ? sp_packet_send(session->control, &(struct sp_outgoing){.record = &serve}, deadline) : 0;
    bool is_under_way = rc == 0 && request->for_init;
    rc = rc != 0 ? rc : sp_packet_send_first(session->control, out, &sent, deadline);
    is_under_way = is_under_way || rc == 0;
    if (rc == 0 && session->open) {
        session->launcher->ops->watch_memory(session);
    }
    rc = rc != 0 ? rc : sp_payload_send(session->control, out, sent, deadline);
    if (rc != 0 && is_under_way) { /* init waits for the rest, and would take the next record for it */
        session->launcher->ops->kill_sandbox(session);
    }
    return rc;
}

int sp_session_request(struct sp_session *session, const struct sp_session_request *request, int64_t deadline,
                       int *reply) {
    if (!session->launcher->ops->has_init) {
        return -ENOTSUP;
    }
    int pair[2];
    int rc = sp_control_pair(pair);
    sp_auto_fd int near_end = pair[0];
    sp_auto_fd int far_end = pair[1];
    if (rc != 0) {
        return rc;
    }
    int fds[SP_PACKET_FDS] = {far_end};
    memcpy(fds + 1, request->fds, sizeof request->fds);
    const struct sp_outgoing out = {.record = &request->record,
                                    .payload = request->payload,
                                    .payload_len = request->payload_len,
                                    .fds = fds,
                                    .n_fds = request->n_fds + 1};
    pthread_mutex_lock(&session->sending);
    if (count_of(&session->requests) != 0) {
        count_request(session);
    }
    rc = send_locked(session, request, &out, deadline);
    pthread_mutex_unlock(&session->sending);
    *reply = rc == 0 ? sp_fd_steal(&near_end) : -1;
    return rc;
}

/* ---- answers about a command ---- */

/* Whether this record may come now. If not, the tenant attacks or init is broken. */
static bool is_expected(const struct sp_session *session, const struct sp_record *record) {
    if (!session->open) {
        return false;
    }
    switch (record->type) {
    case SP_REC_ACK:
        return !session->acked && record->u.id.id == session->last_id;
    case SP_REC_FAILED:
        return session->acked && record->u.failed.id == session->last_id;
    case SP_REC_EXITED:
        return session->acked && record->u.exited.id == session->last_id;
    default:
        return false;
    }
}

/* An ACK without descriptors precedes the report that there is no runtime any more. */
static bool has_its_descriptors(const struct sp_session *session, const struct sp_packet *packet) {
    bool may_bring = session->for_runtime && packet->record.type == SP_REC_ACK;
    return packet->n_fds == 0 || (may_bring && packet->n_fds == SP_RUNTIME_ENDS);
}

int sp_session_recv(struct sp_session *session, struct sp_record *record, int ends[SP_RUNTIME_ENDS]) {
    struct sp_packet packet;
    for (int i = 0; ends != NULL && i < SP_RUNTIME_ENDS; i++) {
        ends[i] = -1;
    }
    if (!sp_is_own(session->control, &session->control_identity)) {
        return -EBADF;
    }
    int rc = sp_packet_recv(session->control, &packet, NULL, 0);
    if (rc == -EMFILE && session->for_runtime && session->open && !session->acked) {
        session->acked = true; /* only this ACK brings descriptors */
        return rc;
    }
    if (rc != 0) {
        return rc;
    }
    *record = packet.record;
    bool sound = has_its_descriptors(session, &packet) && is_expected(session, record);
    for (unsigned i = 0; sound && ends != NULL && i < packet.n_fds; i++) {
        ends[i] = sp_fd_steal(&packet.fds[i]);
    }
    sp_packet_close(&packet);
    session->acked = session->acked || (sound && record->type == SP_REC_ACK);
    session->open = sound && record->type == SP_REC_ACK;
    return sound ? 0 : -EBADMSG;
}

int sp_session_check_begin(struct sp_session *session, const struct sp_check *check, int64_t deadline) {
    sp_auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null == -1) {
        return -errno;
    }
    const int fds[2] = {null, null};
    struct sp_session_exec exec = {.argc = check->argc,
                                   .envc = check->envc,
                                   .cwd = session->home,
                                   .argv = check->argv,
                                   .env = check->env,
                                   .argv_len = check->argv_len,
                                   .env_len = check->env_len,
                                   .fds = fds};
    return send_exec(session, &exec, deadline);
}

int sp_session_check_step(struct sp_session *session, int *status) {
    for (;;) {
        struct sp_record record;
        int rc = sp_session_recv(session, &record, NULL);
        if (rc != 0) {
            return rc == -EAGAIN ? SP_AGAIN : rc;
        }
        if (record.type == SP_REC_FAILED) {
            return record.u.failed.err != 0 ? -(int)record.u.failed.err : -EBADMSG; /* never 0, which is success */
        }
        if (record.type == SP_REC_EXITED) {
            *status = (int)record.u.exited.status;
            return 0;
        }
    }
}
