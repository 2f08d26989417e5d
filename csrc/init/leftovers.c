#include "init/leftovers.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fact.h"
#include "common/fd.h"
#include "init/proc.h"

#define MARK RLIMIT_LOCKS
#define MARKED_MAX INT32_MAX /* a number that every program prints as such */

void sp_leftovers_mark(void) {
    struct rlimit limit;
    if (getrlimit(MARK, &limit) == 0 && limit.rlim_max != 0) {
        limit.rlim_max = limit.rlim_max > MARKED_MAX ? MARKED_MAX : limit.rlim_max - 1;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(MARK, &limit);
    }
}

static bool is_marked(pid_t pid, const struct rlimit *own) {
    struct rlimit limit;
    return prlimit(pid, MARK, NULL, &limit) == 0 && limit.rlim_max < own->rlim_max;
}

bool sp_leftovers_kill_marked(const struct sp_plan *plan) {
    struct rlimit own;
    struct sp_listing list;
    bool found = false;
    bool has_proc = (plan->left_out & SP_FACT_OWN_PROC) == 0;
    sp_auto_fd int proc = has_proc ? sp_listing_open(&list, -1, "/proc") : -1;
    /* Without a /proc of its own, init does not see the processes; with a limit of 0, none of them has a mark. */
    if (proc == -1 || getrlimit(MARK, &own) != 0 || own.rlim_max == 0) {
        return kill(-1, SIGKILL) == 0;
    }
    for (const char *name; (name = sp_listing_next(&list)) != NULL;) {
        pid_t pid = (pid_t)strtol(name, NULL, 10);
        if (pid > 1 && is_marked(pid, &own)) {
            (void)kill(pid, SIGKILL);
            found = true;
        }
    }
    return found;
}

/* Every orphan of the sandbox becomes a child of init, so when init has no children, there is no other process. */
void sp_leftovers_kill_all(void) {
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
        (void)kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0) {
        }
    }
}
