#include "init/landlock_tier.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stage.h"
#include "common/tree.h"
#include "init/confine.h"
#include "init/kill.h"
#include "init/proc.h"
#include "init/supervise.h"

/* How many processes the user may start outside, after the sandbox was created, before tenants cannot start any. */
#define PROCESSES_OF_OTHERS 256
#define PROCESSES_TIMES 4

#define HOME "HOME="
#define TMPDIR "TMPDIR="

static char home[sizeof HOME + PATH_MAX] = HOME;
static char tmpdir[sizeof TMPDIR + PATH_MAX] = TMPDIR;
static int inner = -1; /* the rules of D2 */
static bool scoped;    /* Landlock keeps signals inside */
static pid_t group;    /* of the tenants; 0: none. Only where they are grouped */
static uint64_t processes_of_user;

/* Where the supervisor changes files: the directory of the lease, and the writable binds as D2 has them. */
static struct sp_supervised places[SP_SUPERVISED_MAX];
static unsigned n_places;

static uid_t tenant_id(void) { return SP_LEASE_ID + (uid_t)getpid(); }

bool sp_tier_is_grouped(const struct sp_plan *plan) {
    return sp_in_landlock_tier(plan) && !scoped && !sp_has_lease_ids(plan);
}

/* ---- init ---- */

/* Landlock, or the ids, let init signal its tenants only. */
static bool is_in_reach(int pid) { return pid != getpid() && kill(pid, 0) == 0; }

static bool is_in_group(int pid) { return group != 0 && getpgid(pid) == group; }

/* The directory /proc/PID/task has two links and one for each thread. */
static uint64_t count_processes(uid_t uid) {
    struct sp_listing list;
    char task[32];
    uint64_t count = 0;
    sp_auto_fd int proc = sp_listing_open(&list, SP_PROC_FD, ".");
    for (const char *pid; proc != -1 && (pid = sp_listing_next(&list)) != NULL;) {
        struct stat st;
        const char *end = task + sizeof task;
        char *at = sp_append(sp_append(task, end, pid), end, "/task");
        bool is_users = at != NULL && fstatat(proc, task, &st, 0) == 0 && st.st_uid == uid;
        count += is_users && st.st_nlink > 2 ? (uint64_t)st.st_nlink - 2 : 0;
    }
    return count;
}

uint64_t sp_tier_processes(const struct sp_plan *plan) {
    const uint64_t most = plan->config.max_processes;
    if (sp_has_lease_ids(plan)) {
        return most;
    }
    const uint64_t times = most * PROCESSES_TIMES;
    return processes_of_user + (times > PROCESSES_OF_OTHERS ? times : PROCESSES_OF_OTHERS);
}

static int make_directory(const struct sp_plan *plan, struct sp_rec_failed *why) {
    char *path = home + strlen(HOME);
    const char *end = home + sizeof home;
    char *at = sp_append_number(sp_append(sp_append(path, end, plan->leases), end, "/l"), end, plan->lease);
    if (at == NULL || mkdir(path, 0700) != 0) {
        return sp_failed(why, SP_STAGE_SCRATCH, at == NULL ? ENAMETOOLONG : errno, plan->leases);
    }
    if (chdir(path) != 0) { /* while it belongs to this process, which may have no right to another's */
        return sp_failed(why, SP_STAGE_SCRATCH, errno, path);
    }
    if (sp_has_lease_ids(plan) && chown(path, tenant_id(), tenant_id()) != 0) {
        return sp_failed(why, SP_STAGE_SCRATCH, errno, "owner of the directory");
    }
    (void)sp_append(tmpdir + strlen(TMPDIR), tmpdir + sizeof tmpdir, path);
    return 0;
}

/* The bounding set is emptied before, because only root can do that. */
static int take_ids(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const uid_t id = tenant_id();
    const uid_t own = id - SP_LEASE_ID + SP_LEASE_ID_OF_INIT;
    for (unsigned long cap = 0; cap < plan->n_capabilities; cap++) {
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
    if (setgroups(0, NULL) != 0 && errno != EPERM) {
        return sp_failed(why, SP_STAGE_DROP_ROOT, errno, "setgroups");
    }
    return setresgid(id, id, id) == 0 && setresuid(own, id, own) == 0
               ? 0
               : sp_failed(why, SP_STAGE_DROP_ROOT, errno, "ids of a lease");
}

/* A zygote that is an interpreter is not root, but may become it again. */
static int become_root(const struct sp_plan *plan, struct sp_rec_failed *why) {
    bool is_needed = sp_has_lease_ids(plan) && geteuid() != 0;
    return !is_needed || setresuid(0, 0, 0) == 0 ? 0 : sp_failed(why, SP_STAGE_DROP_ROOT, errno, "ids of root");
}

int sp_tier_enter(const struct sp_plan *plan, struct sp_rec_failed *why) {
    int rc = become_root(plan, why);
    rc = rc != 0 ? rc : make_directory(plan, why);
    if (rc == 0 && (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || setsid() == -1)) {
        rc = sp_failed(why, SP_STAGE_NAMESPACES, errno, "subreaper");
    }
    if (rc == 0 && sp_has_lease_ids(plan)) {
        rc = take_ids(plan, why);
    } else if (rc == 0 && plan->config.max_processes != 0) {
        processes_of_user = count_processes(geteuid());
    }
    /* After the change of ids, which clears it. The zygote has one thread. */
    if (rc == 0 && prctl(PR_SET_PDEATHSIG, SP_KILL_SIGNAL, 0, 0, 0) != 0) {
        rc = sp_failed(why, SP_STAGE_NAMESPACES, errno, "end with the zygote");
    }
    return rc == 0 && sp_tier_is_orphan(plan) ? sp_failed(why, SP_STAGE_NAMESPACES, ESRCH, "the zygote") : rc;
}

static void add_place(int fd, const char *name) {
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own != -1) {
        places[n_places++] = (struct sp_supervised){own, name};
    }
}

/* Rules are made for D2 first, and `inner` is known then. */
int sp_tier_check_bind(int path, const struct sp_landlock_rule *rule) {
    int rc = sp_tree_check(path, rule->path, rule->writable, "");
    if (rc == 0 && rule->writable && inner == -1 && n_places < SP_SUPERVISED_MAX - 1) {
        add_place(path, rule->path);
    }
    return rc;
}

int sp_tier_restrict(const struct sp_plan *plan, uint32_t *abi, struct sp_rec_failed *why) {
    const struct sp_landlock_rule own[] = {{.path = home + strlen(HOME), .writable = true}, SP_TIER_OF_INIT};
    const struct sp_landlock_rules rules = {
        .rules = plan->rules, .n_rules = plan->n_rules, .more = own, .n_more = sizeof own / sizeof own[0]};
    struct sp_landlock_rules of_tenant = rules;
    const uint32_t most = plan->config.landlock_abi_max;
    const char *failed = "landlock";
    of_tenant.n_more = 1;
    int found = sp_landlock_abi(most);
    if (found <= 0) { /* without Landlock, nothing would keep a tenant from the user's files */
        return sp_failed(why, SP_STAGE_LANDLOCK, found == 0 ? ENOSYS : -found, failed);
    }
    inner = sp_landlock_make(&of_tenant, most, true, &failed);
    sp_auto_fd int outer = inner < 0 ? inner : sp_landlock_make(&rules, most, true, &failed);
    int rc = outer < 0 ? outer : sp_landlock_enter(outer, most);
    if (rc != 0) {
        return sp_failed(why, failed[0] == '/' ? SP_STAGE_BIND : SP_STAGE_LANDLOCK, -rc, failed);
    }
    *abi = (uint32_t)found;
    scoped = found >= SP_LANDLOCK_SCOPED;
    sp_proc_share(sp_tier_is_grouped(plan) ? is_in_group : is_in_reach);
    return 0;
}

int sp_tier_supervise(const struct sp_plan *plan, struct sp_rec_failed *why) {
    if (sp_has_lease_ids(plan)) { /* the ids decide whose a file is, and who may send a signal */
        while (n_places > 0) {
            sp_fd_close(&places[--n_places].fd);
        }
        return 0;
    }
    sp_auto_fd int own = open(home + strlen(HOME), O_PATH | O_DIRECTORY | O_CLOEXEC);
    add_place(own, home + strlen(HOME));
    const bool signals = sp_tier_is_grouped(plan);
    int rc = sp_supervise_start(places, n_places);
    rc = rc != 0 ? rc : sp_supervise_listen(signals);
    rc = rc != 0 ? sp_supervise_refuse(signals) : 0;
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_SECCOMP, -rc, "filter of the supervisor");
}

bool sp_tier_is_orphan(const struct sp_plan *plan) { return sp_in_landlock_tier(plan) && getppid() != plan->zygote; }

/*
 * While a tenant lives, or is not reaped, init has a child: the number of a group then belongs to nobody else. The
 * result of kill(-1) says nothing, because the kernel counts the processes that it may not signal, too.
 */
int sp_tier_kill(const struct sp_plan *plan) {
    siginfo_t info;
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        return -1;
    }
    if (!sp_tier_is_grouped(plan)) {
        (void)kill(-1, SIGKILL);
    } else if (group != 0) {
        (void)sp_signal(-group, SIGKILL);
    }
    return 0;
}

void sp_tier_all_ended(void) { group = 0; }

/* Joins the group, or opens it when nobody is in it. */
static void join(pid_t pid) {
    if (group == 0 || setpgid(pid, group) != 0) {
        (void)setpgid(pid, pid);
    }
}

void sp_tier_started(const struct sp_plan *plan, pid_t child) {
    if (sp_tier_is_grouped(plan)) {
        join(child);
        pid_t found = getpgid(child);
        group = found > 0 && found != getpgrp() ? found : group;
    }
}

/* ---- a child ---- */

int sp_tier_child(const struct sp_plan *plan) {
    if (!sp_in_landlock_tier(plan)) {
        return 0;
    }
    if (sp_tier_is_grouped(plan)) {
        join(0);
    }
    int rc = sp_landlock_enter(inner, plan->config.landlock_abi_max);
    if (rc == 0 && sp_has_lease_ids(plan)) {
        /* Bare calls: the C library's functions would change all threads, and this process shares init's memory. */
        const uid_t id = geteuid();
        rc = syscall(SYS_setresuid, id, id, id) == 0 ? 0 : -errno;
    }
    return rc;
}

void sp_tier_set_home(char **env) {
    for (; *env != NULL; env++) {
        if (strcmp(*env, HOME "/tmp") == 0) {
            *env = home;
        } else if (strcmp(*env, TMPDIR "/tmp") == 0) {
            *env = tmpdir;
        }
    }
}
