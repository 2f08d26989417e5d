/* sources: csrc/common/fd.c csrc/common/text.c csrc/common/wire.c csrc/init/proc.c */
/*
 * What init does in the Landlock tier: where each step can fail, and whom it kills. Landlock, the supervisor and the
 * check of binds are replaced; the file itself is part of this program. Each test runs in a child, which changes.
 */
#include <signal.h>

#include "refused.h"

static unsigned killed_all;

/* Signals to all processes are counted only: root would reach all of the machine. */
static int safe_kill(pid_t pid, int number) {
    killed_all += pid == -1;
    return pid == -1 ? 0 : kill(pid, number);
}
#define kill safe_kill

/* NOLINTBEGIN(bugprone-suspicious-include): its static functions are tested */
#include "init/landlock_tier.c"
/* NOLINTEND(bugprone-suspicious-include) */

#define PR_ODD 1u            /* of the prctl() calls of these tests, PR_SET_PDEATHSIG alone is odd */
#define PR_SUBREAPER_BIT 32u /* and PR_SET_CHILD_SUBREAPER alone has this bit */

static char leases[] = "/tmp/sandpool-test-XXXXXX";
static char own[sizeof leases + 8];

static struct {
    int abi, entered, listens, starts, refuses, checked;
    int made[2]; /* what sp_landlock_make() returns for D2, and for D1; 0: a descriptor */
    const char *failed;
    unsigned n_made, n_places;
    bool signals;
} the;

int sp_landlock_abi(uint32_t abi_max) {
    (void)abi_max;
    return the.abi;
}

int sp_landlock_make(const struct sp_landlock_rules *rules, uint32_t abi_max, bool deny_tcp, const char **failed) {
    (void)abi_max, (void)deny_tcp;
    for (unsigned i = 0; i < rules->n_rules; i++) {
        if (rules->rules[i].check != NULL) {
            (void)rules->rules[i].check(0, &rules->rules[i]);
        }
    }
    int rc = the.made[the.n_made++];
    *failed = the.failed;
    return rc != 0 ? rc : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int sp_landlock_enter(int ruleset, uint32_t abi_max) {
    (void)ruleset, (void)abi_max;
    return the.entered;
}

int sp_tree_check(int source, const char *path, bool writable, const char *base) {
    (void)source, (void)path, (void)writable, (void)base;
    return the.checked;
}

int sp_supervise_start(const struct sp_supervised *at, unsigned n) {
    (void)at;
    the.n_places = n;
    return the.starts;
}

int sp_supervise_listen(bool signals) {
    the.signals = signals;
    return the.listens;
}

int sp_supervise_refuse(bool signals) {
    the.signals = signals;
    return the.refuses;
}

int sp_signal(pid_t pid, int number) { return kill(pid, number); }

static struct sp_plan plan_of(uint32_t flags) {
    struct sp_plan plan = {.leases = leases, .lease = 7, .zygote = getppid(), .n_capabilities = 1};
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER | flags;
    plan.config.max_processes = 10;
    return plan;
}

static void apart(void (*test)(void)) { CHECK(in_child(test, 60) == 0); }

/* ---- entering ---- */

static const char *wanted_detail;
static int wanted_errno;
static uint32_t wanted_stage;

static void enters(const struct sp_plan *plan) {
    struct sp_rec_failed why = {0};
    int rc = sp_tier_enter(plan, &why);
    (void)rmdir(own);
    CHECK(rc == -wanted_errno && why.stage == wanted_stage && (uint32_t)wanted_errno == why.err);
    CHECK(wanted_detail == NULL || strcmp(why.detail, wanted_detail) == 0);
}

static void want(uint32_t stage, int err, const char *detail) {
    wanted_stage = stage;
    wanted_errno = err;
    wanted_detail = detail;
}

static void enter_well(void) {
    const struct sp_plan plan = plan_of(0);
    char cwd[PATH_MAX];
    want(0, 0, NULL);
    struct sp_rec_failed why = {0};
    CHECK(sp_tier_enter(&plan, &why) == 0 && getcwd(cwd, sizeof cwd) != NULL);
    CHECK(strcmp(cwd, own) == 0 && getsid(0) == getpid() && rmdir(cwd) == 0);
    CHECK(processes_of_user >= 1 && sp_tier_processes(&plan) == processes_of_user + PROCESSES_OF_OTHERS);
    struct sp_plan wide = plan;
    wide.config.max_processes = 1000;
    CHECK(sp_tier_processes(&wide) == processes_of_user + 1000 * PROCESSES_TIMES);
}

static void enter_too_long(void) {
    static char path[PATH_MAX];
    struct sp_plan plan = plan_of(0);
    memset(path, 'x', sizeof path - 1);
    plan.leases = path;
    want(SP_STAGE_SCRATCH, ENAMETOOLONG, NULL);
    enters(&plan);
}

static void enter_missing(void) {
    struct sp_plan plan = plan_of(0);
    plan.leases = "/no/such/directory";
    want(SP_STAGE_SCRATCH, ENOENT, "/no/such/directory");
    enters(&plan);
}

static void enter_refused(int call, uint32_t flags, int err) {
    const struct sp_plan plan = plan_of(flags);
    refuse(call, err);
    enters(&plan);
}

static void enter_no_chdir(void) {
    want(SP_STAGE_SCRATCH, EACCES, own);
    enter_refused(SYS_chdir, 0, EACCES);
}

static void enter_no_chown(void) {
    want(SP_STAGE_SCRATCH, EACCES, "owner of the directory");
#ifdef SYS_chown
    refuse(SYS_chown, EACCES);
#endif
    enter_refused(SYS_fchownat, SP_CONFIG_LEASE_UIDS, EACCES);
}

static void enter_no_session(void) {
    want(SP_STAGE_NAMESPACES, EACCES, "subreaper");
    enter_refused(SYS_setsid, 0, EACCES);
}

static void enter_no_subreaper(void) {
    const struct sp_plan plan = plan_of(0);
    want(SP_STAGE_NAMESPACES, EACCES, "subreaper");
    refuse_flagged(SYS_prctl, EACCES, 0, PR_SUBREAPER_BIT);
    enters(&plan);
}

static void enter_no_end_with_the_zygote(void) {
    const struct sp_plan plan = plan_of(0);
    want(SP_STAGE_NAMESPACES, EACCES, "end with the zygote");
    refuse_flagged(SYS_prctl, EACCES, 0, PR_ODD);
    enters(&plan);
}

static void enter_as_an_orphan(void) {
    struct sp_plan plan = plan_of(0);
    plan.zygote = getpid();
    CHECK(sp_tier_is_orphan(&plan));
    want(SP_STAGE_NAMESPACES, ESRCH, "the zygote");
    enters(&plan);
}

static void steps_of_entering(void) {
    (void)snprintf(own, sizeof own, "%s/l7", leases);
    apart(enter_well);
    apart(enter_too_long);
    apart(enter_missing);
    apart(enter_no_chdir);
    apart(enter_no_session);
    apart(enter_no_subreaper);
    apart(enter_no_end_with_the_zygote);
    apart(enter_as_an_orphan);
}

/* ---- ids of a lease: for root ---- */

static void take_all_ids(void) {
    const struct sp_plan plan = plan_of(SP_CONFIG_LEASE_UIDS);
    const uid_t id = SP_LEASE_ID + (uid_t)getpid();
    struct sp_rec_failed why = {0};
    uid_t real = 0;
    uid_t effective = 0;
    uid_t saved = 0;
    CHECK(take_ids(&plan, &why) == 0 && getresuid(&real, &effective, &saved) == 0);
    CHECK(effective == id && real == saved && real == SP_LEASE_ID_OF_INIT + (uid_t)getpid() && getegid() == id);
    CHECK(getgroups(0, NULL) == 0);
    the.entered = 0;
    CHECK(sp_tier_child(&plan) == 0 && getresuid(&real, &effective, &saved) == 0);
    CHECK(real == id && effective == id && saved == id && sp_tier_processes(&plan) == 10);
}

static void take_ids_refused(int call, int err, const char *detail) {
    const struct sp_plan plan = plan_of(SP_CONFIG_LEASE_UIDS);
    struct sp_rec_failed why = {0};
    refuse(call, err);
    CHECK(take_ids(&plan, &why) == -err && why.stage == SP_STAGE_DROP_ROOT && strcmp(why.detail, detail) == 0);
}

/* In a user namespace that has given setgroups up, no process could drop a group. */
static void take_ids_with_groups(void) {
    const struct sp_plan plan = plan_of(SP_CONFIG_LEASE_UIDS);
    struct sp_rec_failed why = {0};
    refuse(SYS_setgroups, EPERM);
    CHECK(take_ids(&plan, &why) == 0 && geteuid() == SP_LEASE_ID + (uid_t)getpid());
}

static void enter_without_ids(void) {
    want(SP_STAGE_DROP_ROOT, EPERM, "ids of a lease");
    enter_refused(SYS_setresgid, SP_CONFIG_LEASE_UIDS, EPERM);
}

/* The zygote is an interpreter, which is not root. */
static void enter_as_nobody(void) {
    CHECK(setresuid(SP_LEASE_ID, SP_LEASE_ID, 0) == 0);
    want(SP_STAGE_DROP_ROOT, EPERM, "ids of root");
    enter_refused(SYS_setresuid, SP_CONFIG_LEASE_UIDS, EPERM);
}

static void enter_as_root_again(void) {
    const struct sp_plan plan = plan_of(SP_CONFIG_LEASE_UIDS);
    struct sp_rec_failed why = {0};
    CHECK(setresuid(SP_LEASE_ID, SP_LEASE_ID, 0) == 0 && become_root(&plan, &why) == 0 && geteuid() == 0);
}

static void take_no_groups(void) { take_ids_refused(SYS_setgroups, EINVAL, "setgroups"); }
static void take_no_gid(void) { take_ids_refused(SYS_setresgid, EPERM, "ids of a lease"); }
static void take_no_uid(void) { take_ids_refused(SYS_setresuid, EPERM, "ids of a lease"); }

static void child_without_ids(void) {
    const struct sp_plan plan = plan_of(SP_CONFIG_LEASE_UIDS);
    refuse(SYS_setresuid, EACCES);
    CHECK(sp_tier_child(&plan) == -EACCES);
}

static void ids_of_a_lease(void) {
    apart(take_all_ids);
    apart(take_ids_with_groups);
    apart(enter_no_chown);
    apart(enter_without_ids);
    apart(enter_as_nobody);
    apart(enter_as_root_again);
    apart(take_no_groups);
    apart(take_no_gid);
    apart(take_no_uid);
    apart(child_without_ids);
}

/* ---- Landlock ---- */

static void restricts(int rc, uint32_t stage) {
    const struct sp_plan plan = plan_of(0);
    struct sp_rec_failed why = {0};
    uint32_t abi = 99;
    the.n_made = 0;
    CHECK(sp_tier_restrict(&plan, &abi, &why) == rc && why.stage == stage);
    CHECK(abi == (rc == 0 ? (uint32_t)the.abi : 99));
}

static void steps_of_landlock(void) {
    the.abi = 0;
    restricts(-ENOSYS, SP_STAGE_LANDLOCK);
    the.abi = -EPERM;
    restricts(-EPERM, SP_STAGE_LANDLOCK);
    the.abi = 6;
    the.failed = "/some/bind";
    the.made[0] = -ENOENT;
    restricts(-ENOENT, SP_STAGE_BIND);
    the.failed = "landlock_create_ruleset";
    restricts(-ENOENT, SP_STAGE_LANDLOCK);
    the.made[0] = 0;
    the.made[1] = -E2BIG;
    restricts(-E2BIG, SP_STAGE_LANDLOCK);
    the.made[1] = 0;
    the.entered = -E2BIG;
    restricts(-E2BIG, SP_STAGE_LANDLOCK);
    the.entered = 0;
    restricts(0, 0);
    const struct sp_plan plan = plan_of(0);
    CHECK(scoped && !sp_tier_is_grouped(&plan));
    the.abi = 5;
    restricts(0, 0);
    CHECK(!scoped && sp_tier_is_grouped(&plan));
    the.entered = -EPERM;
    CHECK(sp_tier_child(&plan) == -EPERM);
}

static void landlock(void) { apart(steps_of_landlock); }

/* ---- places, and the supervisor ---- */

static void binds_become_places(void) {
    const struct sp_landlock_rule writable = {.path = "/srv/a", .writable = true};
    const struct sp_landlock_rule readonly = {.path = "/srv/b"};
    inner = -1;
    the.checked = -EPERM;
    CHECK(sp_tier_check_bind(0, &writable) == -EPERM && n_places == 0);
    the.checked = 0;
    CHECK(sp_tier_check_bind(0, &readonly) == 0 && n_places == 0);
    CHECK(sp_tier_check_bind(-1, &writable) == 0 && n_places == 0); /* no descriptor: it cannot be changed */
    for (unsigned i = 0; i < SP_SUPERVISED_MAX + 3; i++) {
        CHECK(sp_tier_check_bind(0, &writable) == 0);
    }
    CHECK(n_places == SP_SUPERVISED_MAX - 1); /* one is left for the directory of the lease */
    inner = 0;
    n_places = 1;
    CHECK(sp_tier_check_bind(0, &writable) == 0 && n_places == 1); /* the rules of D1 bring them a second time */
}

static void supervises(int rc) {
    const struct sp_plan plan = plan_of(0);
    struct sp_rec_failed why = {0};
    n_places = 0;
    CHECK(sp_tier_supervise(&plan, &why) == rc && (rc == 0 || why.stage == SP_STAGE_SECCOMP));
}

static void the_supervisor_or_the_filter(void) {
    (void)sp_append(home + strlen(HOME), home + sizeof home, leases);
    supervises(0);
    CHECK(the.n_places == 1 && the.signals); /* not scoped */
    the.starts = -EBADF;
    supervises(0);
    the.starts = 0;
    the.listens = -EBUSY;
    supervises(0);
    the.refuses = -EINVAL;
    supervises(-EINVAL);
    const struct sp_plan own = plan_of(SP_CONFIG_LEASE_UIDS);
    struct sp_rec_failed why = {0};
    n_places = 0;
    add_place(0, "/srv/a");
    CHECK(n_places == 1 && sp_tier_supervise(&own, &why) == 0 && n_places == 0);
}

static void places_of_the_supervisor(void) {
    apart(binds_become_places);
    apart(the_supervisor_or_the_filter);
}

/* ---- tenants ---- */

static pid_t start_sleeper(void) {
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            (void)pause();
        }
    }
    return pid;
}

static bool is_killed(pid_t pid) {
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void kill_the_group(void) {
    const struct sp_plan plan = plan_of(0);
    scoped = false;
    CHECK(setsid() != -1 && sp_tier_kill(&plan) == -1);
    pid_t first = start_sleeper();
    pid_t second = start_sleeper();
    CHECK(sp_tier_kill(&plan) == 0); /* nobody is in a group yet: nobody is killed */
    CHECK(waitpid(-1, NULL, WNOHANG) == 0);
    sp_tier_started(&plan, first);
    CHECK(group == first && getpgid(first) == first && is_in_group(first) && !is_in_group(second));
    sp_tier_started(&plan, second);
    CHECK(group == first && getpgid(second) == first);
    CHECK(sp_tier_kill(&plan) == 0 && is_killed(first) && is_killed(second));
    CHECK(sp_tier_kill(&plan) == -1);
    pid_t third = start_sleeper();
    sp_tier_started(&plan, third); /* the group has ended meanwhile */
    CHECK(group == third);
    CHECK(sp_tier_kill(&plan) == 0 && is_killed(third));
    CHECK(killed_all == 0);
    scoped = true; /* then a signal to all reaches the tenants alone */
    pid_t fourth = start_sleeper();
    CHECK(sp_tier_kill(&plan) == 0 && killed_all == 1);
    CHECK(kill(fourth, SIGKILL) == 0 && is_killed(fourth));
    sp_tier_all_ended();
    CHECK(group == 0 && !is_in_group(getpid()));
}

static void reach(void) {
    pid_t pid = start_sleeper();
    CHECK(!is_in_reach(getpid()) && is_in_reach(pid));
    CHECK(kill(pid, SIGKILL) == 0 && is_killed(pid) && !is_in_reach(pid));
}

static void tenants_are_killed_and_no_others(void) {
    apart(kill_the_group);
    apart(reach);
}

static void home_is_the_directory_of_the_lease(void) {
    char other[] = "PATH=/bin";
    char tmp[] = "HOME=/tmp";
    char temporary[] = "TMPDIR=/tmp";
    char *env[] = {other, tmp, temporary, NULL};
    const struct sp_plan full = {.config = {.flags = 0}};
    sp_tier_set_home(env);
    CHECK(env[0] == other && env[1] == home && env[2] == tmpdir && env[3] == NULL);
    CHECK(sp_tier_child(&full) == 0 && !sp_tier_is_orphan(&full)); /* with namespaces, none of this happens */
}

static bool can_take_ids(void) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        const uid_t id = tenant_id();
        _exit(setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0 ? 0 : 1);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

int main(void) {
    check_deadline(60);
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(proc != -1 && dup2(proc, SP_PROC_FD) == SP_PROC_FD && mkdtemp(leases) != NULL);
    RUN(steps_of_entering);
    if (can_take_ids()) { /* root can, unless it has lost the capabilities */
        RUN(ids_of_a_lease);
    }
    RUN(landlock);
    RUN(places_of_the_supervisor);
    RUN(tenants_are_killed_and_no_others);
    RUN(home_is_the_directory_of_the_lease);
    (void)rmdir(leases);
    return check_report();
}
