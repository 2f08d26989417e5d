/* sources: csrc/init/children.c csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c
 * csrc/common/fd_linux.c csrc/common/vfork_linux.c */
/* The start of a process, the signals that it gets, and its end, with the functions that init calls replaced. */
#include "init/children.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/stage.h"
#include "init/exec.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"
#include "init/proc.h"
#include "init/stem.h"
#include "nth.h"

static int of_tier;
static bool grouped;
static pid_t signalled;
static int last_signal;

void sp_limit_processes(const struct sp_plan *plan, unsigned others) { (void)plan, (void)others; }
int sp_tier_child(const struct sp_plan *plan) { return plan != NULL ? of_tier : 0; }
bool sp_tier_is_grouped(const struct sp_plan *plan) { return plan == NULL || grouped; }
void sp_tier_started(const struct sp_plan *plan, pid_t pid) { (void)plan, (void)pid; }
void sp_leftovers_mark(void) {}

int sp_signal(pid_t pid, int signal) {
    signalled = pid;
    last_signal = signal;
    return 0;
}

int sp_command_enter(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    (void)plan, (void)command;
    return sp_failed(why, SP_STAGE_CWD, ENOENT, "/nowhere");
}

/* What is started fails as late as it can, and says so. */
void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    (void)plan;
    (void)sp_failed(why, SP_STAGE_EXEC, ENOENT, command->has_terminal ? "terminal" : "program");
}

static const char *status_text; /* NULL: there is no such process */

bool sp_read_text(int dir, const char *name, char *text, size_t size) {
    (void)dir, (void)name;
    (void)snprintf(text, size, "%s", status_text != NULL ? status_text : "");
    return status_text != NULL;
}

bool sp_find_number(const char *text, const char *name, uint64_t *value) {
    const char *found = strstr(text, name);
    *value = found != NULL ? strtoul(found + strlen(name), NULL, 10) : 0;
    return found != NULL;
}

/* ---- the start ---- */

static struct sp_plan plan;
static struct sp_child child;
static struct sp_request request;
static struct sp_command command;
static int host = -1; /* its end of the process socket */

static void prepare(void) {
    int pair[2];
    make_pair(pair);
    host = pair[0];
    child = (struct sp_child){.socket = pair[1], .start = -1, .id = 7};
    request = (struct sp_request){.exec = {.flags = SP_EXEC_PTY}};
    command = (struct sp_command){.channel = -1, .fds = {-1, -1, -1}};
}

/* 0: the process has come to its exec, with a terminal if it wants one. */
static int start(void) {
    int rc = sp_child_start(&child, &plan, &request, &command);
    if (rc != 0) {
        CHECK(child.pid == 0 && child.start == -1 && child.why.stage == SP_STAGE_SPAWN && rc == -(int)child.why.err);
        return rc;
    }
    sp_child_read_start(&child);
    sp_child_read_start(&child); /* it is over */
    CHECK(waitpid(child.pid, NULL, 0) == child.pid);
    CHECK(child.start == -1 && (child.why.stage == SP_STAGE_EXEC || child.why.stage == SP_STAGE_SPAWN));
    return child.why.stage == SP_STAGE_EXEC ? 0 : -(int)child.why.err;
}

static void with_a_terminal(void) {
    struct sp_packet packet;
    prepare();
    CHECK(start() == 0 && strcmp(child.why.detail, "terminal") == 0);
    CHECK(sp_packet_recv(host, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_ACK && packet.n_fds == 1);
    CHECK(isatty(packet.fds[0]) == 1);
}

static void as_a_command(void) {
    prepare();
    child.is_command = true;
    CHECK(start() == 0 && strcmp(child.why.detail, "program") == 0);
}

static void outside_its_domain(void) {
    prepare();
    of_tier = -E2BIG;
    CHECK(sp_child_start(&child, &plan, &request, &command) == 0);
    sp_child_read_start(&child);
    CHECK(child.why.stage == SP_STAGE_LANDLOCK && child.why.err == E2BIG);
}

/* It could have no session of its own, so it has no terminal either. */
static void in_the_group_of_its_lease(void) {
    prepare();
    grouped = true;
    CHECK(sp_child_start(&child, &plan, &request, &command) == 0);
    sp_child_read_start(&child);
    CHECK(child.why.stage == SP_STAGE_TIER && child.why.err == ENOTSUP && strcmp(child.why.detail, "terminal") == 0);
}

/* Nobody would know its pid. */
static void without_a_host(void) {
    prepare();
    sp_fd_close(&host);
    CHECK(start() == -EPIPE && strcmp(child.why.detail, "acknowledgement") == 0);
}

static int refuse_to_prepare(int diagnostics, bool must, struct sp_rec_failed *why) {
    (void)diagnostics, (void)must;
    return sp_failed(why, SP_STAGE_PRELOAD, EBUSY, "prepare");
}
static int agree(int diagnostics, bool must, struct sp_rec_failed *why) {
    (void)diagnostics, (void)must;
    return why == NULL;
}

static void as_an_interpreter(void) {
    const struct sp_stem refusing = {.prepare = refuse_to_prepare};
    const struct sp_stem agreeing = {.prepare = agree};
    prepare();
    child.is_command = true;
    command.channel = 0;
    plan.stem = &refusing;
    CHECK(sp_child_start(&child, &plan, &request, &command) == 0 && child.interprets);
    sp_child_read_start(&child);
    CHECK(child.why.stage == SP_STAGE_PRELOAD && child.why.err == EBUSY);
    plan.stem = &agreeing;
    CHECK(sp_child_start(&child, &plan, &request, &command) == 0);
    sp_child_read_start(&child);
    CHECK(child.why.stage == SP_STAGE_CWD && child.why.err == ENOENT);
}

static void a_start_that_fails_says_why(void) {
    CHECK(in_child(with_a_terminal, 10) == 0 && in_child(as_a_command, 10) == 0);
    CHECK(in_child(outside_its_domain, 10) == 0 && in_child(as_an_interpreter, 10) == 0);
    CHECK(in_child(in_the_group_of_its_lease, 10) == 0 && in_child(without_a_host, 10) == 0);
}

static void each_refused_call_is_reported(void) {
    const struct sweep sweep = {.prepare = prepare, .act = start, .err = ENOMEM};
    CHECK(count_fatal(&sweep, SYS_pipe2) == 1 && count_fatal(&sweep, SYS_clone) == 1);
    CHECK(count_fatal(&sweep, SYS_openat) == 1 && count_fatal(&sweep, SYS_ioctl) == 3);
}

/* ---- signals ---- */

static void send_signal(uint32_t number) {
    struct sp_record record = {.type = SP_REC_SIGNAL, .u.signal.number = number};
    CHECK(sp_packet_send(host, &(struct sp_outgoing){.record = &record}, sp_now() + 1000 * MS) == 0);
    sp_child_read_signals(&child);
}

static void read_signals(void) {
    prepare();
    child.pid = 12345;
    sp_child_read_signals(&child);
    CHECK(child.socket != -1 && signalled == 0); /* there is none */
    send_signal(SIGTERM);
    CHECK(signalled == 12345 && last_signal == SIGTERM && child.killed_at == 0);
    send_signal(SIGKILL);
    CHECK(last_signal == SIGKILL && child.killed_at != 0 && child.socket != -1);
    sp_fd_close(&host);
    sp_child_read_signals(&child);
    CHECK(child.socket == -1);
}

static void read_something_else(void) {
    struct sp_record record = {.type = SP_REC_ACK};
    prepare();
    CHECK(sp_packet_send(host, &(struct sp_outgoing){.record = &record}, sp_now() + 1000 * MS) == 0);
    sp_child_read_signals(&child);
    CHECK(child.socket == -1 && signalled == 0);
}

static void free_it(void) {
    prepare();
    child.pid = 12345;
    sp_child_free_from_tracer(&child);
    status_text = "Name:\tx\nTracerPid:\t0\n";
    sp_child_free_from_tracer(&child);
    CHECK(signalled == 0);
    status_text = "Name:\tx\nTracerPid:\t77\n";
    sp_child_free_from_tracer(&child);
    CHECK(signalled == 77 && last_signal == SIGKILL);
}

static void signals_are_passed_on(void) {
    CHECK(in_child(read_signals, 10) == 0 && in_child(read_something_else, 10) == 0 && in_child(free_it, 10) == 0);
}

/* ---- the end ---- */

static void end_with(int signal) { _exit(signal == SIGUSR1 ? 5 : 6); }

/* It makes this process its tracer. What stopped it is delivered, unless it was the trap of an exec. */
static int detached(int signal) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)sigaction(SIGUSR1, &(struct sigaction){.sa_handler = end_with}, NULL);
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(signal);
        _exit(3);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    sp_child_detach(pid, status);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void init_lets_go_of_what_it_traces(void) { CHECK(detached(SIGUSR1) == 5 && detached(SIGTRAP) == 3); }

static uint32_t reported_flags(int status) {
    const struct rusage usage = {.ru_maxrss = 2};
    struct sp_packet packet;
    CHECK(sp_child_report(&child, status, &usage) == 0 && sp_packet_recv(host, &packet, NULL, 0) == 0);
    CHECK(packet.record.type == SP_REC_EXITED && packet.record.u.exited.max_rss_bytes == 2048);
    return packet.record.u.exited.flags;
}

static void report(void) {
    prepare();
    child.timed_out = true;
    CHECK(reported_flags(SIGKILL) == SP_EXITED_TIMED_OUT && reported_flags(SIGTERM) == 0);
    child.oom = true;
    CHECK(reported_flags(SIGKILL) == SP_EXITED_OOM && reported_flags(3 << 8) == 0);
    sp_fd_close(&child.socket);
    CHECK(sp_child_report(&child, 0, &(struct rusage){.ru_maxrss = 1}) == 0);
}

static void an_end_is_reported_with_what_killed_it(void) { CHECK(in_child(report, 10) == 0); }

int main(void) {
    check_deadline(60);
    RUN(a_start_that_fails_says_why);
    RUN(each_refused_call_is_reported);
    RUN(signals_are_passed_on);
    RUN(init_lets_go_of_what_it_traces);
    RUN(an_end_is_reported_with_what_killed_it);
    return check_report();
}
