/* sources: csrc/host/sandbox/birth.c csrc/host/sandbox/error.c csrc/common/clock.c csrc/common/fd.c
 * csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/packet.c csrc/common/wire.c */
/* When a birth is requested again, when it waits, and why it fails. The launcher and its sessions are made up. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "host/sandbox/launch.h"
#include "machine.h"

static struct {
    unsigned sessions, alive, begun; /* `sessions`: so many more can be made */
    int begin, step[4], late;        /* what these return, step() the first one that is not 0 */
    unsigned steps;
    sp_error why;
    int64_t not_before;
    bool foreign, process_died, current;
} the;

struct sp_session *sp_session_new(sp_launcher *launcher) {
    struct sp_session *session = the.sessions > 0 ? calloc(1, sizeof *session) : NULL;
    if (session != NULL) {
        the.sessions--;
        the.alive++;
        session->launcher = launcher;
        session->control = session->pidfd = -1;
    }
    return session;
}

void sp_session_end(struct sp_session *session) {
    the.alive--;
    free(session);
}

struct sp_identity sp_identity_of(int fd) { return (struct sp_identity){.ino = fd != -1}; }
bool sp_is_own(int fd, const struct sp_identity *identity) { return fd != -1 && identity->ino != 0 && !the.foreign; }

static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    (void)launcher;
    the.begun++;
    birth->session->control = 0;
    birth->not_before = the.not_before;
    *error = the.why;
    return the.begin;
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    (void)launcher, (void)birth;
    *error = the.why;
    return the.step[the.steps++];
}

static bool process_died(const struct sp_session *session) { return session != NULL && the.process_died; }
static bool is_current(const struct sp_session *session) { return session != NULL && the.current; }

static int timed_out(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    (void)launcher;
    CHECK(error->stage == SP_STAGE_TIMEOUT && error->err == ETIMEDOUT);
    birth->deadline = the.late == SP_AGAIN ? SP_NEVER : birth->deadline;
    return the.late;
}

static const struct sp_launch_ops whole = {
    .begin = begin, .step = step, .process_died = process_died, .is_current = is_current, .birth_timed_out = timed_out};
static const struct sp_launch_ops bare = {.begin = begin, .step = step};
static sp_launcher launcher;
static struct sp_birth birth;
static sp_error error;

static void prepare(const struct sp_launch_ops *ops, int stage, int err) {
    memset(&the, 0, sizeof the);
    memset(&error, 0, sizeof error);
    the.sessions = 2;
    (void)sp_error_set(&the.why, SP_E_CREATE, (uint32_t)stage, err, "made up");
    launcher.ops = ops;
}

static void begun(const struct sp_launch_ops *ops, int stage, int err) {
    prepare(ops, stage, err);
    CHECK(sp_birth_begin(&launcher, &birth, &error) == 0 && the.alive == 1);
}

/* It failed with this, and left no session. */
static bool failed(int rc, int stage, int err) {
    return rc == SP_E_CREATE && error.stage == stage && error.err == err && birth.session == NULL && the.alive == 0;
}

static void one_that_cannot_begin_leaves_nothing(void) {
    prepare(&whole, SP_STAGE_CGROUP, ENOSPC);
    the.begin = SP_E_CREATE;
    CHECK(failed(sp_birth_begin(&launcher, &birth, &error), SP_STAGE_CGROUP, ENOSPC));
    prepare(&whole, 0, 0);
    the.sessions = 0;
    CHECK(failed(sp_birth_begin(&launcher, &birth, &error), SP_STAGE_HOST_SOCKET, ENOMEM) && the.begun == 0);
}

static void one_whose_socket_is_not_ours_any_more_fails(void) {
    begun(&whole, 0, 0);
    the.foreign = true;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_HOST_SOCKET, EBADF) && the.steps == 0);
}

static void a_request_waits_until_it_is_due(void) {
    prepare(&whole, SP_STAGE_CLONE, EAGAIN);
    the.begin = SP_AGAIN;
    the.not_before = SP_NEVER;
    CHECK(sp_birth_begin(&launcher, &birth, &error) == 0 && birth.not_before == SP_NEVER);
    CHECK(sp_birth_step(&birth, &error) == SP_AGAIN && the.begun == 1);
    birth.not_before = 1;
    CHECK(sp_birth_step(&birth, &error) == SP_AGAIN && the.begun == 2 && birth.not_before == SP_NEVER);
    birth.not_before = 1;
    the.begin = SP_E_CREATE;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_CLONE, EAGAIN) && the.begun == 3);
}

static void without_an_answer_it_is_requested_again(void) {
    begun(&whole, SP_STAGE_PROTOCOL, ECONNRESET);
    the.step[0] = the.step[1] = SP_E_CREATE;
    CHECK(sp_birth_step(&birth, &error) == SP_AGAIN && the.begun == 2 && the.alive == 1 && birth.retried);
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_PROTOCOL, ECONNRESET) && the.begun == 2);
    begun(&whole, SP_STAGE_PROTOCOL, ECONNRESET); /* each time if the launcher's process has died */
    the.step[0] = the.step[1] = SP_E_CREATE;
    the.process_died = true;
    the.sessions = 5;
    CHECK(sp_birth_step(&birth, &error) == SP_AGAIN && sp_birth_step(&birth, &error) == SP_AGAIN && the.begun == 3);
    CHECK(sp_birth_step(&birth, &error) == 0 && the.alive == 1);
    sp_birth_abandon(&birth);
    begun(&whole, SP_STAGE_PROTOCOL, EBADMSG); /* this was an answer */
    the.step[0] = SP_E_CREATE;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_PROTOCOL, EBADMSG) && the.begun == 1);
    begun(&bare, SP_STAGE_PROTOCOL, ECONNRESET);
    the.step[0] = SP_E_CREATE;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_PROTOCOL, ECONNRESET) && the.begun == 1);
}

static void a_second_request_may_fail(void) {
    begun(&whole, SP_STAGE_PROTOCOL, ECONNRESET);
    the.step[0] = SP_E_CREATE;
    the.sessions = 0; /* no memory: the first reason is reported */
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_PROTOCOL, ECONNRESET) && the.begun == 1);
    begun(&whole, SP_STAGE_PROTOCOL, ECONNRESET);
    the.step[0] = the.begin = SP_E_CREATE;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_PROTOCOL, ECONNRESET) && the.begun == 2);
}

static void one_that_has_lost_a_path_is_requested_from_a_zygote_that_has_it(void) {
    begun(&whole, SP_STAGE_BIND, ENOENT);
    the.step[0] = the.step[1] = SP_E_CREATE;
    CHECK(sp_birth_step(&birth, &error) == SP_AGAIN && the.begun == 2);
    the.current = true; /* the path is as the zygote has it: it cannot be bound */
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_BIND, ENOENT) && the.begun == 2);
    begun(&bare, SP_STAGE_BIND, ENOENT);
    the.step[0] = SP_E_CREATE;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_BIND, ENOENT) && the.begun == 1);
}

static void the_launcher_may_know_why_it_takes_so_long(void) {
    begun(&bare, 0, 0);
    birth.deadline = 1;
    the.step[0] = SP_AGAIN;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_TIMEOUT, ETIMEDOUT));
    begun(&whole, 0, 0);
    birth.deadline = 1;
    the.step[0] = the.step[1] = SP_AGAIN;
    the.late = SP_AGAIN; /* it may take longer */
    CHECK(sp_birth_step(&birth, &error) == SP_AGAIN && birth.deadline == SP_NEVER);
    birth.deadline = 1;
    the.late = SP_E_CREATE;
    CHECK(failed(sp_birth_step(&birth, &error), SP_STAGE_TIMEOUT, ETIMEDOUT));
}

static void a_wait_ends_with_its_slice(void) {
    begun(&whole, 0, 0);
    int ends[2];
    make_pair(ends);
    birth.session->control = ends[0]; /* nothing comes */
    the.step[0] = the.step[1] = SP_AGAIN;
    CHECK(sp_birth_wait(&birth, 1, &error) == SP_AGAIN && the.steps == 1);
    CHECK(shutdown(ends[1], SHUT_WR) == 0);
    CHECK(sp_birth_wait(&birth, SP_NEVER, &error) == 0 && the.steps == 3 && birth.duration > 0);
    sp_birth_abandon(&birth);
    begun(&bare, 0, 0);
    birth.session->control = ends[1]; /* nothing comes there either, until its own time is over */
    birth.deadline = sp_now() + MS;
    the.step[0] = the.step[1] = the.step[2] = the.step[3] = SP_AGAIN;
    CHECK(failed(sp_birth_wait(&birth, SP_NEVER, &error), SP_STAGE_TIMEOUT, ETIMEDOUT));
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void) {
    check_deadline(30);
    RUN(one_that_cannot_begin_leaves_nothing);
    RUN(one_whose_socket_is_not_ours_any_more_fails);
    RUN(a_request_waits_until_it_is_due);
    RUN(without_an_answer_it_is_requested_again);
    RUN(a_second_request_may_fail);
    RUN(one_that_has_lost_a_path_is_requested_from_a_zygote_that_has_it);
    RUN(the_launcher_may_know_why_it_takes_so_long);
    RUN(a_wait_ends_with_its_slice);
    CHECK(the.alive == 0);
    return check_report();
}
