/*
 * Proofs of the Landlock tier. What a tenant can reach is tried by a process that becomes just like one, in the
 * rehearsal: its domain and its filter are those of every command.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fact.h"
#include "common/fd.h"
#include "init/confine.h"
#include "init/landlock_tier.h"
#include "init/prove.h"

enum { UNREAD = 1, UNWRITTEN = 2, UNSIGNALLED = 4 };

static bool is_refused(const char *path, int flags) {
    sp_auto_fd int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd == -1 && errno == EACCES;
}

/* The directory of the leases belongs to the user, and so do the files of /proc: no mode refuses these. */
static int try_as_tenant(const struct sp_plan *plan) {
    const pid_t init = getppid();
    if (sp_tier_child(plan) != 0 || sp_install_filter(&plan->exec_filter) != 0) {
        return 0;
    }
    bool unread = is_refused("/", O_RDONLY | O_DIRECTORY) && is_refused(plan->leases, O_RDONLY | O_DIRECTORY) &&
                  is_refused("/proc/self/status", O_RDONLY);
    bool unwritten = is_refused("../written", O_WRONLY | O_CREAT | O_EXCL) &&
                     is_refused("/tmp/written-by-a-tenant", O_WRONLY | O_CREAT | O_EXCL);
    bool unsignalled = kill(init, 0) == -1 && errno == EPERM && kill(plan->zygote, 0) == -1 && errno == EPERM;
    return (unread ? UNREAD : 0) | (unwritten ? UNWRITTEN : 0) | (unsignalled ? UNSIGNALLED : 0);
}

static int found_by_tenant(const struct sp_plan *plan) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        _exit(try_as_tenant(plan));
    }
    return child != -1 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* Nobody else has these ids, so the kernel's count of processes is the lease's own. */
static bool has_own_ids(void) {
    uid_t real;
    uid_t effective;
    uid_t saved;
    uid_t id = SP_LEASE_ID + (uid_t)getpid();
    return getresuid(&real, &effective, &saved) == 0 && effective == id &&
           real == id - SP_LEASE_ID + SP_LEASE_ID_OF_INIT && saved == real && getegid() == id;
}

uint32_t sp_prove_tier(const struct sp_plan *plan) {
    uint32_t facts = has_own_ids() ? SP_FACT_ID_MAP : 0;
    /* The kernel asks Landlock before it checks CAP_MKNOD; the directory is the lease's own. */
    facts |= mknod("device", S_IFBLK, makedev(1, 0)) == -1 && errno == EACCES ? SP_FACT_LANDLOCK_DENIES : 0;
    if (plan->rehearsed == 0) {
        int found = found_by_tenant(plan);
        facts |= (found & UNREAD) != 0 ? SP_FACT_HOST_UNREAD : 0;
        facts |= (found & UNWRITTEN) != 0 ? SP_FACT_HOST_UNWRITTEN : 0;
        facts |= (found & UNSIGNALLED) != 0 ? SP_FACT_HOST_UNSIGNALLED : 0;
    }
    return facts;
}
