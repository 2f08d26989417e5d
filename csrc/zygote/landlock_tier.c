/*
 * The zygote where the kernel refuses namespaces: it keeps the user's ids, or root's if each lease gets ids of its own,
 * and builds no root. What holds the sandboxes together is in init/landlock_tier.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fact.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/landlock.h"
#include "init/landlock_tier.h"
#include "zygote/zygote.h"

#define RULES_MAX (SP_BINDS_MAX + 256)
/* If there are still orphans after so many rounds, all sandboxes of this zygote are killed in one call, which no fork
 * can escape. */
#define ROUNDS 100
#define ROUND_NS SP_MS(1)

/* Files about the machine and the user that programs read. A sandbox with namespaces shows them, or files of its own in
 * their place. */
static const char *const of_machine[] = {
    "/etc/gitconfig",
    "/etc/group",
    "/etc/passwd",
    "/etc/nsswitch.conf",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/version",
    "/proc/sys/kernel/ngroups_max",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/cpu/present",
};

static struct sp_landlock_rule rules[RULES_MAX];
static bool scoped;

/* ---- start ---- */

/* Like fork(2): 0 in the child, which adopts what its descendants leave, and whose signals reach nothing else if scopes
 * can be had; or the child's pid; -errno on failure, in either process. */
static int clone_adopter(unsigned long flags, int *pidfd, const struct sp_plan *plan, struct sp_rec_failed *why) {
    long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, pidfd, NULL, 0L);
    if (pid != 0) {
        return pid > 0 ? (int)pid : sp_failed(why, SP_STAGE_CLONE, errno, "clone");
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return sp_failed(why, SP_STAGE_NO_NEW_PRIVS, errno, "subreaper");
    }
    int rc = scoped ? sp_landlock_scope(plan->config.landlock_abi_max) : 0;
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_LANDLOCK, -rc, "scopes");
}

/* The first process ends, as it does with namespaces; the warden and the zygote remain. */
int sp_zygote_enter_tier(int sock, struct sp_plan *plan, struct sp_rec_failed *why) {
    int abi = sp_landlock_abi(plan->config.landlock_abi_max);
    if (abi <= 0) {
        return sp_failed(why, SP_STAGE_LANDLOCK, abi == 0 ? ENOSYS : -abi, "landlock");
    }
    scoped = abi >= SP_LANDLOCK_SCOPED;
    plan->left_out |= SP_FACT_NET_NS | SP_FACT_OWN_PROC | SP_FACT_UTS_NS | SP_FACT_CGROUP_NS;
    sp_auto_fd int pidfd = -1;
    int pid = clone_adopter(CLONE_PARENT, NULL, plan, why);
    if (pid > 0) {
        _exit(0);
    }
    /* The zygote's domain is inside of the warden's: when the zygote kills all of its own, the warden lives on. */
    pid = pid == 0 ? clone_adopter(CLONE_PIDFD, &pidfd, plan, why) : pid;
    if (pid > 0) {
        struct sp_record created = {.type = SP_REC_CREATED};
        (void)sp_packet_send(sock, &(struct sp_outgoing){.record = &created, .fds = &pidfd, .n_fds = 1}, SP_NEVER);
        sp_zygote_be_warden(pid, scoped);
    }
    plan->zygote = getpid();
    return pid;
}

int sp_zygote_tier_take_over(struct sp_plan *plan) {
    struct sp_rec_failed ignored;
    scoped = sp_landlock_abi(plan->config.landlock_abi_max) >= SP_LANDLOCK_SCOPED;
    return sp_zygote_tier_rules(plan, &ignored);
}

static void add_rule(struct sp_plan *plan, const struct sp_landlock_rule *rule) {
    if (plan->n_rules < RULES_MAX) {
        rules[plan->n_rules++] = *rule;
    }
}

static void add_shown(const char *path, bool device, void *arg) {
    bool writable = device && (strcmp(path, "/dev/null") == 0 || strcmp(path, "/dev/tty") == 0);
    /* Not what may hold passwords of servers: see copy.c. */
    if (strcmp(path, "/etc/php") != 0) {
        add_rule(arg, &(struct sp_landlock_rule){.path = path, .writable = writable, .dispensable = true});
    }
}

int sp_zygote_tier_rules(struct sp_plan *plan, struct sp_rec_failed *why) {
    umask(022);
    plan->rules = rules;
    plan->n_rules = 0;
    sp_zygote_each_shown(add_shown, plan);
    for (size_t i = 0; i < sizeof of_machine / sizeof of_machine[0]; i++) {
        add_rule(plan, &(struct sp_landlock_rule){.path = of_machine[i], .dispensable = true});
    }
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        const struct sp_plan_bind *bind = &plan->binds[i];
        if (bind->covers || bind->scratch || strcmp(bind->path, bind->source) != 0) {
            return sp_failed(why, SP_STAGE_BIND, ENOTSUP, bind->path);
        }
        if (access(bind->path, F_OK) != 0) {
            return sp_failed(why, SP_STAGE_BIND, errno, bind->path);
        }
        add_rule(plan, &(struct sp_landlock_rule){.path = bind->path,
                                                  .writable = bind->writable,
                                                  .within = bind->parent != -1 ? plan->binds[bind->parent].path : NULL,
                                                  .check = sp_tier_check_bind});
    }
    return 0;
}

/* An earlier zygote of the same host, which has ended or is outdated, may have left directories. */
void sp_zygote_tier_next(struct sp_plan *plan) {
    char path[PATH_MAX];
    const char *end = path + sizeof path;
    char *at = NULL;
    do {
        plan->lease++;
        at = sp_append_number(sp_append(sp_append(path, end, plan->leases), end, "/l"), end, plan->lease);
    } while (at != NULL && access(path, F_OK) == 0);
}

/* ---- the inits ---- */

#define LIVE_MAX 16384
static pid_t inits[LIVE_MAX];
static unsigned n_inits;

void sp_zygote_tier_created(pid_t init) {
    if (n_inits < LIVE_MAX) {
        inits[n_inits++] = init;
    }
}

static bool is_init(pid_t pid) {
    for (unsigned i = 0; i < n_inits; i++) {
        if (inits[i] == pid) {
            return true;
        }
    }
    return n_inits == LIVE_MAX; /* not known */
}

static bool forget_init(pid_t pid) {
    for (unsigned i = 0; i < n_inits; i++) {
        if (inits[i] == pid) {
            inits[i] = inits[--n_inits];
            return true;
        }
    }
    return false;
}

void sp_zygote_tier_reaped(const struct sp_plan *plan, pid_t pid, int status) {
    const struct timespec pause = {.tv_nsec = ROUND_NS};
    if (!forget_init(pid) || WIFEXITED(status)) {
        return;
    }
    if (sp_has_lease_ids(plan)) {
        sp_zygote_kill_lease(pid);
    }
    for (int round = 0; sp_zygote_kill_leftovers(is_init) && round < ROUNDS; round++) {
        if (round == ROUNDS - 1 && scoped) {
            (void)kill(-1, SIGKILL);
        }
        (void)nanosleep(&pause, NULL);
    }
}
