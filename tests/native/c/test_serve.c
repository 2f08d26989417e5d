/* sources: csrc/common/packet.c csrc/common/wire.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c
 * csrc/common/clock.c csrc/common/text.c */
/* The loop of init: what it does between the start of a standby and the next. The functions that it calls are replaced;
 * its file is part of this program. */
#include <setjmp.h>
#include <sys/ptrace.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/stage.h"
#include "init/stem.h"
#include "refused.h"

static int late_wait(int fd, short events, int64_t deadline);
#define sp_wait_fd late_wait
/* NOLINTBEGIN(bugprone-suspicious-include): its static functions are tested */
#include "init/serve.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef sp_wait_fd

static struct {
    enum sp_record_type requests[4]; /* what comes, in this order; SP_REC_NONE: nothing more */
    unsigned n_requests, at;
    int rc; /* then */
    int start, runtime_start, runtime_await, attend, restricts;
    unsigned kills, detached, keeper_kills, runtime_ends, diagnostics, hidden, spawned, killed_all, looks;
    bool ended, orphan, too_much, alone, keeper_lives;
    bool late; /* the next wait ends before something comes */
    uint64_t sysv;
    unsigned sysv_removed;
} the;

static struct sp_standby standby;
static jmp_buf end_of_init;

static int late_wait(int fd, short events, int64_t deadline) {
    const bool late = the.late && deadline != SP_NEVER;
    the.late = the.late && !late;
    return late ? -ETIMEDOUT : sp_wait_fd(fd, events, deadline);
}

_Noreturn void sp_end_init(const struct sp_plan *plan) {
    (void)plan;
    the.ended = true;
    longjmp(end_of_init, 1);
}
int sp_kill_tenants(const struct sp_plan *plan) {
    (void)plan;
    the.kills++;
    return 0;
}
void sp_child_detach(pid_t pid, int status) {
    the.detached += WIFSTOPPED(status);
    CHECK(ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0);
}
struct sp_record sp_exited(uint32_t id, int status, const struct rusage *usage) {
    return (struct sp_record){.type = SP_REC_EXITED,
                              .u.exited = {.id = id, .status = status, .max_rss_bytes = (uint64_t)usage->ru_maxrss}};
}
void sp_keeper_reaped(pid_t pid) { (void)pid; }
bool sp_keeper_lives(void) { return the.keeper_lives; }
void sp_keeper_stop(void) {}
void sp_keeper_kill(void) { the.keeper_kills++; }
void sp_keeper_look(pid_t command) { (void)command; }
void sp_keeper_end(void) {}
bool sp_keeper_is_alone(void) { return the.alone; }
void sp_leftovers_kill_all(const struct sp_plan *plan) {
    (void)plan;
    the.killed_all++;
}
uint64_t sp_sysv_used(unsigned threads) {
    (void)threads;
    return the.sysv;
}
void sp_sysv_remove(void) { the.sysv_removed++; }
void sp_memory_watch_begin(struct sp_memory_watch *watch, const struct sp_plan *plan,
                           const struct sp_memory_base *base) {
    (void)plan, (void)base;
    *watch = (struct sp_memory_watch)SP_MEMORY_NOT_WATCHED;
    watch->next_look = sp_now();
}
bool sp_memory_watch_look(struct sp_memory_watch *watch) {
    (void)watch;
    the.looks++;
    return the.too_much;
}
void sp_memory_watch_end(struct sp_memory_watch *watch) { watch->next_look = SP_NEVER; }
void sp_memory_base_late(struct sp_memory_base *base) { (void)base; }
int sp_file_serve(const struct sp_packet *packet, const char *payload) {
    (void)packet, (void)payload;
    return 0;
}
void sp_request_free_large(void) {}
int sp_request_next(int control, struct sp_request *request, struct sp_command *command, sp_file_server *serve_file) {
    (void)control, (void)command, (void)serve_file;
    if (the.at == the.n_requests) {
        return the.rc;
    }
    memset(request, 0, sizeof *request);
    memset(request->packet.fds, -1, sizeof request->packet.fds);
    request->packet.record.type = the.requests[the.at++];
    request->packet.record.u.id.id = 7;
    return 0;
}
struct sp_standby *sp_standby_memory(const struct sp_plan *plan) {
    (void)plan;
    return &standby;
}
void sp_standby_hide(struct sp_standby *standby) {
    (void)standby;
    the.hidden++;
}
int sp_standby_start(struct sp_standby *standby, const struct sp_plan *plan, int control, struct sp_runtime *runtime) {
    (void)plan, (void)control, (void)runtime;
    return the.start == 0 ? 0 : sp_failed(&standby->why, SP_STAGE_PRELOAD, -the.start, "standby");
}
void sp_attend_begin(struct sp_attend *attend, const struct sp_plan *plan, int control,
                     const struct sp_memory_base *base) {
    (void)attend, (void)plan, (void)control, (void)base;
}
void sp_attend_take_watch(struct sp_attend *attend, const struct sp_memory_watch *watch) { (void)attend, (void)watch; }
void sp_attend_spawn(struct sp_attend *attend, struct sp_request *request, struct sp_command *command) {
    (void)attend, (void)request, (void)command;
    the.spawned++;
}
int sp_attend(struct sp_attend *attend) {
    (void)attend;
    return the.attend;
}
bool sp_tier_is_orphan(const struct sp_plan *plan) {
    (void)plan;
    return the.orphan;
}
int sp_workspace_restrict(const struct sp_plan *plan) {
    (void)plan;
    return the.restricts;
}
int sp_runtime_start(struct sp_runtime *runtime, const struct sp_plan *plan, struct sp_rec_failed *why) {
    (void)runtime, (void)plan;
    return the.runtime_start == 0 ? 0 : sp_failed(why, SP_STAGE_EXEC, -the.runtime_start, "runtime");
}
int sp_runtime_await(struct sp_runtime *runtime, int64_t until, struct sp_rec_failed *why) {
    (void)runtime, (void)until;
    return the.runtime_await == 0 ? 0 : sp_failed(why, SP_STAGE_PRELOAD, -the.runtime_await, "runtime");
}
void sp_runtime_leave(struct sp_runtime *runtime) { runtime->pid = 0; }
void sp_runtime_end(struct sp_runtime *runtime) {
    (void)runtime;
    the.runtime_ends++;
}
void sp_diagnostics_fail(int control, const struct sp_rec_failed *why) {
    (void)control;
    CHECK(why->err != 0);
    the.diagnostics++;
}

static struct sp_plan plan;
static struct sp_attend attend;
static struct sp_runtime waiting;
static int host = -1;

static void begin_test(void) {
    int pair[2];
    make_pair(pair);
    memset(&the, 0, sizeof the);
    the.rc = -EAGAIN;
    host = pair[0];
    plan = (struct sp_plan){.runtime = NULL};
    standby = (struct sp_standby){.plan = &plan, .control = pair[1], .id = 7};
    waiting = (struct sp_runtime){.pid = 0};
}

static void end_test(void) {
    (void)close(host);
    (void)close(standby.control);
}

static struct sp_record received(void) {
    struct sp_packet packet = {.n_fds = 0};
    CHECK(sp_packet_recv(host, &packet, NULL, 0) == 0);
    return packet.record;
}

/* ---- the begin ---- */

static int begin_with(const struct sp_standby *memory) {
    static const struct sp_record ready = {.type = SP_REC_READY};
    return begin(memory != NULL ? &standby : NULL, &plan, standby.control, &ready, &waiting);
}

static void each_step_before_ready_can_fail(void) {
    static const struct sp_stem stem;
    static const struct sp_command runtime = {.channel = -1};
    begin_test();
    CHECK(begin_with(NULL) == -ENOMEM && begin_with(&standby) == 0 && received().type == SP_REC_READY);
    plan.stem = &stem;
    CHECK(begin_with(&standby) == 0 && received().type == SP_REC_READY);
    the.start = -EIO; /* its interpreter has not got ready: no READY */
    CHECK(begin_with(&standby) == -EIO && the.diagnostics == 1);
    plan.stem = NULL;
    plan.runtime = &runtime;
    the.start = 0;
    the.runtime_start = -ENOENT;
    CHECK(begin_with(&standby) == -ECHILD && the.diagnostics == 2);
    the.runtime_start = 0;
    the.runtime_await = -ETIMEDOUT;
    CHECK(begin_with(&standby) == -ECHILD && the.diagnostics == 3);
    char byte;
    CHECK(recv(host, &byte, 1, MSG_DONTWAIT) == -1);
    plan.runtime = NULL;
    (void)close(host);
    CHECK(begin_with(&standby) == -EPIPE);
    (void)close(standby.control);
}

/* ---- while a command runs ---- */

static bool read_all_records(void) {
    if (setjmp(end_of_init) != 0) {
        return false;
    }
    return read_records(&standby, 7, &attend);
}

static void what_the_host_has_sent_is_done(void) {
    begin_test();
    the.requests[0] = SP_REC_KILL;
    the.requests[1] = SP_REC_FILE;
    the.n_requests = 2;
    CHECK(!read_all_records() && the.kills == 1 && !the.ended);
    the.requests[0] = SP_REC_SPAWN;
    the.at = 0;
    CHECK(read_all_records() && the.spawned == 1 && the.hidden == 1);
    the.at = the.n_requests = 0;
    the.rc = -ECONNRESET; /* nobody else would end it in the Landlock tier */
    CHECK(!read_all_records() && the.ended);
    end_test();
}

static void a_stop_is_no_end(void) {
    struct outcome outcome = {.status = 0};
    begin_test();
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20);
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && raise(SIGUSR1) == 0 ? 0 : 1);
    }
    standby.pid = pid;
    for (int i = 0; i < 2000 && !reap(&standby, &outcome); i++) {
        sleep_ns(10 * MS);
    }
    CHECK(the.detached == 1 && WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0);
    end_test();
}

static void too_much_memory_ends_the_command(void) {
    struct checks checks = {.memory = SP_MEMORY_NOT_WATCHED, .next_check = SP_NEVER};
    struct outcome outcome = {.oom = false};
    begin_test();
    look_at_memory(&standby, &checks, &outcome);
    CHECK(the.looks == 0);
    checks.memory.next_look = 1;
    the.too_much = true;
    look_at_memory(&standby, &checks, &outcome);
    CHECK(the.looks == 1 && the.kills == 1 && outcome.oom && checks.memory.over);
    checks.memory.next_look = 1;
    checks.memory.too_many = true; /* processes, which are no memory */
    look_at_memory(&standby, &checks, &outcome);
    CHECK(!outcome.oom && the.kills == 2);
    end_test();
}

/* ---- after it ---- */

static void the_end_decides_what_follows(void) {
    struct outcome outcome = {.status = SIGKILL, .oom = true, .usage = {.ru_maxrss = 100}};
    begin_test();
    standby.max_rss_bytes = 200;
    standby.runtime = &waiting;
    CHECK(follow(&standby, &outcome, &attend) == 0 && the.killed_all == 1 && the.runtime_ends == 1);
    struct sp_record diagnostics = received();
    CHECK(diagnostics.type == SP_REC_EXITED && diagnostics.u.exited.flags == SP_EXITED_OOM &&
          diagnostics.u.exited.max_rss_bytes == 0);
    the.alone = true;
    outcome.status = 0; /* it had ended before it could be killed */
    standby.why = (struct sp_rec_failed){.stage = SP_STAGE_EXEC, .err = ENOENT};
    CHECK(follow(&standby, &outcome, &attend) == 0 && the.killed_all == 1);
    diagnostics = received();
    CHECK(diagnostics.type == SP_REC_FAILED && diagnostics.u.failed.id == 7 && diagnostics.u.failed.err == ENOENT);
    standby.restricts = true;
    the.restricts = -EPERM;
    CHECK(follow(&standby, &outcome, &attend) == -EPERM);
    standby.restricts = false;
    standby.control_error = -EBADMSG;
    CHECK(follow(&standby, &outcome, &attend) == -ECONNRESET);
    standby.control_error = 0;
    standby.id = 0; /* killed before it had a request */
    CHECK(follow(&standby, &outcome, &attend) == -ECONNRESET);
    standby.yielded = true;
    the.attend = -ESRCH;
    CHECK(follow(&standby, &outcome, &attend) == -ESRCH && the.hidden == 1);
    end_test();
}

static void objects_beyond_the_limit_are_removed(void) {
    begin_test();
    the.sysv = 1001;
    limit_sysv(&plan);
    CHECK(the.sysv_removed == 0); /* no limit */
    plan.config.memory_bytes = 1000;
    limit_sysv(&plan);
    CHECK(the.sysv_removed == 1);
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER; /* they are the machine's */
    limit_sysv(&plan);
    CHECK(the.sysv_removed == 1);
    end_test();
}

/* The keeper is given up before a request comes, and the request is waited for all the same. */
static void a_late_request_is_waited_for(void) {
    begin_test();
    standby.is_last = the.keeper_lives = the.late = true;
    CHECK(write(host, "x", 1) == 1 && await_request(&standby) == 0 && !the.late);
    end_test();
}

/* In the Landlock tier nobody kills init. */
static void init_ends_with_its_host(void) {
    begin_test();
    CHECK(!has_to_end(&standby));
    (void)close(host);
    CHECK(!has_to_end(&standby));
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    CHECK(has_to_end(&standby));
    the.orphan = true;
    CHECK(has_to_end(&standby));
    (void)close(standby.control);
}

int main(void) {
    check_deadline(60);
    RUN(each_step_before_ready_can_fail);
    RUN(what_the_host_has_sent_is_done);
    RUN(a_stop_is_no_end);
    RUN(too_much_memory_ends_the_command);
    RUN(the_end_decides_what_follows);
    RUN(objects_beyond_the_limit_are_removed);
    RUN(a_late_request_is_waited_for);
    RUN(init_ends_with_its_host);
    return check_report();
}
