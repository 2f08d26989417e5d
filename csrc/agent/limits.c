/*
 * What a process can limit for itself and its children. Not the number of processes: RLIMIT_NPROC counts all that the
 * user runs, where ids have no namespace.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/resource.h>

#include "agent/agent.h"
#include "common/stage.h"

/* A limit never rises above what this process has: without privilege the system would refuse it. */
static int set_limit(int resource, uint64_t wanted) {
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) {
        return -errno;
    }
    rlim_t value = wanted < now.rlim_max ? (rlim_t)wanted : now.rlim_max;
    const struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &both) == 0 ? 0 : -errno;
}

int sp_agent_limit(const struct sp_rec_config *config, struct sp_rec_failed *why) {
    const struct {
        const char *name;
        uint64_t value;
        int resource;
        bool unlimited;
    } limits[] = {
        {"RLIMIT_NOFILE", 1024, RLIMIT_NOFILE, false},
        {"RLIMIT_CORE", 0, RLIMIT_CORE, false},
        {"RLIMIT_MEMLOCK", 65536, RLIMIT_MEMLOCK, false},
        {"RLIMIT_FSIZE", config->scratch_bytes, RLIMIT_FSIZE, config->scratch_bytes == 0},
        {"RLIMIT_DATA", config->memory_bytes, RLIMIT_DATA, config->memory_bytes == 0},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        int rc = limits[i].unlimited ? 0 : set_limit(limits[i].resource, limits[i].value);
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_LIMITS, -rc, limits[i].name);
        }
    }
    return 0;
}
