/* sources: csrc/common/fd.c csrc/common/text.c csrc/common/wire.c csrc/init/proc.c */
/*
 * What the zygote does in the Landlock tier: where each step of its start can fail, and which processes it kills when
 * an init has died. Landlock, packets and the system view are replaced; the file itself is part of this program.
 */
#include <signal.h>

#include "refused.h"

static struct {
    int abi, scope, send;
    unsigned shown, killed_all, scopes;
    pid_t immortal; /* no SIGKILL reaches it */
} the;

/* Signals to all processes are counted, and sent by those alone who have nothing but the ids of a lease. */
static int safe_kill(pid_t pid, int number) {
    if (pid == -1 && getuid() < 2000000000u) {
        the.killed_all++;
        return 0;
    }
    return pid == the.immortal && number == SIGKILL ? 0 : kill(pid, number);
}
#define kill safe_kill

/* NOLINTBEGIN(bugprone-suspicious-include): static functions are tested, and kill() is replaced */
#include "zygote/landlock_tier.c"
#include "zygote/leftovers.c"
/* NOLINTEND(bugprone-suspicious-include) */

#define PR_SUBREAPER_BIT 2u /* of PR_SET_CHILD_SUBREAPER (36) and PR_SET_NO_NEW_PRIVS (38) the second has this bit */

int sp_landlock_abi(uint32_t abi_max) {
    (void)abi_max;
    return the.abi;
}

int sp_landlock_scope(uint32_t abi_max) {
    (void)abi_max;
    the.scopes++;
    return the.scope;
}

int sp_packet_send(int sock, const struct sp_outgoing *packet, int64_t deadline) {
    (void)sock, (void)deadline;
    return packet->n_fds == 1 && packet->fds[0] >= 0 ? the.send : -EBADF;
}

void sp_zygote_each_shown(void (*each)(const char *path, bool device, void *arg), void *arg) {
    each("/usr", false, arg);
    each("/dev/null", true, arg);
    each("/dev/zero", true, arg);
    each("/dev/tty", true, arg);
    each("/etc/php", false, arg);
    for (unsigned i = 0; i < the.shown; i++) {
        each("/opt", false, arg);
    }
}

int sp_tier_check_bind(int path, const struct sp_landlock_rule *rule) {
    (void)path, (void)rule;
    return 0;
}

static struct sp_plan plan_of(uint32_t flags) {
    struct sp_plan plan = {.leases = "/tmp"};
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER | flags;
    return plan;
}

static void apart(void (*test)(void)) { CHECK(in_child(test, 60) == 0); }

/* ---- start ---- */

static void fails(int err, uint32_t stage, const char *detail) {
    struct sp_plan plan = plan_of(0);
    struct sp_rec_failed why = {0};
    CHECK(sp_zygote_enter_tier(-1, &plan, &why) == -err && why.stage == stage && strcmp(why.detail, detail) == 0);
}

static void without_landlock(void) {
    fails(ENOSYS, SP_STAGE_LANDLOCK, "landlock");
    the.abi = -EPERM;
    fails(EPERM, SP_STAGE_LANDLOCK, "landlock");
}

static void without_clone(void) {
    the.abi = 6;
    refuse(SYS_clone, EAGAIN);
    fails(EAGAIN, SP_STAGE_CLONE, "clone");
}

/* In the place of warden.c: ends as the zygote does. */
_Noreturn void sp_zygote_be_warden(pid_t zygote, bool is_scoped) {
    int status = -1;
    CHECK(is_scoped == scoped && waitpid(zygote, &status, 0) == zygote && WIFEXITED(status));
    _exit(atomic_load(&check_failures) == 0 ? WEXITSTATUS(status) : 2);
}

/* Waits for the first process and for the warden, and returns both exit statuses. */
static void enter(void (*set)(void), int statuses[2], void (*entered)(int rc, const struct sp_rec_failed *why)) {
    struct sp_plan plan = plan_of(0);
    struct sp_rec_failed why = {0};
    (void)fflush(stdout);
    pid_t first = fork(); /* CLONE_PARENT makes the warden a child of this process, too */
    if (first == 0) {
        atomic_store(&check_failures, 0);
        set();
        int rc = sp_zygote_enter_tier(-1, &plan, &why);
        entered(rc, &why);
        CHECK(rc != 0 || plan.zygote == getpid());
        _exit(atomic_load(&check_failures) == 0 ? 0 : 2);
    }
    for (int i = 0; i < 2; i++) {
        int status = -1;
        pid_t pid = waitpid(-1, &status, 0);
        CHECK(pid > 0 && WIFEXITED(status));
        statuses[pid == first ? 0 : 1] = WEXITSTATUS(status);
    }
}

static void in_order(void) { the.abi = 6; }

static void in_order_without_scopes(void) {
    the.abi = 5;
    the.scope = -EOPNOTSUPP; /* and so not asked for */
}

static void host_is_gone(void) {
    the.abi = 6;
    the.send = -EPIPE;
}

static void prctl_is_refused(void) {
    the.abi = 6;
    refuse_flagged(SYS_prctl, EACCES, 0, PR_SUBREAPER_BIT);
}

static void zygote_is_refused(void) {
    the.abi = 6;
    refuse_flagged(SYS_clone, EAGAIN, 0, CLONE_PIDFD);
}

static void scopes_are_refused(void) {
    the.abi = 6;
    the.scope = -EPERM;
}

static void well(int rc, const struct sp_rec_failed *why) {
    int keeps = 0;
    (void)why;
    CHECK(rc == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &keeps, 0, 0, 0) == 0 && keeps == 1 && scoped == (the.abi >= 6));
    CHECK(the.scopes == (scoped ? 2 : 0)); /* the warden's, and in it the zygote's */
}

static void not_privileged(int rc, const struct sp_rec_failed *why) {
    CHECK(rc == -EACCES && why->stage == SP_STAGE_NO_NEW_PRIVS && strcmp(why->detail, "subreaper") == 0);
}

static void not_cloned(int rc, const struct sp_rec_failed *why) {
    CHECK(rc == -EAGAIN && why->stage == SP_STAGE_CLONE && strcmp(why->detail, "clone") == 0);
}

static void not_scoped(int rc, const struct sp_rec_failed *why) {
    CHECK(rc == -EPERM && why->stage == SP_STAGE_LANDLOCK && strcmp(why->detail, "scopes") == 0);
}

static void steps_of_the_start(void) {
    int statuses[2];
    apart(without_landlock);
    apart(without_clone);
    enter(in_order, statuses, well);
    CHECK(statuses[0] == 0 && statuses[1] == 0);
    enter(in_order_without_scopes, statuses, well);
    CHECK(statuses[0] == 0 && statuses[1] == 0);
    enter(host_is_gone, statuses, well);
    CHECK(statuses[0] == 0 && statuses[1] == 0);
    enter(prctl_is_refused, statuses, not_privileged);
    CHECK(statuses[0] == 0 && statuses[1] == 0);
    enter(zygote_is_refused, statuses, not_cloned);
    CHECK(statuses[0] == 0 && statuses[1] == 0);
    enter(scopes_are_refused, statuses, not_scoped);
    CHECK(statuses[0] == 0 && statuses[1] == 0);
}

/* ---- rules ---- */

static const struct sp_landlock_rule *rule_of(const struct sp_plan *plan, const char *path) {
    for (unsigned i = 0; i < plan->n_rules; i++) {
        if (strcmp(plan->rules[i].path, path) == 0) {
            return &plan->rules[i];
        }
    }
    return NULL;
}

static void refused_bind(struct sp_plan_bind bind, int err) {
    struct sp_plan plan = plan_of(0);
    struct sp_rec_failed why = {0};
    plan.binds = &bind;
    plan.config.n_binds = 1;
    CHECK(sp_zygote_tier_rules(&plan, &why) == -err && why.stage == SP_STAGE_BIND &&
          strcmp(why.detail, bind.path) == 0);
}

static void rules_of_the_machine_and_of_binds(void) {
    struct sp_plan_bind binds[] = {{.path = "/tmp", .source = "/tmp", .writable = true, .parent = -1},
                                   {.path = "/tmp/.", .source = "/tmp/.", .parent = 0}};
    struct sp_plan plan = plan_of(0);
    struct sp_rec_failed why = {0};
    plan.binds = binds;
    plan.config.n_binds = 2;
    CHECK(sp_zygote_tier_rules(&plan, &why) == 0);
    CHECK(rule_of(&plan, "/usr") != NULL && !rule_of(&plan, "/usr")->writable);
    CHECK(rule_of(&plan, "/dev/null")->writable && !rule_of(&plan, "/dev/zero")->writable);
    CHECK(rule_of(&plan, "/dev/tty")->writable && rule_of(&plan, "/etc/php") == NULL);
    CHECK(rule_of(&plan, "/proc/meminfo")->dispensable && !rule_of(&plan, "/tmp")->dispensable);
    CHECK(rule_of(&plan, "/tmp")->writable && rule_of(&plan, "/tmp")->within == NULL);
    CHECK(rule_of(&plan, "/tmp/.")->within == binds[0].path && rule_of(&plan, "/tmp/.")->check == sp_tier_check_bind);
    the.abi = SP_LANDLOCK_SCOPED; /* as the interpreter finds it */
    CHECK(sp_zygote_tier_take_over(&plan) == 0 && scoped && rule_of(&plan, "/tmp")->writable);
    binds[1].path = binds[1].source = "/tmp/gone"; /* meanwhile */
    CHECK(sp_zygote_tier_take_over(&plan) == -ENOENT);
    binds[1].path = binds[1].source = "/tmp/.";
    scoped = false;
    the.shown = RULES_MAX; /* more than there is room for: the rest is not shown */
    CHECK(sp_zygote_tier_rules(&plan, &why) == 0 && plan.n_rules == RULES_MAX);
    the.shown = 0;
    refused_bind((struct sp_plan_bind){.path = "/tmp", .source = "/tmp", .covers = true, .parent = -1}, ENOTSUP);
    refused_bind((struct sp_plan_bind){.path = "/tmp", .source = "/tmp", .scratch = true, .parent = -1}, ENOTSUP);
    refused_bind((struct sp_plan_bind){.path = "/tmp", .source = "/var", .parent = -1}, ENOTSUP);
    refused_bind((struct sp_plan_bind){.path = "/none/x", .source = "/none/x", .parent = -1}, ENOENT);
}

static void numbers_of_directories_that_exist_are_passed_over(void) {
    static char leases[] = "/tmp/sandpool-test-XXXXXX";
    static char long_path[PATH_MAX];
    char path[64];
    struct sp_plan plan = plan_of(0);
    CHECK(mkdtemp(leases) != NULL);
    for (int i = 2; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/l%d", leases, i);
        CHECK(mkdir(path, 0700) == 0);
    }
    plan.leases = leases;
    sp_zygote_tier_next(&plan);
    CHECK(plan.lease == 1);
    sp_zygote_tier_next(&plan);
    CHECK(plan.lease == 4);
    for (int i = 2; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/l%d", leases, i);
        CHECK(rmdir(path) == 0);
    }
    CHECK(rmdir(leases) == 0);
    memset(long_path, 'x', sizeof long_path - 1);
    plan.leases = long_path; /* init refuses it */
    sp_zygote_tier_next(&plan);
    CHECK(plan.lease == 5);
}

/* ---- the ends of inits ---- */

#define ENDED 0
#define KILLED SIGKILL

static pid_t start_sleeper(void) {
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            (void)pause();
        }
    }
    return pid;
}

static bool lives(pid_t pid) { return kill(pid, 0) == 0 && waitpid(pid, NULL, WNOHANG) == 0; }

static void inits_are_remembered(void) {
    const pid_t first = 1000000;
    CHECK(!is_init(first) && !forget_init(first));
    for (int i = 0; i < LIVE_MAX - 1; i++) {
        sp_zygote_tier_created(first + i);
    }
    CHECK(is_init(first) && is_init(first + LIVE_MAX - 2) && !is_init(first - 1));
    CHECK(forget_init(first) && !forget_init(first) && !is_init(first));
    sp_zygote_tier_created(first);
    sp_zygote_tier_created(first - 1);
    sp_zygote_tier_created(first - 2); /* no room: from now on, any may be one */
    CHECK(n_inits == LIVE_MAX && is_init(first - 2) && is_init(1));
}

/* An orphan is a child that this process did not clone as an init. */
static void orphans_of_a_killed_init_are_killed(void) {
    const struct sp_plan plan = plan_of(0);
    pid_t init = start_sleeper();
    pid_t orphan = start_sleeper();
    sp_zygote_tier_created(init);
    sp_zygote_tier_created(1000000);
    sp_zygote_tier_reaped(&plan, 1000001, KILLED); /* no init */
    CHECK(lives(init) && lives(orphan));
    sp_zygote_tier_reaped(&plan, 1000000, ENDED); /* it has killed its own */
    CHECK(lives(init) && lives(orphan) && n_inits == 1);
    sp_zygote_tier_created(1000000);
    sp_zygote_tier_reaped(&plan, 1000000, KILLED);
    CHECK(lives(init) && !lives(orphan) && n_inits == 1);
    CHECK(kill(init, SIGKILL) == 0 && waitpid(init, NULL, 0) == init);
}

/* One that is found again each time, as if it forked faster than it is found. */
static void outrun(void) {
    const struct sp_plan plan = plan_of(0);
    the.immortal = start_sleeper();
    scoped = false;
    sp_zygote_tier_created(1000000);
    sp_zygote_tier_reaped(&plan, 1000000, KILLED);
    CHECK(the.killed_all == 0);
    scoped = true;
    sp_zygote_tier_created(1000000);
    sp_zygote_tier_reaped(&plan, 1000000, KILLED);
    CHECK(the.killed_all == 1 && lives(the.immortal));
    CHECK(kill(the.immortal, SIGTERM) == 0 && waitpid(the.immortal, NULL, 0) == the.immortal);
}

/* What a list has left out may live: it is read again and again, and in the end all are killed unseen. */
static void kills_unseen(unsigned times) {
    const struct sp_plan plan = plan_of(0);
    scoped = true;
    sp_zygote_tier_created(1000000);
    sp_zygote_tier_reaped(&plan, 1000000, KILLED);
    CHECK(the.killed_all == times && n_inits == 0);
}

static void a_list_that_breaks_off(void) {
    kills_unseen(0);
    refuse(SYS_getdents64, EIO);
    kills_unseen(1);
}

static void without_a_list(void) {
    (void)close(SP_PROC_FD);
    kills_unseen(1);
}

static pid_t start_tenant_of(pid_t init) {
    int ready[2];
    char byte = 0;
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        const uid_t id = SP_LEASE_ID + (uid_t)init;
        byte = setresuid(id, id, id) == 0 ? 'y' : 'n';
        (void)!write(ready[1], &byte, 1);
        for (;;) {
            (void)pause();
        }
    }
    CHECK(read(ready[0], &byte, 1) == 1 && byte == 'y');
    (void)close(ready[0]);
    (void)close(ready[1]);
    sp_zygote_tier_created(pid); /* so that it is no orphan */
    return pid;
}

static bool is_killed(pid_t pid) {
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void tenants_are_killed_by_their_ids(void) {
    const struct sp_plan plan = plan_of(SP_CONFIG_LEASE_UIDS);
    pid_t first = start_tenant_of(1000000);
    pid_t second = start_tenant_of(1000001);
    sp_zygote_tier_created(1000000);
    sp_zygote_tier_reaped(&plan, 1000000, KILLED);
    CHECK(is_killed(first) && lives(second));
    pid_t third = start_tenant_of(1000001);
    CHECK(forget_init(second)); /* an orphan, whose id tells of which init; the third is none, and has the same id */
    while (sp_zygote_kill_leftovers(is_init)) {
    }
    CHECK(!lives(second) && is_killed(third) && the.killed_all == 0);
}

static bool can_give_ids(void) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(setresuid(SP_LEASE_ID, SP_LEASE_ID, SP_LEASE_ID) == 0 ? 0 : 1);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static void ends_of_inits(void) {
    apart(inits_are_remembered);
    apart(orphans_of_a_killed_init_are_killed);
    apart(outrun);
    apart(a_list_that_breaks_off);
    apart(without_a_list);
    if (can_give_ids()) { /* root can, unless it has lost the capabilities */
        apart(tenants_are_killed_by_their_ids);
    }
}

int main(void) {
    check_deadline(60);
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(proc != -1 && dup2(proc, SP_PROC_FD) == SP_PROC_FD);
    RUN(steps_of_the_start);
    RUN(rules_of_the_machine_and_of_binds);
    RUN(numbers_of_directories_that_exist_are_passed_over);
    RUN(ends_of_inits);
    return check_report();
}
