#include "init/leftovers.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fact.h"
#include "common/fd.h"
#include "common/text.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "init/proc.h"

#define MARK RLIMIT_LOCKS
#define MARKED_MAX INT32_MAX /* a number that every program prints as such */
#define KNOWN_MAX 16384      /* those beyond count as new. Pages of the lists that no pid needs take no memory */

/* Those that were killed by the last call and by the one before, in the order of their pids. */
static struct known {
    pid_t pids[KNOWN_MAX];
    unsigned n;
} known[2];
static unsigned latest;

void sp_leftovers_mark(void) {
    struct rlimit limit;
    if (getrlimit(MARK, &limit) == 0 && limit.rlim_max != 0) {
        limit.rlim_max = limit.rlim_max > MARKED_MAX ? MARKED_MAX : limit.rlim_max - 1;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(MARK, &limit);
    }
}

/* "Max file locks            unlimited            1234                 locks     ", see proc_pid_limits(5) */
static bool is_marked_by_text(int proc, const char *pid, const struct rlimit *own) {
    char path[64];
    char text[4096];
    const char *end = path + sizeof path;
    uint64_t soft = 0;
    if (sp_append(sp_append(path, end, pid), end, "/limits") == NULL || !sp_read_text(proc, path, text, sizeof text)) {
        return false;
    }
    /* The mark lowers both limits; one that is unlimited is no number. */
    return sp_find_number(text, "\nMax file locks", &soft) && soft != 0 && soft < own->rlim_max;
}

/* In the Landlock tier a lease may have ids of its own, which are not those of init: then prlimit() is refused. */
static bool is_marked(int proc, const char *name, const struct rlimit *own) {
    struct rlimit limit;
    struct stat st;
    if (prlimit((pid_t)strtol(name, NULL, 10), MARK, NULL, &limit) == 0) {
        return limit.rlim_max < own->rlim_max;
    }
    bool is_tenant =
        errno == EPERM && getuid() != geteuid() && fstatat(proc, name, &st, 0) == 0 && st.st_uid == geteuid();
    return is_tenant && is_marked_by_text(proc, name, own);
}

/* `at` is a place in the list, which is left where the next pid is looked for: /proc lists them in their order. */
static bool was_killed(const struct known *before, unsigned *at, pid_t pid) {
    while (*at < before->n && before->pids[*at] < pid) {
        ++*at;
    }
    return *at < before->n && before->pids[*at] == pid;
}

static void remember(struct known *now, pid_t pid) {
    if (now->n < KNOWN_MAX) {
        now->pids[now->n++] = pid;
    }
}

static enum sp_leftovers kill_all(const struct sp_plan *plan) {
    return sp_kill_tenants(plan) == 0 ? SP_LEFTOVERS_KILLED : SP_LEFTOVERS_NONE;
}

enum sp_leftovers sp_leftovers_kill_marked(const struct sp_plan *plan) {
    const struct known *before = &known[latest];
    struct known *now = &known[latest ^= 1];
    enum sp_leftovers found = SP_LEFTOVERS_NONE;
    unsigned at = 0;
    struct rlimit own;
    struct sp_listing list;
    /* Where tenants stay in one group, signals are kept inside by nothing, and a mark may be another process's. */
    bool has_proc = sp_in_landlock_tier(plan) ? !sp_tier_is_grouped(plan) : (plan->left_out & SP_FACT_OWN_PROC) == 0;
    sp_auto_fd int proc = has_proc ? sp_listing_open(&list, -1, "/proc") : -1;
    now->n = 0;
    /* Without a /proc of its own, init does not see the processes; with a limit of 0, none of them has a mark. */
    if (proc == -1 || getrlimit(MARK, &own) != 0 || own.rlim_max == 0) {
        return kill_all(plan);
    }
    for (const char *name; (name = sp_listing_next(&list)) != NULL;) {
        pid_t pid = (pid_t)strtol(name, NULL, 10);
        /* In the Landlock tier others may have the mark, out of reach. */
        if (pid > 1 && is_marked(proc, name, &own) && sp_signal(pid, SIGKILL) == 0) {
            bool again = was_killed(before, &at, pid);
            found = found == SP_LEFTOVERS_NEW || !again ? SP_LEFTOVERS_NEW : SP_LEFTOVERS_KILLED;
            remember(now, pid);
        }
    }
    return list.filled < 0 ? kill_all(plan) : found; /* there may be some that were not listed */
}

/* Every orphan of the sandbox becomes a child of init, so when init has no children, there is no other process. */
void sp_leftovers_kill_all(const struct sp_plan *plan) {
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
        (void)sp_kill_tenants(plan);
        while (waitpid(-1, NULL, 0) > 0) {
        }
    }
}
