/* sources: csrc/init/diagnostics.c csrc/common/packet.c csrc/common/wire.c csrc/common/clock.c csrc/common/fd.c
 * csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/text.c */
/* The process that becomes the next command: what it makes of each request, and where its interpreter does not get
 * ready. The functions that it calls are replaced; its file is part of this program. */
#include <setjmp.h>

#include "refused.h"

/* NOLINTBEGIN(bugprone-suspicious-include): its static functions are tested */
#include "init/standby.c"
/* NOLINTEND(bugprone-suspicious-include) */

static struct {
    struct sp_request request; /* what comes */
    struct sp_command command;
    int recv, tier, enter, request_rc; /* what the functions return */
    bool orphan;
    unsigned homes, shown, execs;
    pid_t keeper, taken, signalled, started;
} the;

static jmp_buf ran; /* where the interpreter would run the command */

void sp_memory_base_early(struct sp_memory_base *base, const struct sp_plan *plan, bool is_first) {
    (void)base, (void)plan, (void)is_first;
}
void sp_memory_base_late(struct sp_memory_base *base) { (void)base; }
int sp_runtime_request(const struct sp_runtime *runtime, const struct sp_command *command) {
    (void)runtime, (void)command;
    return the.request_rc;
}
void sp_tier_set_home(char **env) {
    (void)env;
    the.homes++;
}
int sp_command_enter(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    (void)plan, (void)command;
    return the.enter == 0 ? 0 : sp_failed(why, SP_STAGE_CWD, -the.enter, "/nowhere");
}
void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    (void)plan, (void)command;
    the.execs++;
    (void)sp_failed(why, SP_STAGE_EXEC, ENOENT, "program");
}
void sp_limit_processes(const struct sp_plan *plan, unsigned others) { (void)plan, (void)others; }
void sp_leftovers_mark(void) {}
int sp_tier_child(const struct sp_plan *plan) {
    (void)plan;
    return the.tier;
}
int sp_request_recv(int control, struct sp_request *request, struct sp_command *command, sp_file_server *serve_file) {
    (void)control, (void)serve_file;
    *request = the.request;
    *command = the.command;
    return the.recv;
}
void sp_request_free_large(void) {}
int sp_file_serve(const struct sp_packet *packet, const char *payload) {
    (void)packet, (void)payload;
    return 0;
}
void sp_workspace_show_namespaces(struct sp_packet *request) {
    (void)request;
    the.shown++;
}
pid_t sp_keeper_start(void) { return the.keeper; }
void sp_keeper_take(pid_t pid) { the.taken = pid; }
void sp_tier_started(const struct sp_plan *plan, pid_t pid) {
    (void)plan;
    the.started = pid;
}
bool sp_tier_is_orphan(const struct sp_plan *plan) {
    (void)plan;
    return the.orphan;
}
void sp_tier_all_ended(void) {}
int sp_signal(pid_t pid, int number) {
    the.signalled = pid;
    return kill(pid, number);
}
uint64_t sp_micros(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

static int prepare_well(int diagnostics, bool must, struct sp_rec_failed *why) {
    (void)diagnostics, (void)must, (void)why;
    return 0;
}
static int prepare_badly(int diagnostics, bool must, struct sp_rec_failed *why) {
    CHECK(must);
    const int rc = sp_failed(why, SP_STAGE_PRELOAD, ECANCELED, "KeyError");
    CHECK(write(diagnostics, "Traceback", 9) == 9);
    return rc;
}
static int prepare_and_end(int diagnostics, bool must, struct sp_rec_failed *why) {
    (void)diagnostics, (void)must, (void)why;
    _exit(3);
}
static int prepare_for_ever(int diagnostics, bool must, struct sp_rec_failed *why) {
    (void)diagnostics, (void)must, (void)why;
    (void)alarm(20);
    while (pause() == -1) {
    }
    return 0;
}
static __attribute__((noreturn)) void run_code(const struct sp_command *command, void *shared, size_t size,
                                               _Atomic uint32_t *starting) {
    CHECK(command->channel == 9 && shared != NULL && size == sizeof(struct sp_standby) && starting != NULL);
    longjmp(ran, 1);
}

static struct sp_stem stem;
static struct sp_plan plan;
static struct sp_standby *standby;
static int host = -1; /* its end of the control socket */

static void begin(bool with_stem) {
    int pair[2];
    make_pair(pair);
    memset(&the, 0, sizeof the);
    plan = (struct sp_plan){.stem = with_stem ? &stem : NULL};
    stem = (struct sp_stem){.prepare = prepare_well, .run = run_code, .memory_bytes = 1000};
    standby = sp_standby_memory(&plan);
    CHECK(standby != NULL);
    *standby = (struct sp_standby){.plan = &plan, .control = pair[1], .not_execed = 1};
    the.command = (struct sp_command){.channel = -1, .fds = {-1, -1, -1}};
    host = pair[0];
}

static void end(void) {
    (void)close(host);
    (void)close(standby->control);
}

static int take(enum sp_record_type type) {
    the.request.packet.record.type = type;
    the.request.exec.id = 7;
    return standby_main(standby);
}

static struct sp_record received(void) {
    struct sp_packet packet = {.n_fds = 0};
    struct sp_record record = {.type = SP_REC_KILL};
    if (sp_packet_recv(host, &packet, NULL, 0) == 0) {
        record = packet.record;
        sp_packet_close(&packet);
    }
    return record;
}

/* ---- requests ---- */

static void each_request_is_what_it_is(void) {
    begin(false);
    CHECK(take(SP_REC_SERVE) == 0 && standby->yielded && standby->id == 0);
    CHECK(take(SP_REC_NAMESPACES) == 0 && standby->restricts && the.shown == 1);
    CHECK(take(SP_REC_ADOPT) == 1 && standby->control_error == -EBADMSG && the.execs == 0);
    the.recv = -ECONNRESET;
    CHECK(take(SP_REC_SERVE) == 1 && standby->control_error == -ECONNRESET);
    the.recv = 0;
    the.tier = -E2BIG; /* it must not run outside the domain of tenants */
    CHECK(take(SP_REC_EXEC) == 1 && standby->control_error == -E2BIG && standby->id == 0 && the.execs == 0);
    the.tier = 0;
    the.request.exec.flags = SP_EXEC_LAST;
    CHECK(take(SP_REC_EXEC) == 127 && standby->is_last && standby->why.err == ENOENT && standby->id == 7);
    CHECK(received().type == SP_REC_ACK);
    (void)close(host);
    CHECK(take(SP_REC_EXEC) == 1 && standby->control_error == -EPIPE && the.execs == 1);
    (void)close(standby->control);
}

static void code_goes_to_the_runtime(void) {
    struct sp_runtime runtime = {.pid = getpid(), .ends = {0, 1, 2, 2}};
    begin(false);
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    the.request.exec.flags = SP_EXEC_RUNTIME;
    standby->runtime = &runtime;
    CHECK(take(SP_REC_EXEC) == 0 && standby->hands_over && the.homes == 1 && received().type == SP_REC_ACK);
    standby->hands_over = false;
    runtime.ended = true;
    CHECK(take(SP_REC_EXEC) == 0 && !standby->hands_over && standby->why.err == ESRCH);
    CHECK(received().type == SP_REC_ACK);
    runtime.ended = false;
    the.request_rc = -EBADMSG;
    CHECK(take(SP_REC_EXEC) == 0 && standby->hands_over && standby->control_error == -EBADMSG);
    (void)close(host);
    standby->hands_over = false;
    CHECK(take(SP_REC_EXEC) == 0 && !standby->hands_over && standby->control_error == -EPIPE);
    (void)close(standby->control);
}

/* ---- with an interpreter ---- */

static void what_is_for_the_interpreter_is_run_by_it(void) {
    begin(true);
    the.command.channel = 9;
    volatile bool has_run = false;
    if (setjmp(ran) == 0) {
        (void)take(SP_REC_EXEC);
    } else {
        has_run = true;
    }
    CHECK(has_run && received().type == SP_REC_ACK && standby->base.of_interpreter == 1000 && standby->not_execed == 1);
    the.enter = -ENOENT;
    CHECK(take(SP_REC_EXEC) == 127 && standby->why.stage == SP_STAGE_CWD);
    end();
}

static void a_program_is_executed_without_its_memory(void) {
    begin(true);
    the.keeper = fork();
    if (the.keeper == 0) {
        (void)alarm(20);
        (void)pause();
        _exit(0);
    }
    standby->keeper = the.keeper;
    CHECK(take(SP_REC_EXEC) == 127 && the.execs == 1 && standby->not_execed == 0 && standby->base.of_interpreter == 0);
    int status = 0;
    CHECK(waitpid(the.keeper, &status, 0) == the.keeper && WIFSIGNALED(status));
    end();
}

static int start(uint32_t flags, int (*prepare)(int, bool, struct sp_rec_failed *)) {
    const int control = standby->control;
    plan.config.flags = flags;
    stem.prepare = prepare;
    the.recv = -ECONNRESET; /* of one that gets ready */
    return sp_standby_start(standby, &plan, control, NULL);
}

static void an_interpreter_gets_ready_or_is_reaped(void) {
    int status = 0;
    begin(true);
    the.keeper = 1234;
    CHECK(start(0, prepare_well) == 0 && the.taken == 1234 && the.started == standby->pid);
    CHECK(waitpid(standby->pid, &status, 0) == standby->pid && WEXITSTATUS(status) == 1);
    CHECK(start(SP_CONFIG_LANDLOCK_TIER, prepare_well) == 0 && the.taken == 0); /* it has no keeper there */
    CHECK(waitpid(standby->pid, &status, 0) == standby->pid && WEXITSTATUS(status) == 1);
    CHECK(start(0, prepare_badly) == -EIO && strcmp(standby->why.detail, "KeyError") == 0);
    CHECK(strcmp(sp_diagnostics_text(), "Traceback") == 0);
    CHECK(start(0, prepare_and_end) == -EIO && standby->why.stage == SP_STAGE_PRELOAD);
    CHECK(strcmp(standby->why.detail, "the interpreter ended") == 0);
    the.tier = -E2BIG;
    CHECK(start(SP_CONFIG_LANDLOCK_TIER, prepare_well) == -EIO && standby->why.stage == SP_STAGE_LANDLOCK);
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    end();
}

/* In the Landlock tier init itself has to see that nobody waits. */
static void one_that_hangs_is_given_up_with_its_host(void) {
    begin(true);
    the.orphan = true;
    CHECK(start(SP_CONFIG_LANDLOCK_TIER, prepare_for_ever) == -EIO && the.signalled > 0);
    the.orphan = false;
    (void)close(host);
    CHECK(start(SP_CONFIG_LANDLOCK_TIER, prepare_for_ever) == -EIO && waitpid(-1, NULL, 0) == -1);
    (void)close(standby->control);
}

static int refused;

static void without_a_call(void) {
    begin(true);
    refuse(refused, ENOMEM);
    CHECK(start(0, prepare_well) == -ENOMEM && standby->why.stage == SP_STAGE_SPAWN && standby->why.err == ENOMEM);
    CHECK(waitpid(-1, NULL, 0) == -1);
}

static void without_memory(void) {
    plan = (struct sp_plan){.stem = &stem};
    refuse(SYS_mmap, ENOMEM);
    CHECK(sp_standby_memory(&plan) == NULL);
}

static void without_a_clone(void) {
    begin(false);
    refuse(SYS_clone, EAGAIN);
    CHECK(sp_standby_start(standby, &plan, standby->control, NULL) == -EAGAIN);
}

static void each_refused_call_is_reported(void) {
    static const int calls[] = {SYS_madvise, SYS_pipe2, SYS_clone};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        refused = calls[i];
        CHECK(in_child(without_a_call, 20) == 0);
    }
    CHECK(in_child(without_memory, 20) == 0 && in_child(without_a_clone, 20) == 0);
}

/* Otherwise a process of a tenant would have init's own memory. */
static void a_hidden_one_is_not_inherited(void) {
    int status = 0;
    begin(true);
    sp_standby_hide(standby);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        standby->pid = 1;
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    end();
    begin(false);
    sp_standby_hide(standby);
    end();
}

int main(void) {
    check_deadline(100);
    RUN(each_request_is_what_it_is);
    RUN(code_goes_to_the_runtime);
    RUN(what_is_for_the_interpreter_is_run_by_it);
    RUN(a_program_is_executed_without_its_memory);
    RUN(an_interpreter_gets_ready_or_is_reaped);
    RUN(one_that_hangs_is_given_up_with_its_host);
    RUN(each_refused_call_is_reported);
    RUN(a_hidden_one_is_not_inherited);
    return check_report();
}
