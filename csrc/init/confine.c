#include "init/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fact.h"
#include "common/stage.h"
#include "init/landlock_tier.h"
#include "init/processes.h"
#include "init/stem.h"

/* So many processes init can start although the tenant has reached its limit. */
#define SPARE_PROCESSES 4

/* A limit is never raised above what init has, which the kernel would refuse without privilege. */
static int set_limit(int resource, uint64_t soft, uint64_t hard) {
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) {
        return -errno;
    }
    rlim_t cap = now.rlim_max;
    struct rlimit wanted = {.rlim_cur = soft < cap ? soft : cap, .rlim_max = hard < cap ? hard : cap};
    return setrlimit(resource, &wanted) == 0 ? 0 : -errno;
}

/* What a command gets of the limits that it shares with init; found when init confines itself, so that it costs a
 * command no call. */
static struct rlimit signals_of_command, files_of_command;

/*
 * unix(7): the kernel counts the descriptors that a user of the host has in flight in sockets, and compares the count
 * with the limit of each sender. With half of the host's limit, tenants always leave room for the sends of the host;
 * with half of init's, for those of init.
 */
static uint64_t limit_of_files(void) {
    struct rlimit now;
    return getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_max / 2 < SP_NOFILE_MAX ? now.rlim_max / 2 : SP_NOFILE_MAX;
}

static struct rlimit at_most(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit now;
    /* The host's own limit may be lower. */
    rlim_t cap = getrlimit(resource, &now) == 0 && now.rlim_max < hard ? now.rlim_max : hard;
    return (struct rlimit){.rlim_cur = soft < cap ? soft : cap, .rlim_max = cap};
}

int sp_limit_command(void) {
    return setrlimit(RLIMIT_SIGPENDING, &signals_of_command) == 0 && setrlimit(RLIMIT_NOFILE, &files_of_command) == 0
               ? 0
               : -errno;
}

static uint64_t limit_of_tenant(const struct sp_plan *plan) {
    return sp_in_landlock_tier(plan) ? sp_tier_processes(plan) : plan->config.max_processes + 1;
}

void sp_limit_processes(const struct sp_plan *plan, unsigned others) {
    if (sp_processes_have_limit(plan)) {
        const uint64_t most = limit_of_tenant(plan) + others;
        const struct rlimit limit = at_most(RLIMIT_NPROC, most, most);
        (void)setrlimit(RLIMIT_NPROC, &limit); /* a limit can always be lowered */
    }
}

/* Without a /proc init cannot watch the memory of the sandbox, so there the limit holds for each process. */
static uint64_t limit_of_data(const struct sp_plan *plan) {
    const struct sp_rec_config *c = &plan->config;
    bool is_watched = (plan->left_out & SP_FACT_OWN_PROC) == 0 || sp_in_landlock_tier(plan);
    bool has_own = is_watched || c->memory_bytes == 0 || (c->data_bytes != 0 && c->data_bytes < c->memory_bytes);
    return has_own ? c->data_bytes : c->memory_bytes;
}

uint64_t sp_limit_of_data(const struct sp_plan *plan) {
    const uint64_t data = limit_of_data(plan);
    return data == 0 || plan->stem == NULL ? data : data + plan->stem->data_bytes;
}

void sp_limit_data_of_exec(const struct sp_plan *plan) {
    const uint64_t data = plan->stem != NULL ? limit_of_data(plan) : 0;
    if (data != 0) {
        const struct rlimit limit = at_most(RLIMIT_DATA, data, data);
        (void)setrlimit(RLIMIT_DATA, &limit); /* a limit can always be lowered */
    }
}

/* In the Landlock tier an ordinary user's processes count together. The tenants of a sandbox that was created later may
 * start more than those of this one. If init's limit were near that of its own tenants, it could start nothing then. */
uint64_t sp_limit_of_processes(const struct sp_plan *plan) {
    const bool has_none = plan->config.max_processes == 0 || sp_processes_are_watched(plan);
    return has_none ? 0 : limit_of_tenant(plan) + SPARE_PROCESSES;
}

static int set_limits(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const struct sp_rec_config *c = &plan->config;
    uint64_t data = sp_limit_of_data(plan);
    uint64_t files = limit_of_files();
    uint64_t processes = sp_limit_of_processes(plan);
    /* 0 means unlimited: the zygote's limit stays. The zygote has set those that are missing here. NPROC counts init,
     * too. Those of the tenant are lower, see sp_limit_processes(). */
    const struct {
        int resource;
        const char *name;
        uint64_t soft, hard;
    } limits[] = {
        {RLIMIT_NOFILE, "RLIMIT_NOFILE", files < 1024 ? files : 1024, 2 * files},
        {RLIMIT_CORE, "RLIMIT_CORE", 1, 1}, /* not 0: core(5), with 0 the host's core_pattern helper is started */
        {RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING", 1024, 1024},
        {RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", 64 * 1024, 64 * 1024},
        {RLIMIT_FSIZE, "RLIMIT_FSIZE", c->scratch_bytes, c->scratch_bytes},
        {RLIMIT_DATA, "RLIMIT_DATA", data, data},
        {RLIMIT_NPROC, "RLIMIT_NPROC", processes, processes},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        int rc = limits[i].hard == 0 ? 0 : set_limit(limits[i].resource, limits[i].soft, limits[i].hard);
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_LIMITS, -rc, limits[i].name);
        }
    }
    signals_of_command = at_most(RLIMIT_SIGPENDING, 256, 256);
    files_of_command = at_most(RLIMIT_NOFILE, 1024, files);
    return 0;
}

/*
 * The bounding set comes first: dropping from it needs CAP_SETPCAP, which capset gives up. In the Landlock tier an
 * ordinary user does not have it; no_new_privs then keeps capabilities away, also from root's programs.
 */
static int drop_capabilities(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const bool may_keep = sp_in_landlock_tier(plan);
    for (unsigned long cap = 0; cap < plan->n_capabilities; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) {
            if (may_keep && errno == EPERM) {
                break;
            }
            return sp_failed(why, SP_STAGE_CAPS, errno, "bounding set");
        }
    }
    unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
                         SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED | SECBIT_KEEP_CAPS_LOCKED;
    if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) != 0 && !(may_keep && errno == EPERM)) {
        return sp_failed(why, SP_STAGE_CAPS, errno, "securebits");
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capset, &header, none) != 0) {
        return sp_failed(why, SP_STAGE_CAPS, errno, "capset");
    }
    return 0;
}

int sp_install_filter(const struct sp_plan_filter *filter) {
    if (filter->len == 0) {
        return 0;
    }
    struct sock_fprog program = {.len = filter->len, .filter = (struct sock_filter *)(uintptr_t)filter->insns};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0 ? 0 : -errno;
}

/* The mounts decide what exists. Landlock restricts writing once more, in case a mount flag misses something. */
static int enter_landlock(const struct sp_plan *plan, uint32_t *abi, struct sp_rec_failed *why) {
    bool deny_tcp = (plan->config.flags & SP_CONFIG_DENY_TCP) != 0;
    const char *failed = NULL;
    int rc = sp_landlock_restrict(plan->rules, plan->n_rules, plan->config.landlock_abi_max, deny_tcp, &failed);
    *abi = rc > 0 ? (uint32_t)rc : 0;
    return rc >= 0 || sp_may_leave_out(plan, -rc) ? 0 : sp_failed(why, SP_STAGE_LANDLOCK, -rc, failed);
}

int sp_confine(const struct sp_plan *plan, uint32_t *landlock_abi, struct sp_rec_failed *why) {
    int rc = set_limits(plan, why);
    rc = rc != 0 ? rc : drop_capabilities(plan, why);
    if (rc != 0) {
        return rc;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return sp_failed(why, SP_STAGE_NO_NEW_PRIVS, errno, NULL);
    }
    const bool in_tier = sp_in_landlock_tier(plan);
    rc = in_tier ? sp_tier_restrict(plan, landlock_abi, why) : enter_landlock(plan, landlock_abi, why);
    rc = rc == 0 && in_tier ? sp_tier_supervise(plan, why) : rc;
    if (rc != 0) {
        return rc;
    }
    /* After every step that may need its own /proc/self files, and before the filter, under which this call would have
     * no effect. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return sp_failed(why, SP_STAGE_CAPS, errno, "undumpable");
    }
    rc = sp_install_filter(&plan->init_filter);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_SECCOMP, -rc, "filter of init");
}
