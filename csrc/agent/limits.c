/*
 * The resource limits that the agent sets for itself and its children. The number of processes is not among them:
 * without a user namespace, RLIMIT_NPROC counts all processes of the user.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>

#include "agent/agent.h"
#include "common/stage.h"

/* A limit is never raised above what this process has, which the system would refuse without privilege. */
static int set_limit(int resource, uint64_t wanted) {
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) {
        return -errno;
    }
    rlim_t value = wanted < now.rlim_max ? (rlim_t)wanted : now.rlim_max;
    const struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &both) == 0 ? 0 : -errno;
}

struct limit {
    const char *name;
    uint64_t value; /* 0 means unlimited if `optional` is set */
    int resource;
    bool optional;
};
#define LIMITS 5

static void limits_of(const struct sp_rec_config *config, struct limit limits[LIMITS]) {
    const struct limit all[LIMITS] = {
        {"RLIMIT_NOFILE", 1024, RLIMIT_NOFILE, false},
        {"RLIMIT_CORE", 0, RLIMIT_CORE, false},
        {"RLIMIT_MEMLOCK", 65536, RLIMIT_MEMLOCK, false},
        {"RLIMIT_FSIZE", config->scratch_bytes, RLIMIT_FSIZE, true},
        {"RLIMIT_DATA", config->memory_bytes, RLIMIT_DATA, true},
    };
    memcpy(limits, all, sizeof all);
}

static bool is_set(const struct limit *limit) { return !limit->optional || limit->value != 0; }

int sp_agent_limit(const struct sp_rec_config *config, struct sp_rec_failed *why) {
    struct limit limits[LIMITS];
    limits_of(config, limits);
    for (int i = 0; i < LIMITS; i++) {
        int rc = is_set(&limits[i]) ? set_limit(limits[i].resource, limits[i].value) : 0;
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_LIMITS, -rc, limits[i].name);
        }
    }
    return 0;
}

bool sp_agent_is_limited(const struct sp_rec_config *config) {
    struct limit limits[LIMITS];
    struct rlimit now;
    limits_of(config, limits);
    for (int i = 0; i < LIMITS; i++) {
        if (is_set(&limits[i]) && (getrlimit(limits[i].resource, &now) != 0 || now.rlim_max > limits[i].value)) {
            return false;
        }
    }
    return true;
}
