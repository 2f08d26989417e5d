/* Live streams of a call. The test is the init of the sandbox and the command in it. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "stage.h"

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

/* Another part of the process has closed the pipe and opened another file under its number. */
static void a_foreign_descriptor_gets_no_input(void) {
    struct stage s;

    begin(&s, SP_LIVE_INPUT, true);
    receive(&s);
    say(&s, SP_REC_ACK);
    const int number = ((struct sp_job *)s.call.job)->input_fd;
    const int foreign = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(dup2(foreign, number) == number);
    CHECK(run(&s) == SP_E_DESCRIPTORS && fcntl(number, F_GETFD) != -1);
    CHECK(close(number) == 0 && close(foreign) == 0);
    end(&s);
}

static int run_to_end(struct stage *s) {
    int rc = SP_AGAIN;
    while (rc == SP_AGAIN) {
        rc = run(s);
    }
    return rc;
}

/* The same with the control socket: nothing has run in an unused sandbox, so that another one serves as well. */
static void a_foreign_descriptor_in_place_of_the_control_socket(void) {
    for (int when = 0; when < 3; when++) { /* before the request of an unused lease, of a used one, and after it */
        struct stage s;

        begin(&s, 0, when != 0);
        const int number = s.f.pool->slots[slot_of(s.handle)].session->control;
        const int foreign = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (when == 2) {
            receive(&s);
        }
        CHECK(dup2(foreign, number) == number);
        CHECK(run_to_end(&s) == (when == 0 ? SP_OK : SP_E_DESCRIPTORS));
        CHECK(when != 0 || s.call.result.exit_code == 0);
        CHECK(close(number) == 0 && close(foreign) == 0);
        end(&s);
    }
}

/* init reads nothing. It has not started the command, but nobody knows that. */
static void a_request_that_is_not_taken_in_time_costs_the_lease(void) {
    const struct sp_record serve = {.type = SP_REC_SERVE};
    struct stage s;

    begin(&s, 0, true);
    const int control = s.f.pool->slots[slot_of(s.handle)].session->control;
    while (sp_packet_send(control, &(struct sp_outgoing){.record = &serve}, 0) == 0) {
    }
    s.call.request.timeout_ns = 20 * MS;
    CHECK(run(&s) == SP_OK && s.call.result.timed_out != 0 && s.call.result.exit_code == -1);
    CHECK(use(s.f.pool, s.handle) == SP_E_LOST);
    end(&s);
}

int main(void) {
    check_deadline(60);
    RUN(an_output_that_is_not_taken_stops_the_command);
    RUN(the_other_stream_is_collected);
    RUN(live_input_comes_piece_by_piece);
    RUN(input_that_nobody_reads_is_no_error);
    RUN(another_sandbox_gets_the_whole_input);
    RUN(a_descriptor_of_the_caller_ends_the_wait);
    RUN(a_foreign_descriptor_gets_no_input);
    RUN(a_foreign_descriptor_in_place_of_the_control_socket);
    RUN(a_request_that_is_not_taken_in_time_costs_the_lease);
    return check_report();
}
