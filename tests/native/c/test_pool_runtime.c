/* Code for a runtime, whose streams come with the ACK of init, which the test plays: what may come, and what becomes of
 * the lease. */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/packet.h"
#include "fake_pool.h"
#include "host/sandbox/session.h"

static struct {
    struct sp_launcher base;
    sp_pool *pool;
    int init; /* init's end of the control socket */
    int64_t handle;
    sp_job *job;
    unsigned fds_before;
    atomic_uint command_kills, kills, living;
} world;

static sp_error error;
static sp_exec_result result;

/* ---- the launcher ---- */

static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *why) {
    int pair[2];
    (void)launcher, (void)why;
    CHECK(sp_control_pair(pair) == 0);
    birth->session->control = pair[0];
    world.init = pair[1];
    atomic_fetch_add(&world.living, 1);
    return 0;
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *why) {
    (void)launcher, (void)why;
    birth->session->pid = 1;
    return 0;
}

static void nothing(struct sp_session *session) { (void)session; }

static void kill_command(struct sp_session *session) {
    (void)session;
    atomic_fetch_add(&world.command_kills, 1);
}

static void kill_sandbox(struct sp_session *session) {
    (void)session;
    atomic_fetch_add(&world.kills, 1);
}

static void release(struct sp_session *session) {
    (void)session;
    atomic_fetch_sub(&world.living, 1);
}

static void shut_down(sp_launcher *launcher, int64_t deadline) { (void)launcher, (void)deadline; }

static void never_freed(sp_launcher *launcher) { CHECK(launcher == NULL); }

static const struct sp_launch_ops ops = {.has_init = true,
                                         .session_size = sizeof(struct sp_session),
                                         .death_grace_ns = 10 * MS,
                                         .begin = begin,
                                         .step = step,
                                         .kill_command = kill_command,
                                         .watch_memory = nothing,
                                         .kill_sandbox = kill_sandbox,
                                         .release = release,
                                         .shutdown = shut_down,
                                         .free = never_freed};

/* ---- a lease with code under way ---- */

static void start_code(bool has_input) {
    static const char argv[] = "run\0code\0{}";
    struct sp_packet packet;
    char payload[SP_PACKET_MAX];
    sp_exec_request request = request_for(-1);
    request.argc = 3;
    request.argv = argv;
    request.argv_len = sizeof argv;
    request.runs = SP_RUNS_RUNTIME;
    request.has_input = has_input;
    request.max_channel_bytes = 100;
    CHECK(sp_job_start(world.pool, world.handle, &request, &world.job, &error) == SP_OK);
    CHECK(sp_packet_recv(world.init, &packet, payload, sizeof payload) == 0 && packet.n_fds == 0);
    CHECK(packet.record.type == SP_REC_EXEC && (packet.record.u.exec.flags & SP_EXEC_RUNTIME) != 0);
}

static void open_world(void) {
    const sp_pool_options options = {.size = sizeof options};
    world.fds_before = count_fds();
    world.base = (struct sp_launcher){.ops = &ops, .refs = 1};
    world.pool = sp_pool_open(&world.base, &options, &error);
    world.command_kills = world.kills = 0;
    CHECK(world.pool != NULL);
    world.handle = acquire(world.pool, -1);
    CHECK(world.handle > 0);
}

static void shut_world(void) {
    CHECK(sp_pool_close(world.pool, 20000 * MS) == SP_OK);
    sp_pool_free(world.pool);
    sp_fd_close(&world.init);
    CHECK(world.living == 0 && world.base.refs == 1 && count_fds() == world.fds_before);
}

static int finish(void) {
    int rc = poll_to_end(world.job);
    CHECK(rc == SP_OK);
    rc = sp_job_finish(world.job, &result, &error);
    return rc;
}

static void drop_code(void) {
    sp_job_free(world.job);
    world.job = NULL;
}

/* ---- what init says ---- */

static void say(struct sp_record record, const int *fds, unsigned n) {
    const struct sp_outgoing out = {.record = &record, .fds = fds, .n_fds = n};
    CHECK(sp_packet_send(world.init, &out, sp_now() + 20000 * MS) == 0);
}

static void say_ack(const int *fds, unsigned n, uint32_t id) {
    say((struct sp_record){.type = SP_REC_ACK, .u.id.id = id}, fds, n);
}

static void say_exited(uint32_t id, uint32_t status) {
    say((struct sp_record){.type = SP_REC_EXITED, .u.exited = {.id = id, .status = status}}, NULL, 0);
}

/* The ends for the host, and those that init keeps. */
struct streams {
    int host[SP_RUNTIME_ENDS], init[SP_RUNTIME_ENDS];
};

static struct streams open_streams(void) {
    struct streams s;
    for (int i = 0; i < SP_RUNTIME_ENDS; i++) {
        int pair[2];
        CHECK((i < 3 ? sp_pipe(pair) : sp_stream_pair(pair)) == 0);
        s.host[i] = pair[i == 0];
        s.init[i] = pair[i != 0];
    }
    return s;
}

static void close_streams(struct streams *s) {
    for (int i = 0; i < SP_RUNTIME_ENDS; i++) {
        sp_fd_close(&s->host[i]);
        sp_fd_close(&s->init[i]);
    }
}

/* ---- tests ---- */

static void its_streams_come_with_the_ack(void) {
    for (int has_input = 0; has_input < 2; has_input++) {
        open_world();
        start_code(has_input != 0);
        struct streams s = open_streams();
        say_ack(s.host, SP_RUNTIME_ENDS, 1);
        CHECK(write(s.init[1], "out", 3) == 3 && write(s.init[2], "err", 3) == 3 && write(s.init[3], "line", 4) == 4);
        close_streams(&s);
        say_exited(1, 7 << 8);
        CHECK(finish() == SP_OK && result.exit_code == 7 && result.out_len == 3 && result.err_len == 3);
        CHECK(result.channel_len == 4 && memcmp(result.channel, "line", 4) == 0);
        drop_code();
        CHECK(world.kills == 0 && sp_lease_pid(world.pool, world.handle) == 1);
        shut_world();
    }
}

static void there_may_be_none_any_more(void) {
    open_world();
    start_code(true);
    say_ack(NULL, 0, 1);
    sp_packet_fail(world.init, 1, &(struct sp_rec_failed){.stage = SP_STAGE_PRELOAD, .err = ECHILD, .detail = "gone"});
    CHECK(finish() == SP_E_EXEC && error.err == ECHILD && error.stage == SP_STAGE_PRELOAD);
    drop_code();
    start_code(true); /* the lease stays usable */
    drop_code();
    shut_world();
}

static void with_a_wrong_end(int wrong, bool is_name) {
    char name[32];
    open_world();
    start_code(true);
    struct streams s = open_streams();
    (void)snprintf(name, sizeof name, "/proc/self/fd/%d", s.host[wrong]);
    int other = is_name ? open(name, O_PATH | O_CLOEXEC) : dup(wrong < 3 ? s.host[3] : s.host[1]);
    CHECK(dup3(other, s.host[wrong], O_CLOEXEC) == s.host[wrong]);
    sp_fd_close(&other);
    say_ack(s.host, SP_RUNTIME_ENDS, 1);
    close_streams(&s);
    CHECK(finish() == SP_E_LOST);
    drop_code();
    CHECK(REACHED(world.living == 0, 20000) && sp_lease_pid(world.pool, world.handle) == SP_E_LOST);
    shut_world();
}

/* Another kind of file could make the host wait; one that is only a name (O_PATH) cannot be told not to. */
static void ends_of_another_kind_end_the_lease(void) {
    for (int wrong = 0; wrong < SP_RUNTIME_ENDS; wrong++) {
        with_a_wrong_end(wrong, false);
        if (wrong < 3) {
            with_a_wrong_end(wrong, true);
        }
    }
}

static void say_ack_to_a_full_host(void) {
    struct rlimit before;
    struct streams s = open_streams();
    say_ack(s.host, SP_RUNTIME_ENDS, 1);
    close_streams(&s);
    const int lowest = fcntl(0, F_DUPFD, 0);
    CHECK(lowest != -1 && close(lowest) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max}) == 0);
    while (sp_job_poll(world.job) == SP_AGAIN && world.command_kills == 0) {
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0 && world.command_kills == 1);
}

static void a_host_without_room_ends_the_code_and_keeps_the_lease(void) {
    open_world();
    start_code(true);
    say_ack_to_a_full_host();
    say_exited(1, SIGKILL);
    CHECK(finish() == SP_E_EXEC && error.err == EMFILE && strcmp(error.detail, "request") == 0);
    drop_code();
    start_code(true);
    CHECK(world.kills == 0);
    drop_code();
    shut_world();
}

static void a_host_without_room_does_not_wait_for_ever(void) {
    open_world();
    start_code(true);
    say_ack_to_a_full_host(); /* init does not answer the kill */
    CHECK(finish() == SP_E_EXEC && error.err == EMFILE && world.kills != 0);
    drop_code();
    CHECK(sp_lease_pid(world.pool, world.handle) == SP_E_LOST);
    shut_world();
}

int main(void) {
    check_deadline(UNDER_TSAN ? 180 : 90);
    RUN(its_streams_come_with_the_ack);
    RUN(there_may_be_none_any_more);
    RUN(ends_of_another_kind_end_the_lease);
    RUN(a_host_without_room_ends_the_code_and_keeps_the_lease);
    RUN(a_host_without_room_does_not_wait_for_ever);
    return check_report();
}
