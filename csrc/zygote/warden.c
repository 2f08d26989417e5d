/*
 * The warden: the parent of a zygote of the Landlock tier. With namespaces the kernel kills all sandboxes when their
 * zygote ends; here the warden does. Whatever the zygote has died of, SIGKILL included, the warden adopts what is left
 * of its sandboxes and kills it. No tenant reaches the warden: its domain is around those
 * of init/landlock_tier.h, or, before Landlock ABI 6, it has another id than the tenants or is outside of their
 * process group.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "init/descriptors.h"
#include "zygote/zygote.h"

/* Without scopes, an init kills its tenants in one call when the zygote has died. That is better than to kill them one
 * by one, so the inits have this time for it. */
#define OF_INITS_NS SP_SEC(2)
#define ROUND_NS SP_MS(2)

static bool spare_none(pid_t pid) {
    (void)pid;
    return false;
}

static void await(pid_t pid) {
    while (waitpid(pid, NULL, __WALL) != -1 || errno == EINTR) {
    }
}

/* Reaps until then at most. True once no child is left. */
static bool all_ended(int64_t until) {
    const struct timespec pause = {.tv_nsec = ROUND_NS};
    pid_t pid = 0;
    while ((pid = waitpid(-1, NULL, WNOHANG | __WALL)) != -1 || errno == EINTR) {
        if (pid == 0 && sp_now() >= until) {
            return false;
        }
        if (pid == 0) {
            (void)nanosleep(&pause, NULL);
        }
    }
    return true;
}

_Noreturn void sp_zygote_be_warden(pid_t zygote, bool scoped) {
    (void)prctl(PR_SET_NAME, "sandpool-warden", 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)close(SP_ZYGOTE_SOCKET); /* else the host would not read end of file when the zygote ends */
    (void)sp_close_from(SP_PROC_FD, SP_PROC_FD + 1);
    await(zygote);
    if (scoped) {
        (void)kill(-1, SIGKILL); /* all of the domain, in one call, which no fork can escape */
        await(-1);
    }
    for (int64_t until = sp_now() + OF_INITS_NS; !all_ended(until); until = sp_now() + ROUND_NS) {
        (void)sp_zygote_kill_leftovers(spare_none);
    }
    _exit(0);
}
