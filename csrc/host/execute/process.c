/*
 * A process of a lease, from its start to its end (popen). Beside the job, which has the lease to itself, there may be
 * many. Once the request is sent, a process needs only its own socket: init sends its answers there, and an end of file
 * means that the sandbox is dead. Nothing here waits; the caller polls the socket.
 *
 * What comes over the socket is hostile once a tenant has run. A record that must not come now kills the sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/execute/failure.h"
#include "host/execute/terminal.h"
#include "host/pool/state.h"
#include "host/sandbox/session.h"

#define SEND_TIMEOUT_NS SP_SEC(10)
/* Each process has a socket of its own, so that the processes of a sandbox need no numbers. */
#define NO_ID 0

struct sp_process {
    sp_pool *pool; /* not for sp_process_free(): it may be freed by then */
    int64_t handle;
    pid_t owner;          /* the host's own pid: a forked child has a copy of all this */
    pthread_mutex_t lock; /* guards the rest: several threads may wait for one process */
    int socket;
    struct sp_identity identity;
    sp_process_status status;
    uint64_t oom_kills; /* of the sandbox's cgroup when the process was started */
    sp_error error;
    int code; /* SP_OK, or why it was not started */
};

/* ---- start ---- */

/* A pipe belongs to the user who created it. To open /dev/stdout by name, the tenant has to own it. */
static void give_pipes(const sp_pool *pool, const sp_process_request *r) {
    for (int i = 0; i < 3 && pool->as_root; i++) {
        if ((r->own_pipes & (1u << i)) != 0) {
            (void)!fchown(r->fds[i], SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID);
        }
    }
}

static char *join(const sp_process_request *r, const char *cwd, size_t *len) {
    const size_t cwd_len = strlen(cwd) + 1;
    *len = cwd_len + r->argv_len + r->env_len;
    char *payload = *len <= SP_PAYLOAD_MAX ? malloc(*len) : NULL;
    if (payload != NULL) {
        memcpy(payload, cwd, cwd_len);
        memcpy(payload + cwd_len, r->argv, r->argv_len);
        memcpy(payload + cwd_len + r->argv_len, r->env, r->env_len);
    }
    return payload;
}

static int send_adoption(struct sp_session *session, const sp_process_request *r, int *socket) {
    const struct sp_session_request request = {
        .record = {.type = SP_REC_ADOPT, .u.id.id = r->adopts}, .fds = {r->pidfd}, .n_fds = 1, .for_init = true};
    return sp_session_request(session, &request, sp_now() + SEND_TIMEOUT_NS, socket);
}

static int send_request(struct sp_session *session, const sp_process_request *r, int *socket) {
    static const uint32_t has[3] = {SP_EXEC_HAS_STDIN, SP_EXEC_HAS_STDOUT, SP_EXEC_HAS_STDERR};
    struct sp_session_request request = {.for_init = true};
    size_t len = 0;
    char *payload = join(r, r->cwd != NULL ? r->cwd : session->home, &len);
    if (payload == NULL) {
        return len > SP_PAYLOAD_MAX ? -E2BIG : -ENOMEM;
    }
    request.payload = payload;
    request.payload_len = len;
    request.record =
        (struct sp_record){.type = SP_REC_SPAWN,
                           .u.exec = {.id = NO_ID,
                                      .flags = (r->terminal != 0 ? SP_EXEC_PTY : 0) | (r->runs != 0 ? SP_EXEC_RUN : 0),
                                      .argc = r->argc,
                                      .envc = r->envc,
                                      .payload_len = (uint32_t)len,
                                      .timeout_ns = r->timeout_ns > 0 ? (uint64_t)r->timeout_ns : 0,
                                      .rows = r->rows,
                                      .cols = r->cols}};
    for (int i = 0; i < 3 && r->terminal == 0; i++) {
        if (r->fds[i] != -1) {
            request.record.u.exec.flags |= has[i];
            request.fds[request.n_fds++] = r->fds[i];
        }
    }
    if (r->runs != 0) {
        request.fds[request.n_fds++] = r->channel;
    }
    int rc = sp_session_request(session, &request, sp_now() + SEND_TIMEOUT_NS, socket);
    free(payload);
    return rc;
}

static int code_of(int rc, sp_error *error) {
    switch (rc) {
    case -EPIPE:
    case -ECONNRESET:
    case -ETIMEDOUT:
        return SP_E_LOST;
    case -EBADF:
        return SP_E_DESCRIPTORS;
    case -ENOTSUP:
        return SP_E_UNSUPPORTED;
    case -ENOMEM:
        return SP_E_NOMEM;
    default:
        return sp_error_set(error, SP_E_EXEC, SP_STAGE_SPAWN, -rc, "request");
    }
}

static uint64_t oom_kills_of(struct sp_session *session) {
    struct sp_usage usage = {0};
    bool counted = session->launcher->ops->usage != NULL && session->launcher->ops->usage(session, &usage) == 0;
    return counted ? usage.oom_kills : 0;
}

int sp_process_start(sp_pool *pool, int64_t handle, const sp_process_request *request, sp_process **out,
                     sp_error *error) {
    int code = SP_OK;
    *out = NULL;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    if (request->size != sizeof *request || request->rows > UINT16_MAX || request->cols > UINT16_MAX) {
        return SP_E_INVAL;
    }
    struct sp_process *process = calloc(1, sizeof *process);
    if (process == NULL) {
        return SP_E_NOMEM;
    }
    struct sp_session *session = sp_lease_share(pool, handle, &code);
    if (session != NULL) {
        process->oom_kills = oom_kills_of(session);
        session->has_processes = true;
        give_pipes(pool, request);
        int rc = request->adopts != 0 ? send_adoption(session, request, &process->socket)
                                      : send_request(session, request, &process->socket);
        code = rc == 0 ? SP_OK : code_of(rc, error);
        sp_session_unref(session);
    }
    if (code != SP_OK) {
        free(process);
        return code;
    }
    process->pool = pool;
    process->handle = handle;
    process->owner = getpid();
    process->identity = sp_identity_of(process->socket);
    process->status.terminal = -1;
    process->status.wants_terminal = request->terminal;
    pthread_mutex_init(&process->lock, NULL);
    *out = process;
    return SP_OK;
}

/* ---- what init answers ---- */

/* The pool may use the session for other things at the same time. */
static void with_session(struct sp_process *process, void (*use)(struct sp_process *, struct sp_session *)) {
    int code;
    struct sp_session *session = sp_lease_share(process->pool, process->handle, &code);
    if (session != NULL) {
        use(process, session);
        sp_session_unref(session);
    }
}

static void kill_sandbox(struct sp_process *process, struct sp_session *session) {
    (void)process;
    if (sp_session_is_whole(session)) {
        session->launcher->ops->kill_sandbox(session);
    }
}

/* Where a cgroup limits the memory, the kernel kills, and init only sees a SIGKILL, or is killed with the others. */
static void look_for_oom_kill(struct sp_process *process, struct sp_session *session) {
    process->status.oom_killed = oom_kills_of(session) > process->oom_kills;
}

static void end_process(struct sp_process *process, int code) {
    process->status.state = SP_PROCESS_ENDED;
    process->code = code;
    sp_close_own(&process->socket, &process->identity);
}

static void take_exited(struct sp_process *process, const struct sp_rec_exited *e) {
    const int status = (int)e->status;
    sp_process_status *s = &process->status;
    s->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    s->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    s->timed_out = (e->flags & SP_EXITED_TIMED_OUT) != 0;
    s->oom_killed = (e->flags & SP_EXITED_OOM) != 0;
    s->user_us = (int64_t)e->user_us;
    s->system_us = (int64_t)e->system_us;
    s->max_rss_bytes = (int64_t)e->max_rss_bytes;
    if (s->signal == SIGKILL && !s->timed_out && !s->oom_killed) {
        with_session(process, look_for_oom_kill);
    }
    end_process(process, SP_OK);
}

/* The sandbox is dead, and so is the process. One that has not started yet reports why: the lease may have ended. */
static void take_end(struct sp_process *process) {
    int code = SP_OK;
    struct sp_session *session = sp_lease_share(process->pool, process->handle, &code);
    if (session != NULL) {
        code = SP_E_LOST;
        look_for_oom_kill(process, session);
        sp_session_unref(session);
    } else {
        /* A command that ran beside the process may have taken the session, and with it what the cgroup has counted. */
        process->status.oom_killed = sp_lease_is_out_of_memory(process->pool, process->handle);
    }
    process->status.exit_code = -1;
    process->status.signal = SIGKILL;
    end_process(process, process->status.state < SP_PROCESS_RUNNING ? code : SP_OK);
}

/* Whether this record may come now, with these descriptors, and from this sender. */
static bool is_expected(const struct sp_process *process, const struct sp_packet *packet) {
    const sp_process_status *s = &process->status;
    switch (packet->record.type) {
    case SP_REC_ACK: /* sent by the process itself, before its exec */
        return s->state == SP_PROCESS_SENT && packet->record.u.id.id == NO_ID && packet->sender > 0 &&
               (s->wants_terminal != 0 ? packet->n_fds == 1 && sp_is_terminal_master(packet->fds[0])
                                       : packet->n_fds == 0);
    case SP_REC_STARTED:
        return s->state < SP_PROCESS_RUNNING && packet->n_fds == 0; /* without ACK, if it was killed before */
    case SP_REC_FAILED:
        return s->state < SP_PROCESS_RUNNING && packet->record.u.failed.id == NO_ID && packet->n_fds == 0;
    case SP_REC_EXITED:
        return packet->record.u.exited.id == NO_ID && packet->n_fds == 0;
    default:
        return false;
    }
}

static void take_record(struct sp_process *process, struct sp_packet *packet) {
    const struct sp_record *record = &packet->record;
    switch (record->type) {
    case SP_REC_ACK:
        process->status.state = SP_PROCESS_STARTING;
        process->status.pid = packet->sender;
        process->status.terminal = packet->n_fds != 0 ? sp_fd_steal(&packet->fds[0]) : -1;
        break;
    case SP_REC_STARTED:
        process->status.state = SP_PROCESS_RUNNING;
        break;
    case SP_REC_FAILED:
        end_process(process, sp_error_of_command(&process->error, &record->u.failed));
        break;
    default:
        take_exited(process, &record->u.exited);
        break;
    }
}

/* Nobody knows yet of a process that has not started: it has no use any more. */
static void kill_unstarted(struct sp_process *process) {
    const struct sp_record kill = {.type = SP_REC_SIGNAL, .u.signal.number = SIGKILL};
    if (process->status.state < SP_PROCESS_RUNNING && process->owner == getpid() &&
        sp_is_own(process->socket, &process->identity)) {
        (void)sp_packet_send(process->socket, &(struct sp_outgoing){.record = &kill}, sp_now());
    }
}

/* The ACK has come, but this process has no room for the terminal that it brought. */
static void give_up_terminal(struct sp_process *process) {
    kill_unstarted(process);
    end_process(process, sp_error_set(&process->error, SP_E_EXEC, SP_STAGE_SPAWN, EMFILE, "request"));
}

/* Under the lock. */
static void receive(struct sp_process *process) {
    while (process->status.state != SP_PROCESS_ENDED) {
        struct sp_packet packet;
        if (!sp_is_own(process->socket, &process->identity)) {
            with_session(process, kill_sandbox);
            take_end(process);
            process->code = SP_E_DESCRIPTORS;
            return;
        }
        int rc = sp_packet_recv(process->socket, &packet, NULL, 0);
        if (rc == -EAGAIN) {
            return;
        }
        if (rc == 0 && is_expected(process, &packet)) {
            take_record(process, &packet);
        } else if (rc == -EMFILE && process->status.wants_terminal != 0 && process->status.state == SP_PROCESS_SENT) {
            give_up_terminal(process);
        } else {
            if (rc != -ECONNRESET) {
                with_session(process, kill_sandbox);
            }
            take_end(process);
        }
        sp_packet_close(&packet);
    }
}

/* ---- the caller's side ---- */

int sp_process_poll(sp_process *process, sp_process_status *status, sp_error *error) {
    if (!sp_pool_is_mine(process->pool)) {
        return SP_E_FORKED;
    }
    pthread_mutex_lock(&process->lock);
    receive(process);
    *status = process->status;
    *error = process->error;
    const int code = process->code;
    if (code == SP_OK && status->state >= SP_PROCESS_RUNNING) {
        process->status.terminal = -1; /* the caller's now */
    } else {
        status->terminal = -1; /* perhaps nobody would take it: the program may be missing */
    }
    pthread_mutex_unlock(&process->lock);
    return code;
}

int sp_process_fd(sp_process *process) {
    pthread_mutex_lock(&process->lock);
    const int fd = process->socket;
    pthread_mutex_unlock(&process->lock);
    return fd;
}

int sp_process_signal(sp_process *process, int number) {
    const struct sp_record record = {.type = SP_REC_SIGNAL, .u.signal.number = (uint32_t)number};
    if (!sp_pool_is_mine(process->pool)) {
        return SP_E_FORKED;
    }
    if (number < 1 || number > 64) {
        return SP_E_INVAL;
    }
    pthread_mutex_lock(&process->lock);
    int rc = 0;
    if (process->status.state != SP_PROCESS_ENDED && sp_is_own(process->socket, &process->identity)) {
        rc = sp_packet_send(process->socket, &(struct sp_outgoing){.record = &record}, sp_now());
    }
    pthread_mutex_unlock(&process->lock);
    return rc == -ETIMEDOUT ? SP_AGAIN : SP_OK; /* any other failure means that the sandbox is dead */
}

void sp_process_free(sp_process *process) {
    if (process != NULL) {
        kill_unstarted(process);
        sp_close_own(&process->socket, &process->identity);
        sp_fd_close(&process->status.terminal);
        pthread_mutex_destroy(&process->lock);
        free(process);
    }
}

void sp_process_close(sp_process **process) {
    sp_process_free(*process);
    *process = NULL;
}
