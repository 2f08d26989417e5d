/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/host/sandbox/session.c csrc/host/sandbox/control.c csrc/host/sandbox/isolation.c
 * csrc/host/sandbox/launch.c csrc/host/sandbox/birth.c csrc/host/sandbox/error.c csrc/host/sandbox/dying.c
 * csrc/host/sys/own.c csrc/host/execute/failure.c csrc/host/execute/terminal_linux.c */
/* A process and what init says of it: what cannot be sent, each answer, and what becomes of the lease. */
#include "leased.h"

#include "host/execute/process.c" /* NOLINT(bugprone-suspicious-include): with a lease of its own */

#include <sys/socket.h>

static sp_error error;
static sp_process_status status;

static sp_process_request process_request(void) {
    return (sp_process_request){
        .size = sizeof(sp_process_request), .argc = 1, .argv = "x", .argv_len = 2, .env = "", .fds = {-1, -1, -1}};
}

static sp_process *start(const sp_process_request *request, int expected) {
    sp_process *process = NULL;
    error = (sp_error){0};
    CHECK(sp_process_start(leased.pool, 1, request, &process, &error) == expected);
    CHECK((process != NULL) == (expected == SP_OK));
    return process;
}

/* The packet with the request, which the caller closes; SERVE comes before it. */
static struct sp_packet receive_request(enum sp_record_type type) {
    char payload[SP_PACKET_MAX];
    struct sp_packet packet;
    CHECK(sp_packet_recv(leased.init, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_SERVE);
    CHECK(sp_packet_recv(leased.init, &packet, payload, sizeof payload) == 0 && packet.record.type == type);
    return packet;
}

/* A process that was sent, and init's end of its socket. */
static sp_process *start_one(uint32_t terminal, int *init) {
    sp_process_request request = process_request();
    request.terminal = terminal;
    sp_process *process = start(&request, SP_OK);
    struct sp_packet packet = receive_request(SP_REC_SPAWN);
    CHECK(packet.n_fds == 1 && (packet.record.u.exec.flags == (terminal != 0 ? SP_EXEC_PTY : 0)));
    *init = sp_fd_steal(&packet.fds[0]);
    return process;
}

static int poll_once(sp_process *process) { return sp_process_poll(process, &status, &error); }

/* ---- requests ---- */

static void an_unsound_request_is_refused(void) {
    sp_process_request bad[3] = {process_request(), process_request(), process_request()};
    bad[0].size--;
    bad[1].rows = UINT16_MAX + 1;
    bad[2].cols = UINT16_MAX + 1;
    begin_lease();
    for (size_t i = 0; i < 3; i++) {
        CHECK(start(&bad[i], SP_E_INVAL) == NULL);
    }
    end_lease();
}

static void what_cannot_be_sent_leaves_the_lease(void) {
    sp_process_request request = process_request();
    begin_lease();
    is_mine = 0;
    CHECK(start(&request, SP_E_FORKED) == NULL);
    is_mine = 1;
    request.argv_len = SP_PAYLOAD_MAX;
    CHECK(start(&request, SP_E_EXEC) == NULL && error.err == E2BIG && error.stage == SP_STAGE_SPAWN);
    request = process_request();
    const struct rlimit before = take_free_descriptors();
    CHECK(start(&request, SP_E_EXEC) == NULL && error.err == EMFILE && strcmp(error.detail, "request") == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0 && leased.kills == 0);
    end_lease();
}

static void nothing_is_asked_of_what_is_gone(void) {
    const sp_process_request request = process_request();
    begin_lease();
    sp_fd_close(&leased.init);
    CHECK(start(&request, SP_E_LOST) == NULL);
    replace_descriptor(leased.session->control);
    CHECK(start(&request, SP_E_DESCRIPTORS) == NULL);
    CHECK(close(leased.session->control) == 0);
    release_lease();
    CHECK(start(&request, SP_E_RELEASED) == NULL);
    end_lease();
}

/* init has been told to read: what comes next has to be the request. */
static void a_request_that_is_sent_in_part_ends_the_sandbox(void) {
    sp_process_request request = process_request();
    begin_lease();
    request.fds[0] = fcntl(0, F_DUPFD, 500);
    CHECK(request.fds[0] != -1 && close(request.fds[0]) == 0);
    CHECK(start(&request, SP_E_DESCRIPTORS) == NULL && leased.kills == 1);
    end_lease();
}

static void streams_and_their_owner_are_passed_on(void) {
    sp_process_request request = process_request();
    int ends[2];
    CHECK(sp_pipe(ends) == 0);
    request.fds[0] = ends[0];
    request.fds[2] = ends[1];
    request.own_pipes = 5;
    request.runs = 1;
    request.channel = ends[1];
    begin_lease();
    leased.pool->as_root = true; /* a chown that fails is no failure */
    sp_process *process = start(&request, SP_OK);
    struct sp_packet packet = receive_request(SP_REC_SPAWN);
    CHECK(packet.n_fds == 4);
    CHECK(packet.record.u.exec.flags == (SP_EXEC_HAS_STDIN | SP_EXEC_HAS_STDERR | SP_EXEC_RUN));
    sp_packet_close(&packet);
    CHECK(poll_once(process) == SP_E_LOST); /* it had not started */
    sp_process_free(process);
    end_lease();
    sp_fd_close(&ends[0]);
    sp_fd_close(&ends[1]);
}

static void a_process_is_adopted(void) {
    sp_process_request request = process_request();
    request.adopts = 7;
    request.pidfd = 0;
    begin_lease();
    sp_process *process = start(&request, SP_OK);
    struct sp_packet packet = receive_request(SP_REC_ADOPT);
    CHECK(packet.n_fds == 2 && packet.record.u.id.id == 7);
    sp_packet_close(&packet);
    sp_process_close(&process);
    CHECK(process == NULL);
    end_lease();
}

/* ---- answers ---- */

static void say(int init, struct sp_record record, int fd) { send_answer(init, &record, NULL, 0, fd); }

static const struct sp_record ack = {.type = SP_REC_ACK};
static const struct sp_record started = {.type = SP_REC_STARTED};
static const struct sp_record killed = {.type = SP_REC_EXITED, .u.exited = {.status = SIGKILL}};

static void a_process_that_cannot_start_says_why(void) {
    static const struct {
        uint32_t stage, err;
        int code;
    } reasons[] = {{SP_STAGE_EXEC, ENOENT, SP_E_NOT_FOUND},  {SP_STAGE_EXEC, ENOTDIR, SP_E_NOT_FOUND},
                   {SP_STAGE_EXEC, E2BIG, SP_E_EXEC},        {SP_STAGE_CWD, ENOENT, SP_E_EXEC},
                   {SP_STAGE_EXEC, ENOEXEC, SP_E_NOT_FOUND}, {SP_STAGE_EXEC, ELOOP, SP_E_NOT_FOUND}};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        int init = -1;
        begin_lease();
        sp_process *process = start_one(0, &init);
        say(init, ack, -1);
        sp_packet_fail(init, 0, &(struct sp_rec_failed){.stage = reasons[i].stage, .err = reasons[i].err});
        CHECK(poll_once(process) == reasons[i].code && (uint32_t)error.err == reasons[i].err);
        CHECK(status.state == SP_PROCESS_ENDED && leased.kills == 0);
        sp_process_free(process);
        sp_fd_close(&init);
        end_lease();
    }
}

static void what_must_not_come_ends_the_sandbox(void) {
    const struct {
        struct sp_record first, second;
        int fd; /* with the second */
        int code;
    } bad[] = {
        {ack, ack, -1, SP_E_LOST},
        {ack, started, 0, SP_E_LOST},
        {ack, {.type = SP_REC_FAILED, .u.failed = {.id = 1, .stage = SP_STAGE_EXEC, .err = 1}}, -1, SP_E_LOST},
        {ack, {.type = SP_REC_FAILED, .u.failed = {.stage = SP_STAGE_EXEC, .err = 1}}, 0, SP_E_LOST},
        {ack, {.type = SP_REC_EXITED, .u.exited = {.id = 1}}, -1, SP_E_LOST},
        {ack, {.type = SP_REC_EXITED}, 0, SP_E_LOST},
        {ack, {.type = SP_REC_FILED}, -1, SP_E_LOST},
        {started, ack, -1, SP_OK},
        {started, started, -1, SP_OK},
        {started, {.type = SP_REC_FAILED, .u.failed = {.stage = SP_STAGE_EXEC, .err = 1}}, -1, SP_OK},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int init = -1;
        begin_lease();
        sp_process *process = start_one(0, &init);
        say(init, bad[i].first, -1);
        CHECK(poll_once(process) == SP_OK && leased.kills == 0);
        say(init, bad[i].second, bad[i].fd);
        CHECK(poll_once(process) == bad[i].code && status.state == SP_PROCESS_ENDED && status.signal == SIGKILL);
        CHECK(leased.kills == 1 && sp_process_fd(process) == -1);
        sp_process_free(process);
        sp_fd_close(&init);
        end_lease();
    }
}

static void a_kill_by_the_cgroup_is_reported(void) {
    for (unsigned kills = 0; kills < 2; kills++) {
        int init = -1;
        begin_lease();
        sp_process *process = start_one(0, &init);
        leased.oom_kills += kills;
        say(init, started, -1);
        say(init, killed, -1);
        CHECK(poll_once(process) == SP_OK && status.oom_killed == kills && status.signal == SIGKILL);
        sp_process_free(process);
        sp_fd_close(&init);
        end_lease();
    }
}

static void a_process_may_end_with_its_lease(void) {
    int init = -1;
    begin_lease();
    sp_process *process = start_one(0, &init);
    release_lease();
    sp_fd_close(&init);
    CHECK(poll_once(process) == SP_E_RELEASED);
    sp_process_free(process);
    end_lease();
}

/* ---- terminals ---- */

static void a_terminal_belongs_to_the_caller_once_the_process_runs(void) {
    int init = -1;
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(master != -1);
    begin_lease();
    sp_process *process = start_one(1, &init);
    say(init, ack, master);
    CHECK(poll_once(process) == SP_OK && status.terminal == -1);
    say(init, started, -1);
    CHECK(poll_once(process) == SP_OK && status.terminal != -1 && close(status.terminal) == 0);
    CHECK(poll_once(process) == SP_OK && status.terminal == -1);
    sp_process_free(process);
    sp_fd_close(&init);
    process = start_one(1, &init);
    say(init, ack, master);
    CHECK(poll_once(process) == SP_OK);
    sp_process_free(process); /* closes the terminal that nobody has taken */
    sp_fd_close(&init);
    end_lease();
    sp_fd_close(&master);
}

static void what_is_no_terminal_ends_the_sandbox(void) {
    int read_only = open("/dev/ptmx", O_RDONLY | O_NOCTTY | O_CLOEXEC);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int wrong[] = {-1, read_only, file};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int init = -1;
        begin_lease();
        sp_process *process = start_one(1, &init);
        say(init, ack, wrong[i]);
        CHECK(poll_once(process) == SP_E_LOST && leased.kills == 1);
        sp_process_free(process);
        sp_fd_close(&init);
        end_lease();
    }
    sp_fd_close(&read_only);
    sp_fd_close(&file);
}

/* init is not to blame: the process is killed, and the lease stays. */
static void a_terminal_that_finds_no_room_costs_no_lease(void) {
    struct sp_packet packet;
    int init = -1;
    begin_lease();
    sp_process *process = start_one(1, &init);
    say(init, ack, 0);
    const struct rlimit before = take_free_descriptors();
    CHECK(poll_once(process) == SP_E_EXEC && error.err == EMFILE && strcmp(error.detail, "request") == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(leased.kills == 0 && sp_process_fd(process) == -1 && status.state == SP_PROCESS_ENDED);
    CHECK(sp_packet_recv(init, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_SIGNAL &&
          packet.record.u.signal.number == SIGKILL);
    CHECK(poll_once(process) == SP_E_EXEC);
    sp_process_free(process);
    sp_fd_close(&init);
    end_lease();
}

/* One that must not come ends the sandbox, whether there is room for it or not. */
static void a_wrong_descriptor_that_finds_no_room_ends_the_sandbox(void) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    for (uint32_t terminal = 0; terminal < 2; terminal++) {
        int init = -1;
        begin_lease();
        sp_process *process = start_one(terminal, &init);
        if (terminal != 0) {
            say(init, ack, master);
            CHECK(poll_once(process) == SP_OK && status.state == SP_PROCESS_STARTING);
        }
        say(init, terminal != 0 ? started : ack, 0);
        const struct rlimit before = take_free_descriptors();
        CHECK(poll_once(process) == SP_E_LOST && status.signal == SIGKILL);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0 && leased.kills == 1);
        sp_process_free(process);
        sp_fd_close(&init);
        end_lease();
    }
    sp_fd_close(&master);
}

/* ---- other parts of the host ---- */

static void a_socket_that_another_file_has_replaced_is_not_used(void) {
    int init = -1;
    begin_lease();
    sp_process *process = start_one(0, &init);
    const int number = sp_process_fd(process);
    replace_descriptor(number);
    CHECK(sp_process_signal(process, SIGTERM) == SP_OK);
    CHECK(poll_once(process) == SP_E_DESCRIPTORS && leased.kills == 1 && status.state == SP_PROCESS_ENDED);
    sp_process_free(process);
    CHECK(close(number) == 0); /* which is not ours to close */
    sp_fd_close(&init);
    end_lease();
}

static void the_sandbox_is_not_killed_through_a_foreign_number(void) {
    int init = -1;
    begin_lease();
    sp_process *process = start_one(0, &init);
    replace_descriptor(leased.session->control);
    say(init, started, 0);
    CHECK(poll_once(process) == SP_E_LOST && leased.kills == 0);
    sp_process_free(process);
    sp_fd_close(&init);
    CHECK(close(leased.session->control) == 0);
    end_lease();
}

static void a_signal_waits_for_nobody(void) {
    int init = -1;
    int rc = SP_OK;
    begin_lease();
    sp_process *process = start_one(0, &init);
    CHECK(sp_process_signal(process, 0) == SP_E_INVAL && sp_process_signal(process, 65) == SP_E_INVAL);
    for (unsigned i = 0; i < 100000 && rc == SP_OK; i++) {
        rc = sp_process_signal(process, SIGTERM);
    }
    CHECK(rc == SP_AGAIN); /* init does not read */
    is_mine = 0;
    CHECK(sp_process_signal(process, SIGTERM) == SP_E_FORKED && poll_once(process) == SP_E_FORKED);
    is_mine = 1;
    sp_fd_close(&init);
    CHECK(sp_process_signal(process, SIGTERM) == SP_OK); /* the sandbox is dead */
    sp_process_free(process);
    end_lease();
}

int main(void) {
    check_deadline(60);
    RUN(an_unsound_request_is_refused);
    RUN(what_cannot_be_sent_leaves_the_lease);
    RUN(nothing_is_asked_of_what_is_gone);
    RUN(a_request_that_is_sent_in_part_ends_the_sandbox);
    RUN(streams_and_their_owner_are_passed_on);
    RUN(a_process_is_adopted);
    RUN(a_process_that_cannot_start_says_why);
    RUN(what_must_not_come_ends_the_sandbox);
    RUN(a_kill_by_the_cgroup_is_reported);
    RUN(a_process_may_end_with_its_lease);
    RUN(a_terminal_belongs_to_the_caller_once_the_process_runs);
    RUN(what_is_no_terminal_ends_the_sandbox);
    RUN(a_terminal_that_finds_no_room_costs_no_lease);
    RUN(a_wrong_descriptor_that_finds_no_room_ends_the_sandbox);
    RUN(a_socket_that_another_file_has_replaced_is_not_used);
    RUN(the_sandbox_is_not_killed_through_a_foreign_number);
    RUN(a_signal_waits_for_nobody);
    return check_report();
}
