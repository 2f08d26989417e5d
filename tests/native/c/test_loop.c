/* Calls of an event loop: turns that never wait, and the descriptor that the loop polls meanwhile. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "host/sys/bell.h"
#include "host/sys/watch.h"
#include "stage.h"

static bool is_readable(int fd) { return sp_wait_fd(fd, POLLIN, 0) == 0; }

static int turn(struct stage *s, sp_due *look) { return sp_call_turn(s->f.pool, s->handle, &s->call, look); }

/* Waits as a loop does, and takes turns until the call is over. */
static int turn_to_end(struct stage *s) {
    sp_due look = {0};
    int rc = turn(s, &look);
    while (rc == SP_AGAIN) {
        (void)sp_wait_fd(look.fd, POLLIN, sp_now() + look.after_ns);
        rc = turn(s, &look);
    }
    return rc;
}

static void begin_turns(struct stage *s, uint32_t live, sp_due *look) {
    begin(s, live, true);
    CHECK(turn(s, look) == SP_AGAIN && look->fd >= 0 && !is_readable(look->fd));
    receive_request(s);
}

static void a_call_is_polled_by_one_descriptor(void) {
    struct stage s;
    sp_due look;

    begin_turns(&s, 0, &look);
    say(&s, SP_REC_ACK);
    CHECK(is_readable(look.fd));
    CHECK(turn(&s, &look) == SP_AGAIN && !is_readable(look.fd));
    CHECK(write(s.out, "abc", 3) == 3);
    CHECK(is_readable(look.fd));
    CHECK(turn(&s, &look) == SP_AGAIN && !is_readable(look.fd));
    sp_packet_close(&s.packet); /* both streams end */
    CHECK(is_readable(look.fd));
    CHECK(turn(&s, &look) == SP_AGAIN && !is_readable(look.fd));
    say(&s, SP_REC_EXITED);
    CHECK(is_readable(look.fd));
    CHECK(turn(&s, &look) == SP_OK && s.call.result.exit_code == 7 && s.call.result.out_len == 3);
    CHECK(memcmp(s.call.result.out, "abc", 3) == 0);
    end(&s);
}

/* A forked child keeps copies of the pipes. They must not keep the descriptor readable. */
static void a_forked_child_does_not_keep_it_readable(void) {
    struct stage s;
    sp_due look;
    int pair[2];
    char byte;

    begin_turns(&s, 0, &look);
    say(&s, SP_REC_ACK);
    CHECK(turn(&s, &look) == SP_AGAIN);
    CHECK(sp_pipe(pair) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(pair[1]);
        sp_packet_close(&s.packet);
        _exit(read(pair[0], &byte, 1) == 0 ? 0 : 1);
    }
    sp_packet_close(&s.packet);
    CHECK(REACHED(is_readable(look.fd), 2000));
    CHECK(REACHED(turn(&s, &look) == SP_AGAIN && !is_readable(look.fd), 2000));
    say(&s, SP_REC_EXITED);
    CHECK(turn_to_end(&s) == SP_OK);
    sp_fd_close(&pair[1]);
    sp_fd_close(&pair[0]);
    CHECK(waitpid(child, NULL, 0) == child);
    end(&s);
}

/* Nothing is read while the caller does not take the output, so nothing may be reported either. */
static void an_output_that_is_not_taken_is_not_polled(void) {
    struct stage s;
    sp_due look;
    size_t written = 0;

    begin_turns(&s, SP_LIVE_OUT, &look);
    say(&s, SP_REC_ACK);
    for (int i = 0; i < 20; i++) {
        written += flood(s.out);
        CHECK(turn(&s, &look) == SP_AGAIN);
    }
    CHECK(written < PIPES_MAX && !is_readable(look.fd) && s.call.result.out_len != 0);
    s.call.taken = SP_LIVE_OUT;
    CHECK(turn(&s, &look) == SP_AGAIN && s.call.result.out_len != 0);
    say(&s, SP_REC_EXITED);
    sp_packet_close(&s.packet);
    s.call.taken = SP_LIVE_OUT;
    CHECK(turn_to_end(&s) == SP_OK);
    end(&s);
}

static void input_is_written_when_there_is_room(void) {
    static char input[1024 * 1024];
    static char taken[sizeof input];
    struct stage s;
    sp_due look;
    size_t len = 0;

    memset(input, 'i', sizeof input);
    begin(&s, 0, true);
    s.call.request.has_input = 1;
    s.call.request.input = input;
    s.call.request.input_len = sizeof input;
    CHECK(turn(&s, &look) == SP_AGAIN);
    receive_request(&s);
    say(&s, SP_REC_ACK);
    CHECK(turn(&s, &look) == SP_AGAIN && turn(&s, &look) == SP_AGAIN);
    CHECK(!is_readable(look.fd)); /* the pipe is full */
    while (len < sizeof taken) {
        ssize_t n = read(s.in, taken + len, sizeof taken - len);
        CHECK(n > 0);
        len += n > 0 ? (size_t)n : sizeof taken;
        CHECK(turn(&s, &look) == SP_AGAIN);
    }
    CHECK(memcmp(input, taken, sizeof input) == 0);
    say(&s, SP_REC_EXITED);
    CHECK(turn_to_end(&s) == SP_OK);
    end(&s);
}

/* The lease stays usable if init ends the command. */
static void a_call_is_cancelled_in_turns(void) {
    struct stage s;
    sp_due look;

    begin_turns(&s, SP_LIVE_OUT, &look);
    say(&s, SP_REC_ACK);
    CHECK(turn(&s, &look) == SP_AGAIN);
    CHECK(write(s.out, "x", 1) == 1);
    CHECK(turn(&s, &look) == SP_AGAIN && s.call.result.out_len == 1);
    const int64_t before = sp_now();
    sp_call_cancel(&s.call);
    CHECK(turn(&s, &look) == SP_AGAIN && sp_now() - before < 500 * MS);
    say(&s, SP_REC_EXITED);
    CHECK(turn_to_end(&s) == SP_OK);
    CHECK((s.f.pool->slots[slot_of(s.handle)].word & (SP_SLOT_BUSY | SP_SLOT_LOST)) == 0);
    end(&s);
}

/* init does not answer: the sandbox is killed, and its death is waited for, in turns that do not wait. */
static void a_cancelled_call_without_an_answer_costs_the_lease(void) {
    struct stage s;
    sp_due look;

    begin_turns(&s, 0, &look);
    say(&s, SP_REC_ACK);
    CHECK(turn(&s, &look) == SP_AGAIN);
    sp_call_cancel(&s.call);
    int64_t longest = 0;
    int rc = SP_AGAIN;
    while (rc == SP_AGAIN) {
        const int64_t before = sp_now();
        rc = turn(&s, &look);
        longest = sp_now() - before > longest ? sp_now() - before : longest;
        if (rc == SP_AGAIN) {
            (void)sp_wait_fd(look.fd, POLLIN, sp_now() + look.after_ns);
        }
    }
    CHECK(rc == SP_E_LOST && longest < 500 * MS);
    CHECK((s.f.pool->slots[slot_of(s.handle)].word & SP_SLOT_LOST) != 0);
    end(&s);
}

/* Garbage collection ends a call between two turns. */
static void a_call_is_closed_between_two_turns(void) {
    struct stage s;
    sp_due look;

    begin_turns(&s, 0, &look);
    say(&s, SP_REC_ACK);
    CHECK(turn(&s, &look) == SP_AGAIN);
    say(&s, SP_REC_EXITED);
    sp_call_close(&s.call);
    CHECK((s.f.pool->slots[slot_of(s.handle)].word & (SP_SLOT_BUSY | SP_SLOT_LOST)) == 0);
    end(&s);
}

static void another_sandbox_takes_the_place_of_a_dead_one(void) {
    struct stage s;
    sp_due look;

    begin(&s, 0, false);
    CHECK(turn(&s, &look) == SP_AGAIN);
    receive_request(&s);
    sp_packet_close(&s.packet);
    sp_fd_close(&s.control);
    CHECK(turn_to_end(&s) == SP_OK && s.call.result.exit_code == 0);
    end(&s);
}

/* end() counts the descriptors. */
static void a_replacement_that_fails_or_is_given_up_leaves_no_descriptor(void) {
    for (int given_up = 0; given_up < 2; given_up++) {
        struct stage s;
        sp_due look;

        begin(&s, 0, false);
        CHECK(turn(&s, &look) == SP_AGAIN);
        receive_request(&s);
        sp_packet_close(&s.packet);
        sp_fake_hold(s.f.launcher, 1);
        sp_fake_fail(s.f.launcher, 0, 1000, SP_STAGE_CLONE, EAGAIN); /* some of them are the refill's */
        sp_fd_close(&s.control);
        CHECK(turn(&s, &look) == SP_AGAIN && look.after_ns <= 50 * MS); /* the birth is under way */
        if (given_up != 0) {
            sp_call_cancel(&s.call);
        }
        sp_fake_hold(s.f.launcher, 0);
        CHECK(turn_to_end(&s) == (given_up != 0 ? SP_E_LOST : SP_E_CREATE));
        end(&s);
    }
}

static void a_call_without_a_free_descriptor_leaves_the_lease(void) {
    struct stage s;
    struct rlimit before;
    sp_due look;

    begin(&s, 0, true);
    const int lowest = fcntl(0, F_DUPFD, 0);
    CHECK(lowest != -1 && close(lowest) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max}) == 0);
    CHECK(turn(&s, &look) == SP_E_EXEC && s.call.error.err == EMFILE && s.call.job == NULL);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(turn(&s, &look) == SP_AGAIN);
    receive_request(&s);
    end(&s);
}

static void a_busy_lease_is_looked_at_again(void) {
    struct stage s;
    sp_due look;
    sp_call second = {.request = request_for(10000 * MS)};

    begin_turns(&s, 0, &look);
    say(&s, SP_REC_ACK);
    const int64_t before = sp_now();
    CHECK(sp_call_turn(s.f.pool, s.handle, &second, &look) == SP_AGAIN && second.job == NULL);
    CHECK(look.fd == -1 && look.after_ns > 0 && sp_now() - before < 500 * MS);
    say(&s, SP_REC_EXITED);
    CHECK(turn_to_end(&s) == SP_OK);
    end(&s);
}

static void closing_the_pool_ends_a_call(void) {
    struct stage s;
    sp_due look;

    begin_turns(&s, 0, &look);
    say(&s, SP_REC_ACK);
    CHECK(turn(&s, &look) == SP_AGAIN);
    CHECK(sp_pool_close(s.f.pool, 1000 * MS) == SP_OK);
    sp_packet_close(&s.packet);
    sp_fd_close(&s.control);
    CHECK(REACHED(is_readable(look.fd), 2000));
    CHECK(turn_to_end(&s) == SP_E_CLOSED);
    sp_call_close(&s.call);
    shut_pool(&s.f);
}

/* ---- the watch and the bell ---- */

/* The set's number is now a file of the application: it is neither changed nor closed. */
static void a_set_that_was_replaced_is_left_alone(void) {
    struct sp_watch watch;
    int pair[2];

    CHECK(sp_pipe(pair) == 0 && sp_watch_open(&watch) == 0);
    CHECK(sp_watch_put(&watch, 0, pair[0], false) == 0);
    CHECK(dup2(pair[1], watch.set) == watch.set);
    int set = watch.set;
    CHECK(sp_watch_put(&watch, 1, pair[1], true) != 0);
    sp_watch_close(&watch);
    CHECK(fcntl(set, F_GETFD) != -1);
    sp_fd_close(&set);
    sp_fd_close(&pair[0]);
    sp_fd_close(&pair[1]);
}

static void a_bell_whose_number_is_another_file_is_not_rung(void) {
    struct sp_bell bell;
    int pair[2];

    CHECK(sp_bell_open(&bell) == 0 && !is_readable(bell.fd));
    sp_bell_ring(&bell);
    CHECK(bell.rung && is_readable(bell.fd));
    sp_bell_ring(&bell);
    sp_bell_close(&bell);
    sp_bell_ring(&bell);
    CHECK(sp_bell_open(&bell) == 0 && sp_stream_pair(pair) == 0);
    CHECK(dup2(pair[0], bell.fd) == bell.fd);
    int fd = bell.fd;
    sp_bell_ring(&bell);
    CHECK(!is_readable(fd));
    sp_bell_close(&bell);
    CHECK(fcntl(fd, F_GETFD) != -1);
    sp_fd_close(&fd);
    sp_fd_close(&pair[0]);
    sp_fd_close(&pair[1]);
}

int main(void) {
    check_deadline(120);
    RUN(a_call_is_polled_by_one_descriptor);
    RUN(a_forked_child_does_not_keep_it_readable);
    RUN(an_output_that_is_not_taken_is_not_polled);
    RUN(input_is_written_when_there_is_room);
    RUN(a_call_is_cancelled_in_turns);
    RUN(a_cancelled_call_without_an_answer_costs_the_lease);
    RUN(a_call_is_closed_between_two_turns);
    RUN(another_sandbox_takes_the_place_of_a_dead_one);
    RUN(a_call_without_a_free_descriptor_leaves_the_lease);
    RUN(a_busy_lease_is_looked_at_again);
    RUN(closing_the_pool_ends_a_call);
    RUN(a_set_that_was_replaced_is_left_alone);
    RUN(a_replacement_that_fails_or_is_given_up_leaves_no_descriptor);
    RUN(a_bell_whose_number_is_another_file_is_not_rung);
    return check_report();
}
