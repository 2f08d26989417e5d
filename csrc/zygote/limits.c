/*
 * The limits that the zygote and all sandboxes have, whatever the host's are. Those that init does not lower further
 * are inherited, which costs a sandbox nothing.
 */
#include <errno.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/stage.h"
#include "init/confine.h"
#include "zygote/zygote.h"

#define MIB ((rlim_t)1 << 20)

/* The hard limit that getrlimit() returns stays if it is higher than `hard`, unless `exact` is set. */
static const struct limit {
    const char *name;
    rlim_t soft, hard;
    int resource;
    bool exact;
} limits[] = {
    /* Inherited by the commands. An unlimited soft limit of the stack would change the layout of memory (mmap(2)). */
    {"RLIMIT_STACK", 8 * MIB, RLIM_INFINITY, RLIMIT_STACK, true},
    {"RLIMIT_AS", RLIM_INFINITY, RLIM_INFINITY, RLIMIT_AS, true},
    {"RLIMIT_CPU", RLIM_INFINITY, RLIM_INFINITY, RLIMIT_CPU, true},
    {"RLIMIT_RSS", RLIM_INFINITY, RLIM_INFINITY, RLIMIT_RSS, true},
    {"RLIMIT_LOCKS", RLIM_INFINITY, RLIM_INFINITY, RLIMIT_LOCKS, true},
    {"RLIMIT_RTTIME", RLIM_INFINITY, RLIM_INFINITY, RLIMIT_RTTIME, true},
    {"RLIMIT_MSGQUEUE", 819200, 819200, RLIMIT_MSGQUEUE, true},
    {"RLIMIT_NICE", 0, 0, RLIMIT_NICE, true},
    {"RLIMIT_RTPRIO", 0, 0, RLIMIT_RTPRIO, true},
    {"RLIMIT_CORE", 1, 1, RLIMIT_CORE, true}, /* see init/confine.c */
    /* Lowered by init, where the configuration has a limit. */
    {"RLIMIT_FSIZE", RLIM_INFINITY, RLIM_INFINITY, RLIMIT_FSIZE, true},
    {"RLIMIT_DATA", RLIM_INFINITY, RLIM_INFINITY, RLIMIT_DATA, true},
    /* Counted for the user of the host. The soft limit becomes the bound of the zygote's user namespace for all its
     * sandboxes together. Each cloned tree and each live sandbox may keep a descriptor open in the zygote. */
    {"RLIMIT_NOFILE", RLIM_INFINITY, 2 * SP_NOFILE_MAX, RLIMIT_NOFILE, false},
    {"RLIMIT_NPROC", RLIM_INFINITY, 0, RLIMIT_NPROC, false},
    {"RLIMIT_SIGPENDING", RLIM_INFINITY, 1024, RLIMIT_SIGPENDING, false},
    {"RLIMIT_MEMLOCK", RLIM_INFINITY, MIB, RLIMIT_MEMLOCK, false},
};

static rlim_t lower_of(rlim_t a, rlim_t b) { return a < b ? a : b; }

/* Only CAP_SYS_RESOURCE may raise a hard limit. Without it the host's stays, if it is lower: see low_limits() in
 * pysandpool/_backend/rlimits.py, which reports that. */
static int set_limit(const struct limit *limit) {
    struct rlimit now;
    if (getrlimit(limit->resource, &now) != 0) {
        return -errno;
    }
    rlim_t hard = limit->exact || now.rlim_max < limit->hard ? limit->hard : now.rlim_max;
    struct rlimit wanted = {.rlim_cur = lower_of(limit->soft, hard), .rlim_max = hard};
    if (setrlimit(limit->resource, &wanted) == 0) {
        return 0;
    }
    if (errno != EPERM) {
        return -errno;
    }
    hard = lower_of(hard, now.rlim_max);
    wanted = (struct rlimit){.rlim_cur = lower_of(limit->soft, hard), .rlim_max = hard};
    return setrlimit(limit->resource, &wanted) == 0 ? 0 : -errno;
}

/* A kernel without huge pages may not know the option. */
int sp_zygote_leave_huge_pages(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const bool is_watched = plan->config.memory_bytes != 0;
    const bool done = !is_watched || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 || errno == EINVAL;
    return done ? 0 : sp_failed(why, SP_STAGE_LIMITS, errno, "PR_SET_THP_DISABLE");
}

int sp_zygote_set_limits(struct sp_rec_failed *why) {
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        int rc = set_limit(&limits[i]);
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_LIMITS, -rc, limits[i].name);
        }
    }
    return 0;
}
