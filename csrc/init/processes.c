#include "init/processes.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "common/text.h"
#include "init/landlock_tier.h"
#include "init/lines.h"
#include "init/plan.h"
#include "init/proc.h"

bool sp_processes_are_of_user(void) {
    struct utsname name;
    if (uname(&name) != 0) {
        return true;
    }
    char *end;
    const unsigned long major = strtoul(name.release, &end, 10);
    const unsigned long minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;
    return major < 5 || (major == 5 && minor < 14);
}

/* Where a sandbox has no /proc, nobody can count. */
bool sp_processes_are_watched(const struct sp_plan *plan) {
    const bool is_own = sp_in_landlock_tier(plan) ? sp_has_lease_ids(plan) : !plan->processes_of_user;
    return plan->config.max_processes != 0 && !is_own;
}

bool sp_processes_have_limit(const struct sp_plan *plan) {
    return plan->config.max_processes != 0 && (sp_in_landlock_tier(plan) || !plan->processes_of_user);
}

/* The directory /proc/PID/task has two links and one for each thread. */
unsigned sp_processes_count(int proc, unsigned most) {
    struct sp_listing list;
    struct stat st;
    char task[32];
    const char *pid;
    unsigned count = 0;
    sp_listing_again(&list, proc);
    while (count <= most && (pid = sp_listing_next(&list)) != NULL) {
        const char *at = pid;
        const char *end = task + sizeof task;
        bool is_there = sp_proc_is_tenant((int)sp_number(&at, 10)) &&
                        sp_append(sp_append(task, end, pid), end, "/task") != NULL && fstatat(proc, task, &st, 0) == 0;
        count += is_there && st.st_nlink > 2 ? (unsigned)st.st_nlink - 2 : 0;
    }
    return count;
}
