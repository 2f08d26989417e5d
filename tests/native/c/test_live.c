/* Live streams of a call. The test is the init of the sandbox and the command in it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "fake_pool.h"
#include "host/execute/job.h"

#define PIPES_MAX ((size_t)2 * 1024 * 1024) /* more than a buffer of the job and a pipe hold */

struct stage {
    struct fake_pool f;
    int64_t handle;
    int control;             /* init's end */
    int in, out, err;        /* the command's ends */
    struct sp_packet packet; /* owns these three */
    sp_call call;
};

static void begin(struct stage *s, uint32_t live, bool used) {
    int pair[2];

    *s = (struct stage){.in = -1, .call = {.readable = -1, .writable = {-1, -1}}};
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

static int run(struct stage *s) { return sp_call_run(s->f.pool, s->handle, &s->call); }

/* The request has come. */
static void receive(struct stage *s) {
    char payload[256];

    CHECK(run(s) == SP_AGAIN);
    CHECK(sp_packet_recv(s->control, &s->packet, payload, sizeof payload) == 0);
    CHECK(s->packet.record.type == SP_REC_EXEC && s->packet.n_fds == 2 + s->call.request.has_input);
    s->in = s->call.request.has_input != 0 ? s->packet.fds[0] : -1;
    s->out = s->packet.fds[s->packet.n_fds - 2];
    s->err = s->packet.fds[s->packet.n_fds - 1];
    CHECK(fcntl(s->out, F_SETFL, O_NONBLOCK) == 0);
}

static void say(const struct stage *s, enum sp_record_type type) {
    struct sp_record record = {.type = type, .u.id.id = s->packet.record.u.exec.id};

    if (type == SP_REC_EXITED) {
        record.u.exited = (struct sp_rec_exited){.id = s->packet.record.u.exec.id, .status = 7 << 8};
    }
    CHECK(sp_packet_send(s->control, &(struct sp_outgoing){.record = &record}, 0) == 0);
}

static void end(struct stage *s) {
    sp_call_close(&s->call);
    sp_packet_close(&s->packet);
    sp_fd_close(&s->control);
    CHECK(sp_release(s->f.pool, s->handle) == SP_OK);
    shut_pool(&s->f);
}

/* Writes until there is no room. */
static size_t flood(int fd) {
    static const char bytes[4096] = {'x'};
    size_t written = 0;
    ssize_t n = 0;

    while (written < PIPES_MAX && (n = write(fd, bytes, sizeof bytes)) > 0) {
        written += (size_t)n;
    }
    return written;
}

/* What is not taken fills a bounded buffer and the pipe; then the command waits. Nothing is lost. */
static void an_output_that_is_not_taken_stops_the_command(void) {
    struct stage s;
    size_t written = 0;
    size_t taken = 0;

    begin(&s, SP_LIVE_OUT, true);
    receive(&s);
    say(&s, SP_REC_ACK);
    for (int i = 0; i < 50; i++) {
        written += flood(s.out);
        CHECK(run(&s) == SP_AGAIN);
        CHECK(s.call.result.out_len <= PIPES_MAX);
    }
    CHECK(written > 0 && written < PIPES_MAX);
    for (int i = 0; i < 50; i++) {
        taken += s.call.result.out_len;
        s.call.taken = SP_LIVE_OUT;
        written += flood(s.out);
        CHECK(run(&s) == SP_AGAIN && s.call.taken == 0);
    }
    CHECK(written > PIPES_MAX && taken > PIPES_MAX && written - taken < PIPES_MAX);
    taken += s.call.result.out_len;
    s.call.taken = SP_LIVE_OUT;
    say(&s, SP_REC_EXITED);
    sp_packet_close(&s.packet);
    CHECK(run(&s) == SP_OK && s.call.result.exit_code == 7 && !s.call.result.stdout_truncated);
    CHECK(taken + s.call.result.out_len == written);
    end(&s);
}

/* A stream that is not live is kept and cut as ever. */
static void the_other_stream_is_collected(void) {
    struct stage s;

    begin(&s, SP_LIVE_OUT, true);
    s.call.request.max_output_bytes = 3;
    receive(&s);
    say(&s, SP_REC_ACK);
    CHECK(write(s.out, "out", 3) == 3 && write(s.err, "error", 5) == 5);
    CHECK(run(&s) == SP_AGAIN);
    CHECK(s.call.result.out_len == 3 && memcmp(s.call.result.out, "out", 3) == 0 && s.call.result.err_len == 0);
    s.call.taken = SP_LIVE_OUT;
    say(&s, SP_REC_EXITED);
    sp_packet_close(&s.packet);
    CHECK(run(&s) == SP_OK && s.call.result.out_len == 0);
    CHECK(s.call.result.err_len == 3 && memcmp(s.call.result.err, "err", 3) == 0 && s.call.result.stderr_truncated);
    end(&s);
}

static void bring(struct stage *s, const char *piece) {
    s->call.request.input = piece;
    s->call.request.input_len = strlen(piece);
}

static void live_input_comes_piece_by_piece(void) {
    struct stage s;
    char got[8] = {0};

    begin(&s, SP_LIVE_INPUT, true);
    bring(&s, "one");
    receive(&s);
    CHECK(s.call.request.input_len == 3); /* not before ACK */
    say(&s, SP_REC_ACK);
    CHECK(run(&s) == SP_AGAIN && s.call.request.input_len == 0);
    CHECK(read(s.in, got, sizeof got) == 3 && memcmp(got, "one", 3) == 0);
    const int64_t before = sp_now();
    CHECK(run(&s) == SP_AGAIN && sp_now() - before > 10 * MS); /* nothing to do is no reason to return at once */
    bring(&s, "two");
    CHECK(run(&s) == SP_AGAIN && s.call.request.input_len == 0);
    s.call.input_ended = 1;
    CHECK(run(&s) == SP_AGAIN);
    CHECK(read(s.in, got, sizeof got) == 3 && memcmp(got, "two", 3) == 0);
    CHECK(read(s.in, got, sizeof got) == 0);
    say(&s, SP_REC_EXITED);
    CHECK(run(&s) == SP_OK && s.call.result.exit_code == 7);
    end(&s);
}

/* The command closes its input: the rest of the piece stays, so that the caller brings no other. */
static void input_that_nobody_reads_is_no_error(void) {
    struct stage s;

    begin(&s, SP_LIVE_INPUT, true);
    bring(&s, "unread");
    receive(&s);
    sp_packet_close(&s.packet);
    say(&s, SP_REC_ACK);
    CHECK(run(&s) == SP_AGAIN && s.call.request.input_len == 6);
    CHECK(run(&s) == SP_AGAIN && s.call.request.input_len == 6);
    say(&s, SP_REC_EXITED);
    CHECK(run(&s) == SP_OK);
    end(&s);
}

/* The sandbox of an unused lease dies with the request: the one that takes its place can still get all of the input. */
static void another_sandbox_gets_the_whole_input(void) {
    struct stage s;

    begin(&s, SP_LIVE_INPUT | SP_LIVE_OUT, false);
    bring(&s, "whole");
    receive(&s);
    sp_packet_close(&s.packet);
    sp_fd_close(&s.control);
    int rc = SP_AGAIN;
    while (rc == SP_AGAIN) {
        CHECK(s.call.request.input_len == 5 || s.call.request.input_len == 0);
        rc = run(&s);
    }
    CHECK(rc == SP_OK && s.call.result.exit_code == 0);
    end(&s);
}

static void a_descriptor_of_the_caller_ends_the_wait(void) {
    struct stage s;
    int pair[2];

    begin(&s, SP_LIVE_OUT, true);
    receive(&s);
    say(&s, SP_REC_ACK);
    CHECK(run(&s) == SP_AGAIN); /* takes the ACK */
    CHECK(sp_pipe(pair) == 0);
    s.call.writable[1] = pair[1];
    int64_t before = sp_now();
    CHECK(run(&s) == SP_AGAIN && sp_now() - before < 50 * MS);
    s.call.writable[1] = -1;
    s.call.readable = pair[0];
    CHECK(write(pair[1], "x", 1) == 1);
    before = sp_now();
    CHECK(run(&s) == SP_AGAIN && sp_now() - before < 50 * MS);
    sp_fd_close(&pair[0]); /* a number that is no descriptor: the caller finds out */
    before = sp_now();
    CHECK(run(&s) == SP_AGAIN && sp_now() - before < 50 * MS);
    sp_fd_close(&pair[1]);
    end(&s); /* gives the call up */
}

int main(void) {
    check_deadline(60);
    RUN(an_output_that_is_not_taken_stops_the_command);
    RUN(the_other_stream_is_collected);
    RUN(live_input_comes_piece_by_piece);
    RUN(input_that_nobody_reads_is_no_error);
    RUN(another_sandbox_gets_the_whole_input);
    RUN(a_descriptor_of_the_caller_ends_the_wait);
    return check_report();
}
