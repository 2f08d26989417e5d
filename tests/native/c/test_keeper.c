/* sources: csrc/init/keeper.c csrc/init/proc.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c */
/* The process that keeps an interpreter's memory: it sleeps with nothing, and init knows when it is not alone. */
#include "init/keeper.h"

#include <signal.h>

#include "init/share.h"
#include "nth.h"
#include "refused.h"

static bool is_same;

bool sp_share_is_same(pid_t keeper, pid_t command) {
    CHECK(keeper != command);
    return is_same;
}

static int refused = -1; /* the call that the standby may not make; -1: none */

/* The standby, whose parent is init: this process. */
static pid_t start(void) {
    int diagnostics[2];
    pid_t keeper = -1;
    CHECK(pipe2(diagnostics, O_CLOEXEC) == 0);
    const pid_t standby = fork();
    if (standby == 0) {
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); /* as init did: else only root may install a filter */
        if (refused != -1) {
            refuse(refused, EPERM);
        }
        keeper = sp_keeper_start();
        CHECK(write(diagnostics[1], &keeper, sizeof keeper) == (ssize_t)sizeof keeper);
        (void)pause();
        _exit(0);
    }
    CHECK(read(diagnostics[0], &keeper, sizeof keeper) == (ssize_t)sizeof keeper);
    CHECK(kill(standby, SIGKILL) == 0 && waitpid(standby, NULL, 0) == standby);
    (void)close(diagnostics[0]);
    (void)close(diagnostics[1]);
    return keeper;
}

static unsigned fds_of(pid_t pid) {
    char name[64];
    unsigned n = 0;
    (void)snprintf(name, sizeof name, "/proc/%d/fd", pid);
    DIR *dir = opendir(name);
    while (dir != NULL && readdir(dir) != NULL) {
        n++;
    }
    (void)(dir != NULL && closedir(dir) == 0);
    return n;
}

static void it_sleeps_without_descriptors(void) {
    const pid_t keeper = start();
    CHECK(keeper > 0 && fds_of(keeper) == 2 && waitpid(keeper, NULL, WNOHANG) == 0); /* "." and ".." */
    CHECK(kill(keeper, SIGSTOP) == 0 && kill(keeper, SIGCONT) == 0 && waitpid(keeper, NULL, WNOHANG) == 0);
    sp_keeper_take(keeper);
    is_same = true;
    sp_keeper_look(getpid());
    CHECK(waitpid(keeper, NULL, WNOHANG) == 0);
    is_same = false; /* the command has executed a program */
    sp_keeper_look(getpid());
    sp_keeper_end();
    CHECK(waitpid(keeper, NULL, 0) == -1 && errno == ECHILD);
    sp_keeper_end();
    sp_keeper_kill(); /* there is none any more */
}

static void one_that_was_reaped_is_forgotten(void) {
    const pid_t keeper = start();
    sp_keeper_take(keeper);
    CHECK(kill(keeper, SIGKILL) == 0 && waitpid(keeper, NULL, 0) == keeper);
    sp_keeper_reaped(keeper + 1);
    sp_keeper_reaped(keeper);
    CHECK(!sp_keeper_is_alone());
}

static void without_a_call(void) {
    int status = -1;
    const pid_t keeper = start();
    CHECK(keeper > 0 ? waitpid(keeper, &status, 0) == keeper && status == 1 << 8 : keeper == 0);
}

/* The standby goes on without it. */
static void it_ends_where_it_cannot_be_confined(void) {
    static const int calls[] = {SYS_prlimit64, SYS_close_range, SYS_pipe2, SYS_clone};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        refused = calls[i];
        without_a_call();
    }
    refused = -1;
}

/* The list of processes breaks off: another one may be behind. */
static void with_a_list_that_breaks_off(void) {
    const pid_t keeper = start();
    sp_keeper_take(keeper);
    CHECK(!sp_keeper_is_alone()); /* on a machine with others */
    refuse(SYS_getdents64, EIO);
    CHECK(!sp_keeper_is_alone());
    sp_keeper_end();
}

static void it_is_alone_only_where_that_is_known(void) { CHECK(in_child(with_a_list_that_breaks_off, 20) == 0); }

int main(void) {
    check_deadline(100);
    RUN(it_sleeps_without_descriptors);
    RUN(one_that_was_reaped_is_forgotten);
    RUN(it_ends_where_it_cannot_be_confined);
    RUN(it_is_alone_only_where_that_is_known);
    return check_report();
}
