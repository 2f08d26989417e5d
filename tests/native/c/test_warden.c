/* sources: csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/text.c
 * csrc/init/descriptors.c csrc/init/proc.c csrc/zygote/leftovers.c */
/*
 * The warden waits for the end of a zygote, and then ends all of its sandboxes. A signal to all processes is replaced:
 * it would reach every process of this machine.
 */
#include <signal.h>

static pid_t tenant;

static int safe_kill(int pid, int number) { return kill(pid == -1 ? tenant : pid, number); }
#define kill safe_kill

/* NOLINTBEGIN(bugprone-suspicious-include): kill() is replaced */
#include "zygote/warden.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef kill

#include <fcntl.h>

#include "check.h"

#define ENDS_BY_ITSELF 1u /* what starts a tenant: with the zygote it ends, too */
#define IGNORED 2u        /* nothing but SIGKILL ends it */

/* A process that holds the writing end of `lives`; then this one, its parent, ends. */
_Noreturn static void be_zygote(unsigned kind, int pids) {
    pid_t pid = fork();
    if (pid == 0) {
        struct timespec moment = {.tv_nsec = SP_MS(50)};
        (void)signal(SIGTERM, SIG_IGN);
        if ((kind & ENDS_BY_ITSELF) != 0) {
            (void)nanosleep(&moment, NULL);
            _exit(0);
        }
        for (;;) {
            (void)pause();
        }
    }
    (void)!write(pids, &pid, sizeof pid);
    _exit(0);
}

/* A warden with a zygote and a tenant of it. Whether the tenant is gone when the warden has ended. */
static bool ends_all(unsigned kind, bool scoped) {
    int lives[2];
    int pids[2];
    int status = -1;
    char byte;
    CHECK(pipe(lives) == 0 && pipe(pids) == 0);
    pid_t warden = fork();
    if (warden == 0) {
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
        pid_t zygote = fork();
        if (zygote == 0) {
            be_zygote(kind, pids[1]);
        }
        CHECK(read(pids[0], &tenant, sizeof tenant) == sizeof tenant);
        sp_zygote_be_warden(zygote, scoped);
    }
    (void)close(lives[1]);
    (void)close(pids[0]);
    (void)close(pids[1]);
    CHECK(waitpid(warden, &status, 0) == warden && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    const bool gone = read(lives[0], &byte, 1) == 0;
    (void)close(lives[0]);
    return gone;
}

/* The end of file comes when nobody holds the writing end, the warden included. */
static void what_a_zygote_leaves_is_killed(void) {
    CHECK(ends_all(IGNORED, true));
    CHECK(ends_all(IGNORED, false));
    CHECK(ends_all(ENDS_BY_ITSELF, false));
}

int main(void) {
    check_deadline(60);
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(proc != -1 && dup2(proc, SP_PROC_FD) == SP_PROC_FD && dup2(proc, SP_ZYGOTE_SOCKET) == SP_ZYGOTE_SOCKET);
    RUN(what_a_zygote_leaves_is_killed);
    return check_report();
}
