/* One call on a lease of a fake pool. The test is the init of the sandbox and the command in it. */
#ifndef SANDPOOL_TESTS_STAGE_H
#define SANDPOOL_TESTS_STAGE_H

#include <fcntl.h>

#include "check.h"
#include "common/fd.h"
#include "common/packet.h"
#include "fake_pool.h"
#include "host/execute/job.h"

#define PIPES_MAX ((size_t)3 * 1024 * 1024) /* more than a buffer of the job and a pipe hold */

struct stage {
    struct fake_pool f;
    int64_t handle;
    int control;             /* init's end */
    int in, out, err;        /* the command's ends */
    struct sp_packet packet; /* owns these three */
    sp_call call;
};

static inline void begin(struct stage *s, uint32_t live, bool used) {
    int pair[2];

    *s = (struct stage){.in = -1, .packet.fds = {-1, -1, -1, -1, -1}, .call = {.readable = -1, .writable = {-1, -1}}};
    open_pool(&s->f, 1, 1, 0);
    s->handle = acquire(s->f.pool, -1);
    CHECK(!used || use(s->f.pool, s->handle) == 0); /* no other sandbox may take the place of a used one */
    make_pair(pair);
    struct sp_session *session = s->f.pool->slots[slot_of(s->handle)].session;
    CHECK(dup2(pair[0], session->control) != -1);
    session->control_identity = sp_identity_of(session->control);
    sp_fd_close(&pair[0]);
    s->control = pair[1];
    s->call.request = request_for(10000 * MS);
    s->call.request.live = live;
    s->call.request.has_input = (live & SP_LIVE_INPUT) != 0;
}

static inline int run(struct stage *s) { return sp_call_run(s->f.pool, s->handle, &s->call); }

/* Takes the request that was sent, as init does. */
static inline void receive_request(struct stage *s) {
    char payload[256];

    CHECK(sp_packet_recv(s->control, &s->packet, payload, sizeof payload) == 0);
    CHECK(s->packet.record.type == SP_REC_EXEC && s->packet.n_fds == 2 + s->call.request.has_input);
    s->in = s->call.request.has_input != 0 ? s->packet.fds[0] : -1;
    s->out = s->packet.fds[s->packet.n_fds - 2];
    s->err = s->packet.fds[s->packet.n_fds - 1];
    CHECK(fcntl(s->out, F_SETFL, O_NONBLOCK) == 0);
}

static inline void receive(struct stage *s) {
    CHECK(run(s) == SP_AGAIN);
    receive_request(s);
}

static inline void say(const struct stage *s, enum sp_record_type type) {
    struct sp_record record = {.type = type, .u.id.id = s->packet.record.u.exec.id};

    if (type == SP_REC_EXITED) {
        record.u.exited = (struct sp_rec_exited){.id = s->packet.record.u.exec.id, .status = 7 << 8};
    }
    CHECK(sp_packet_send(s->control, &(struct sp_outgoing){.record = &record}, 0) == 0);
}

static inline void end(struct stage *s) {
    sp_call_close(&s->call);
    sp_packet_close(&s->packet);
    sp_fd_close(&s->control);
    CHECK(sp_release(s->f.pool, s->handle) == SP_OK);
    shut_pool(&s->f);
}

/* Writes until there is no room. */
static inline size_t flood(int fd) {
    static const char bytes[4096] = {'x'};
    size_t written = 0;
    ssize_t n = 0;

    while (written < PIPES_MAX && (n = write(fd, bytes, sizeof bytes)) > 0) {
        written += (size_t)n;
    }
    return written;
}

#endif
