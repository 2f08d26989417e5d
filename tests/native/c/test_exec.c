/* sources: csrc/init/exec.c csrc/init/command.c csrc/common/wire.c */
/* The steps of a process before it is a command: each call refused in turn, with the stage that is reported. */
#include "init/exec.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>

#include "check.h"
#include "common/stage.h"
#include "init/confine.h"
#include "init/landlock_tier.h"
#include "nth.h"

static int of_limits, of_filter;
static bool grouped, at_home;

int sp_limit_command(void) {
    errno = of_limits != 0 ? of_limits : errno;
    return of_limits != 0 ? -1 : 0;
}

int sp_install_filter(const struct sp_plan_filter *filter) { return filter->len == 0 ? 0 : -of_filter; }
void sp_limit_data_of_exec(const struct sp_plan *plan) { (void)plan; }
bool sp_tier_is_grouped(const struct sp_plan *plan) { return plan != NULL && grouped; }
void sp_tier_set_home(char **env) { at_home = env != NULL; }

static char *no_strings[] = {NULL};
static char *missing[] = {"/nowhere/program", NULL};
static struct sp_plan plan;
static struct sp_command command;
static struct sp_rec_failed why;

static void prepare(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(null != -1);
    plan = (struct sp_plan){.exec_filter = {.len = 1}};
    command = (struct sp_command){
        .cwd = "/", .argv = missing, .env = no_strings, .fds = {null, null, null}, .channel = -1, .cpu_seconds = 7};
}

static void prepare_terminal(void) {
    prepare();
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(terminal != -1 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    int far_end = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC); /* NOLINT: one thread */
    CHECK(far_end != -1);
    command.fds[0] = command.fds[1] = command.fds[2] = far_end;
    command.has_terminal = true;
}

static int enter(void) {
    int rc = sp_command_enter(&plan, &command, &why);
    CHECK(rc == 0 || (rc == -(int)why.err && why.detail[0] != '\0'));
    return rc;
}

/* ---- what is entered ---- */

static void with_limits(void) {
    struct rlimit limit;
    prepare();
    CHECK(enter() == 0 && getsid(0) == getpid());
    CHECK(getrlimit(RLIMIT_CPU, &limit) == 0 && limit.rlim_cur == 7 && limit.rlim_max == 8);
}

static void with_the_limits_of_a_shell(void) {
    const struct rlimit shell = {5, 5};
    struct rlimit limit;
    prepare();
    CHECK(setrlimit(RLIMIT_CPU, &shell) == 0 && enter() == 0);
    CHECK(getrlimit(RLIMIT_CPU, &limit) == 0 && limit.rlim_cur == 5 && limit.rlim_max == 5);
}

static void with_a_terminal(void) {
    prepare_terminal();
    CHECK(enter() == 0 && tcgetsid(0) == getpid());
}

static void in_the_group_of_the_others(void) {
    prepare();
    grouped = true;
    CHECK(enter() == 0 && getsid(0) != getpid());
}

static void a_command_is_entered(void) {
    CHECK(in_child(with_limits, 10) == 0 && in_child(with_the_limits_of_a_shell, 10) == 0);
    CHECK(in_child(with_a_terminal, 10) == 0 && in_child(in_the_group_of_the_others, 10) == 0);
}

/* ---- where it fails ---- */

static void after_limits_that_fail(void) {
    prepare();
    of_limits = EPERM;
    CHECK(enter() == -EPERM && why.stage == SP_STAGE_SPAWN);
}

static void at_a_filter_that_fails(void) {
    prepare();
    of_filter = EINVAL;
    CHECK(enter() == -EINVAL && why.stage == SP_STAGE_SECCOMP);
}

static void in_no_directory(void) {
    prepare();
    command.cwd = "/nowhere";
    CHECK(enter() == -ENOENT && why.stage == SP_STAGE_CWD && strcmp(why.detail, "/nowhere") == 0);
}

static void without_a_program(void) {
    prepare();
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    sp_command_exec(&plan, &command, &why);
    CHECK(why.stage == SP_STAGE_EXEC && why.err == ENOENT && strcmp(why.detail, missing[0]) == 0 && at_home);
}

static void after_a_step_that_fails(void) {
    prepare();
    command.cwd = "/nowhere";
    sp_command_exec(&plan, &command, &why);
    CHECK(why.stage == SP_STAGE_CWD && why.err == ENOENT);
}

/* What only an interpreter or a runtime can do, and none is there. */
static void for_another_program(void) {
    prepare();
    command.for_runtime = true;
    sp_command_exec(&plan, &command, &why);
    CHECK(why.stage == SP_STAGE_EXEC && why.err == EBUSY);
    command.channel = 0;
    sp_command_exec(&plan, &command, &why);
    CHECK(why.stage == SP_STAGE_EXEC && why.err == ENOSYS);
}

static void what_fails_is_reported(void) {
    CHECK(in_child(after_limits_that_fail, 10) == 0 && in_child(at_a_filter_that_fails, 10) == 0);
    CHECK(in_child(in_no_directory, 10) == 0 && in_child(without_a_program, 10) == 0);
    CHECK(in_child(after_a_step_that_fails, 10) == 0 && in_child(for_another_program, 10) == 0);
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_prlimit64, SYS_setsid, SYS_dup3, SYS_chdir};
    const struct sweep sweep = {.prepare = prepare, .act = enter, .err = ENOMEM};
    const struct sweep terminal = {.prepare = prepare_terminal, .act = enter, .err = ENOMEM};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
    CHECK(count_fatal(&terminal, SYS_ioctl) == 1);
}

int main(void) {
    check_deadline(60);
    RUN(a_command_is_entered);
    RUN(what_fails_is_reported);
    RUN(each_refused_call_is_reported);
    return check_report();
}
