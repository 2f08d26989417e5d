/* sources: csrc/init/runtime.c csrc/init/diagnostics.c csrc/common/packet.c csrc/common/wire.c csrc/common/clock.c
 * csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c */
/* A runtime that starts, that does not, that says something else, and that reads late or not at all. A function of this
 * program plays it. */
#include "init/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/stage.h"
#include "init/confine.h"
#include "init/exec.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"
#include "nth.h"

#define LARGE (1 << 20)

static int of_tier;

void sp_limit_processes(const struct sp_plan *plan, unsigned others) { (void)plan, (void)others; }
int sp_tier_child(const struct sp_plan *plan) { return plan != NULL ? of_tier : 0; }
void sp_tier_started(const struct sp_plan *plan, pid_t pid) { (void)plan, (void)pid; }
void sp_leftovers_mark(void) {}

/* ---- the runtime ---- */

static enum { READY, ENDS, SAYS_MORE, SAYS_SOMETHING_ELSE, CANNOT_BE_EXECUTED, DISTURBS, IS_DEAF, WAITS } how;

/* As the end of another child does. */
static void disturb(void) {
    for (int i = 0; i < 30; i++) {
        (void)kill(getppid(), SIGUSR1);
        sleep_ns(MS);
    }
}

/* Passes on the line that it gets. */
static void pass_on(void) {
    static char bytes[65536];
    ssize_t n = 0;
    do {
        n = read(SP_RUNTIME_SOCKET, bytes, sizeof bytes);
        CHECK(n > 0 && write(STDOUT_FILENO, bytes, (size_t)n) == n);
    } while (n > 0 && bytes[n - 1] != '\n');
}

static void say(int fd, const char *text) { CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text)); }

void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    static char filling[10000];
    (void)plan;
    for (int i = 0; i < 3; i++) {
        (void)dup2(command->fds[i], i);
    }
    memset(filling, 'x', sizeof filling - 1);
    switch (how) {
    case CANNOT_BE_EXECUTED:
        (void)sp_failed(why, SP_STAGE_EXEC, EACCES, "/bin/runtime");
        return;
    case SAYS_MORE:
        say(STDERR_FILENO, filling);
        say(STDERR_FILENO, "\nand why\r\n");
        _exit(1);
    case ENDS:
        _exit(1);
    case SAYS_SOMETHING_ELSE:
        say(SP_RUNTIME_SOCKET, "hello\n");
        _exit(1);
    case WAITS:
        (void)pause();
        _exit(1);
    case DISTURBS:
        disturb();
        break;
    default:
        break;
    }
    say(SP_RUNTIME_SOCKET, "rea");
    sleep_ns(5 * MS);
    say(SP_RUNTIME_SOCKET, "dy\n");
    if (how == DISTURBS) {
        disturb();
    }
    if (how != IS_DEAF) {
        pass_on();
    }
    _exit(atomic_load(&check_failures) == 0 ? 0 : 1);
}

/* ---- init ---- */

static char *no_strings[] = {NULL};
static struct sp_command of_plan = {.cwd = "/", .argv = no_strings, .env = no_strings};
static struct sp_plan plan = {.runtime = &of_plan};
static struct sp_runtime runtime;
static struct sp_rec_failed why;

static void note(int signal) { (void)signal; }

static void start(void) {
    (void)sigaction(SIGUSR1, &(struct sigaction){.sa_handler = note}, NULL);
    CHECK(sp_runtime_start(&runtime, &plan, &why) == 0 && runtime.pid > 0);
}

static int await(void) { return sp_runtime_await(&runtime, sp_now() + 10000 * MS, &why); }

static int exit_of_runtime(void) {
    int status = -1;
    CHECK(runtime.pid > 0 && waitpid(runtime.pid, &status, 0) == runtime.pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What it has passed on, up to the end of the line. */
static size_t read_back(char *text, size_t size) {
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && (len == 0 || text[len - 1] != '\n')) {
        n = read(runtime.ends[1], text + len, size - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = '\0';
    return len;
}

static char *variables[] = {"A=1", "B=\"\\\t", NULL};

static void ask(void) {
    char *words[] = {"run", "print(\"x\")\n", "{\"y\":1}", NULL};
    const struct sp_command command = {.cwd = "/tmp", .argv = words, .env = variables};
    char text[4096];
    start();
    CHECK(await() == 0 && sp_runtime_request(&runtime, &command) == 0 && read_back(text, sizeof text) > 0);
    CHECK(strcmp(text, "{\"code\":\"print(\\\"x\\\")\\u000a\",\"env\":{\"A\":\"1\",\"B\":\"\\\"\\\\\\u0009\"},"
                       "\"cwd\":\"/tmp\",\"options\":{\"y\":1}}\n") == 0);
    CHECK(exit_of_runtime() == 0);
    words[2] = NULL;
    CHECK(sp_runtime_request(&runtime, &command) == -EBADMSG);
    words[0] = NULL;
    CHECK(sp_runtime_request(&runtime, &command) == -EBADMSG);
    sp_runtime_end(&runtime);
    CHECK(runtime.pid == 0 && runtime.ends[3] == -1);
}

static bool non_blocking;

/* More than a socket holds: the rest waits until the runtime reads. */
static void ask_for_much(void) {
    static char code[LARGE];
    static char text[LARGE + 1000];
    char *words[] = {"run", code, "{}", NULL};
    const struct sp_command command = {.cwd = "/", .argv = words, .env = no_strings};
    memset(code, 'c', sizeof code - 1);
    start();
    CHECK(await() == 0);
    CHECK(!non_blocking || fcntl(runtime.ends[3], F_SETFL, O_NONBLOCK) == 0);
    if (fork() == 0) { /* reads what it passes on, so that it never waits for room */
        CHECK(read_back(text, sizeof text) > LARGE);
        _exit(atomic_load(&check_failures) == 0 ? 0 : 1);
    }
    CHECK(sp_runtime_request(&runtime, &command) == 0 && exit_of_runtime() == 0);
    int status = -1;
    CHECK(waitpid(-1, &status, 0) > 0 && status == 0);
}

static void ask_the_deaf(void) {
    char *words[] = {"run", "code", "{}", NULL};
    const struct sp_command command = {.cwd = "/", .argv = words, .env = no_strings};
    start();
    CHECK(await() == 0 && exit_of_runtime() == 0);
    CHECK(sp_runtime_request(&runtime, &command) == 0);
}

static void a_request_is_one_line(void) {
    how = READY;
    CHECK(in_child(ask, 10) == 0 && in_child(ask_for_much, 20) == 0);
    non_blocking = true;
    CHECK(in_child(ask_for_much, 20) == 0);
    non_blocking = false;
    how = DISTURBS;
    CHECK(in_child(ask_for_much, 20) == 0);
    how = IS_DEAF;
    CHECK(in_child(ask_the_deaf, 10) == 0);
}

/* ---- starts that fail ---- */

static int expected;
static const char *reason;

static void wait_in_vain(void) {
    unsigned fds = count_low_fds();
    start();
    CHECK(await() == -expected && why.stage == SP_STAGE_PRELOAD && why.err == (uint32_t)expected);
    CHECK(strcmp(why.detail, reason) == 0);
    sp_runtime_end(&runtime);
    CHECK(count_low_fds() == fds);
}

static void wait_too_short(void) {
    start();
    CHECK(sp_runtime_await(&runtime, 0, &why) == -ETIMEDOUT && why.stage == SP_STAGE_PRELOAD);
    sp_runtime_end(&runtime);
}

static void a_runtime_that_is_not_ready_is_explained(void) {
    static const struct {
        int how, err;
        const char *reason;
    } cases[] = {{ENDS, ECHILD, "the runtime has not said that it is ready"},
                 {SAYS_MORE, ECHILD, "and why"},
                 {SAYS_SOMETHING_ELSE, EBADMSG, "the runtime has not said that it is ready"},
                 {CANNOT_BE_EXECUTED, ECHILD, "/bin/runtime: Permission denied"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        how = cases[i].how;
        expected = cases[i].err;
        reason = cases[i].reason;
        CHECK(in_child(wait_in_vain, 10) == 0);
    }
    how = WAITS;
    CHECK(in_child(wait_too_short, 10) == 0);
    how = READY;
    of_tier = -E2BIG;
    expected = ECHILD;
    reason = cases[0].reason;
    CHECK(in_child(wait_in_vain, 10) == 0);
    of_tier = 0;
}

static void nothing(void) { how = ENDS; }

static int start_and_leave(void) {
    int rc = sp_runtime_start(&runtime, &plan, &why);
    CHECK(rc == 0 ? exit_of_runtime() == 1 : runtime.pid == 0 && why.stage == SP_STAGE_PRELOAD);
    sp_runtime_leave(&runtime);
    return rc;
}

static void each_refused_call_is_reported(void) {
    const struct sweep sweep = {.prepare = nothing, .act = start_and_leave, .err = EMFILE};
    CHECK(count_fatal(&sweep, SYS_pipe2) == 3 && count_fatal(&sweep, SYS_socketpair) == 1);
    CHECK(count_fatal(&sweep, SYS_clone) == 1);
}

int main(void) {
    check_deadline(100);
    RUN(a_request_is_one_line);
    RUN(a_runtime_that_is_not_ready_is_explained);
    RUN(each_refused_call_is_reported);
    return check_report();
}
