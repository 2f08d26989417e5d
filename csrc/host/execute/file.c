/*
 * A file call: one operation of init on one file of the sandbox, from the request to its answer. It needs the session
 * only to send the request; then it waits for its own reply socket, whose end of file means that the sandbox is dead.
 *
 * What init answers is hostile once a tenant has run: the host takes a descriptor only after a look at what it is.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/pool/state.h"
#include "host/sandbox/session.h"
#include "host/sys/own.h"
#include "host/sys/thread.h"

/* From the request to the answer. No operation waits for a tenant, so only a machine in trouble takes longer. */
#define TIMEOUT_NS SP_SEC(10)
/* As in job.c: a signal that comes just before the wait does not interrupt it. */
#define IDLE_NS SP_MS(80)

struct sp_file {
    sp_pool *pool;
    int64_t handle;
    uint32_t op, flags;
    int reply;
    struct sp_identity identity;
    int64_t deadline;
    int opened; /* until the caller takes it; -1: none */
    char text[SP_FILE_PATH_MAX];
};

/* ---- the request ---- */

/* Appends a path; one that is not absolute is meant from the directory in which commands start. 0 or -ENAMETOOLONG. */
static int append_path(char *payload, size_t *len, const char *home, const char *path) {
    const size_t path_len = strlen(path) + 1;
    const size_t home_len = path[0] != '/' ? strlen(home) + 1 : 0;
    if (home_len + path_len > SP_FILE_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    if (home_len != 0) {
        memcpy(payload + *len, home, home_len - 1);
        payload[*len + home_len - 1] = '/';
    }
    memcpy(payload + *len + home_len, path, path_len);
    *len += home_len + path_len;
    return 0;
}

/* The text of a link is no path of ours: it is passed on as it is. */
static int append_text(char *payload, size_t *len, const char *text) {
    const size_t text_len = strlen(text) + 1;
    if (text_len > SP_FILE_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(payload + *len, text, text_len);
    *len += text_len;
    return 0;
}

static int send_request(struct sp_session *session, const sp_file_request *r, struct sp_file *file) {
    char payload[SP_FILE_PAYLOAD_MAX];
    size_t len = 0;
    int rc = r->op == SP_FILE_SYMLINK ? append_text(payload, &len, r->path)
                                      : append_path(payload, &len, session->home, r->path);
    rc = rc != 0 || r->second == NULL ? rc : append_path(payload, &len, session->home, r->second);
    if (rc != 0) {
        return rc;
    }
    const struct sp_session_request request = {
        .record = {.type = SP_REC_FILE,
                   .u.file = {.op = r->op, .flags = r->flags, .mode = r->mode, .payload_len = (uint32_t)len}},
        .payload = payload,
        .payload_len = len};
    return sp_session_request(session, &request, file->deadline, &file->reply);
}

static int code_of(int rc) {
    switch (rc) {
    case -EPIPE:
    case -ECONNRESET:
        return SP_E_LOST;
    case -EBADF:
        return SP_E_DESCRIPTORS;
    case -ENOTSUP:
        return SP_E_UNSUPPORTED;
    default:
        return SP_OK;
    }
}

/* Whether what was asked for can be sent: only a fault of the Python layer makes it false. */
static bool is_sound(const sp_file_request *r) {
    bool two = r->op == SP_FILE_RENAME || r->op == SP_FILE_SYMLINK;
    return r->size == sizeof *r && r->op != 0 && r->op < SP_FILE_OP_END && (r->flags & ~SP_FILE_FLAGS) == 0 &&
           r->mode <= 0777 && r->path != NULL && (r->second != NULL) == two;
}

int sp_file_start(sp_pool *pool, int64_t handle, const sp_file_request *request, sp_file **out,
                  sp_file_result *result) {
    int code = SP_OK;
    *out = NULL;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    if (!is_sound(request)) {
        return SP_E_INVAL;
    }
    struct sp_file *file = malloc(sizeof *file);
    struct sp_session *session = file != NULL ? sp_lease_share(pool, handle, &code) : NULL;
    if (session == NULL) {
        free(file);
        return file == NULL ? SP_E_NOMEM : code;
    }
    *file = (struct sp_file){.pool = pool,
                             .handle = handle,
                             .op = request->op,
                             .flags = request->flags,
                             .reply = -1,
                             .opened = -1,
                             .deadline = sp_now() + TIMEOUT_NS};
    int rc = send_request(session, request, file);
    sp_session_unref(session);
    file->identity = sp_identity_of(file->reply);
    *result = (sp_file_result){.err = -rc};
    if (code_of(rc) != SP_OK) {
        free(file);
        return code_of(rc);
    }
    *out = file;
    return SP_OK;
}

/* ---- the answer ---- */

static void kill_sandbox(struct sp_file *file) {
    int code;
    struct sp_session *session = sp_lease_share(file->pool, file->handle, &code);
    if (session != NULL && sp_session_is_whole(session)) {
        session->launcher->ops->kill_sandbox(session);
    }
    sp_session_unref(session);
}

/* The sandbox is dead: because its lease has ended, or by itself. */
static int lost(struct sp_file *file) {
    int code;
    struct sp_session *session = sp_lease_share(file->pool, file->handle, &code);
    code = session != NULL ? SP_E_LOST : code;
    sp_session_unref(session);
    return code;
}

/* What init passes as an open file must be one that the caller has asked for. */
static bool is_wanted(const struct sp_file *file, int fd) {
    struct stat st;
    bool may_be_directory = (file->flags & (SP_FILE_DIRECTORY | SP_FILE_ANY)) != 0;
    bool may_be_file = (file->flags & SP_FILE_DIRECTORY) == 0;
    return sp_fd_check_file(fd, &st) == 0 && (S_ISDIR(st.st_mode) ? may_be_directory : may_be_file);
}

static bool is_expected(const struct sp_file *file, const struct sp_packet *packet) {
    const struct sp_rec_filed *f = &packet->record.u.filed;
    bool opened = file->op == SP_FILE_OPEN && f->err == 0;
    bool has_text = file->op == SP_FILE_READLINK && f->err == 0;
    return packet->record.type == SP_REC_FILED && packet->sender > 0 && packet->n_fds == (opened ? 1u : 0u) &&
           packet->payload_len == f->payload_len && (has_text || f->payload_len == 0) &&
           (!opened || is_wanted(file, packet->fds[0]));
}

static void take(struct sp_file *file, struct sp_packet *packet, sp_file_result *result) {
    const struct sp_rec_filed *f = &packet->record.u.filed;
    file->opened = packet->n_fds != 0 ? sp_fd_steal(&packet->fds[0]) : -1;
    *result = (sp_file_result){.err = (int32_t)f->err,
                               .mode = f->mode,
                               .nlink = f->nlink,
                               .uid = f->uid,
                               .gid = f->gid,
                               .size = f->size,
                               .inode = f->inode,
                               .device = f->device,
                               .accessed_ns = f->accessed_ns,
                               .modified_ns = f->modified_ns,
                               .changed_ns = f->changed_ns,
                               .text = file->text,
                               .text_len = f->payload_len};
}

int sp_file_fd(sp_file *file) { return file->reply; }

int sp_file_take(sp_file *file) { return sp_fd_steal(&file->opened); }

int sp_file_poll(sp_file *file, sp_file_result *result) {
    struct sp_packet packet;
    if (!sp_pool_is_mine(file->pool)) {
        return SP_E_FORKED;
    }
    if (result->err != 0) {
        return SP_OK; /* it could not be sent */
    }
    if (!sp_is_own(file->reply, &file->identity)) {
        return SP_E_DESCRIPTORS;
    }
    int rc = sp_packet_recv(file->reply, &packet, file->text, sizeof file->text);
    if (rc == -EAGAIN) {
        if (sp_now() < file->deadline) {
            return SP_AGAIN;
        }
        rc = -ETIMEDOUT;
    }
    if (rc == -ECONNRESET) {
        return lost(file);
    }
    bool expected = rc == 0 && is_expected(file, &packet);
    if (expected) {
        take(file, &packet, result);
    } else if (rc == -ETIMEDOUT || rc == -EMFILE || rc == -ENOMEM) {
        result->err = -rc; /* a shortage of this process or machine, for which init is not to blame */
    } else {
        kill_sandbox(file);
    }
    if (rc == 0) {
        sp_packet_close(&packet);
    }
    return expected || result->err != 0 ? SP_OK : SP_E_LOST;
}

int sp_file_wait(sp_file *file, sp_file_result *result) {
    const int64_t rest = sp_is_main_thread() ? sp_now() + IDLE_NS : SP_NEVER;
    for (;;) {
        int code = sp_file_poll(file, result);
        if (code != SP_AGAIN) {
            return code;
        }
        int rc = sp_wait_fd(file->reply, POLLIN, rest < file->deadline ? rest : file->deadline);
        if (rc == -EINTR || (rc == -ETIMEDOUT && sp_now() < file->deadline)) {
            return SP_AGAIN;
        }
    }
}

void sp_file_close(sp_file **place) {
    sp_file *file = *place;
    if (file != NULL) {
        sp_close_own(&file->reply, &file->identity);
        sp_fd_close(&file->opened);
        free(file);
    }
    *place = NULL;
}
