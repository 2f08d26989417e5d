/* sources: csrc/init/leftovers.c csrc/init/proc.c csrc/common/fd.c csrc/common/text.c */
/* Which processes count as left by a command, and what happens where they cannot be diagnostics from others. No process
 * but the test's own is signalled. */
#include "init/leftovers.h"

#include <grp.h>
#include <signal.h>
#include <sys/resource.h>

#include "common/fact.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "nth.h"
#include "refused.h"

static struct {
    bool grouped;
    int kill; /* what sp_kill_tenants() returns */
    unsigned kills;
    pid_t mine[2]; /* the only ones that can be signalled */
} the;

static struct sp_plan plan;

int sp_kill_tenants(const struct sp_plan *of) {
    CHECK(of == &plan);
    the.kills++;
    for (unsigned i = 0; i < 2; i++) {
        (void)(the.mine[i] != 0 ? kill(the.mine[i], SIGKILL) : 0);
    }
    return the.kill;
}

int sp_signal(pid_t pid, int number) {
    CHECK(number == SIGKILL);
    return pid > 0 && (pid == the.mine[0] || pid == the.mine[1]) ? 0 : -1;
}

bool sp_tier_is_grouped(const struct sp_plan *of) {
    (void)of;
    return the.grouped;
}

/* Of this process alone, because others of these tests may run beside it and are seen in /proc. */
static uid_t lease_uid(void) { return 1000000 + 2 * (uid_t)getpid(); }

/* One that waits, as a command that init has started, or as init's own. */
static pid_t start(bool marked, uid_t uid) {
    int ready[2];
    char byte;
    CHECK(pipe2(ready, O_CLOEXEC) == 0);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30);
        if (marked) {
            sp_leftovers_mark();
        }
        if (uid != 0) {
            CHECK(setresuid(uid, uid, uid) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
        }
        CHECK(write(ready[1], "", 1) == 1);
        (void)pause();
        _exit(0);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return pid;
}

static void end(void) {
    for (unsigned i = 0; i < 2; i++) {
        if (the.mine[i] != 0) {
            (void)kill(the.mine[i], SIGKILL);
            (void)waitpid(the.mine[i], NULL, 0);
        }
    }
}

static void what_a_command_has_left(void) {
    the.mine[0] = start(true, 0);
    the.mine[1] = start(false, 0);
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NEW); /* not init's own */
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_KILLED);
    const pid_t first = the.mine[0];
    the.mine[0] = start(true, 0);
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NEW);
    (void)kill(first, SIGKILL);
    (void)waitpid(first, NULL, 0);
    end();
    the.mine[0] = the.mine[1] = 0;
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NONE && the.kills == 0);
}

static void is_killed_with_all(int result) {
    the.kill = result;
    the.kills = 0;
    CHECK(sp_leftovers_kill_marked(&plan) == (result == 0 ? SP_LEFTOVERS_KILLED : SP_LEFTOVERS_NONE) && the.kills == 1);
}

static void where_none_can_be_seen(void) {
    plan.left_out = SP_FACT_OWN_PROC;
    is_killed_with_all(0);
    is_killed_with_all(-1); /* there is none */
    plan.left_out = 0;
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    the.grouped = true;
    is_killed_with_all(0);
}

static void where_none_has_a_mark(void) {
    const struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_LOCKS, &none) == 0);
    sp_leftovers_mark();
    is_killed_with_all(0);
}

/* A list that breaks off may leave one running beside the next command. */
static void where_the_list_breaks_off(void) {
    the.mine[0] = start(true, 0);
    refuse(SYS_getdents64, EIO);
    is_killed_with_all(0);
    end();
}

/* Another process ends while they are looked through. */
static void where_one_has_just_ended(void) {
    the.mine[0] = start(true, 0);
    refuse_nth(SYS_prlimit64, ESRCH, 2); /* the first is that of the own limit */
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NEW);
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_KILLED);
    end();
}

static void all_are_killed_where_they_cannot_be_told_apart(void) {
    CHECK(in_child(what_a_command_has_left, 20) == 0 && in_child(where_none_can_be_seen, 20) == 0);
    CHECK(in_child(where_none_has_a_mark, 20) == 0 && in_child(where_the_list_breaks_off, 20) == 0);
    CHECK(in_child(where_one_has_just_ended, 20) == 0);
}

/* With ids of the lease init may not read limits, and reads them in /proc. */
static void as_of_a_lease(void) {
    the.mine[0] = start(true, lease_uid());
    the.mine[1] = start(false, lease_uid());
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    CHECK(setgroups(0, NULL) == 0 && setresuid(lease_uid() + 1, lease_uid(), 0) == 0);
    CHECK(prlimit(the.mine[0], RLIMIT_LOCKS, NULL, &(struct rlimit){0, 0}) == -1 && errno == EPERM); /* control */
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NEW);
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_KILLED);
    (void)setresuid(0, 0, 0);
    end();
}

static void of_a_lease_and_unreadable(void) {
    the.mine[0] = start(true, lease_uid());
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    CHECK(setgroups(0, NULL) == 0 && setresuid(lease_uid() + 1, lease_uid(), 0) == 0);
    refuse_nth(SYS_openat, ESRCH, 2); /* the first is that of the list */
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NONE);
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NEW);
    (void)setresuid(0, 0, 0);
    end();
}

/* It has ended meanwhile. */
static void of_a_lease_and_gone(void) {
    the.mine[0] = start(true, lease_uid());
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    CHECK(setgroups(0, NULL) == 0 && setresuid(lease_uid() + 1, lease_uid(), 0) == 0);
    refuse(SYS_newfstatat, ENOENT);
    CHECK(sp_leftovers_kill_marked(&plan) == SP_LEFTOVERS_NONE && the.kills == 0);
    (void)setresuid(0, 0, 0);
    end();
}

static void those_of_a_lease_are_found_by_text(void) {
    CHECK(in_child(as_of_a_lease, 20) == 0 && in_child(of_a_lease_and_unreadable, 20) == 0);
    CHECK(in_child(of_a_lease_and_gone, 20) == 0);
}

static void kill_what_forks(void) {
    the.mine[0] = start(false, 0);
    the.mine[1] = start(true, 0);
    sp_leftovers_kill_all(&plan);
    CHECK(the.kills == 1 && waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}

static void all_are_waited_for(void) { CHECK(in_child(kill_what_forks, 20) == 0); }

int main(void) {
    check_deadline(100);
    RUN(all_are_killed_where_they_cannot_be_told_apart);
    if (geteuid() == 0) {
        RUN(those_of_a_lease_are_found_by_text);
    }
    RUN(all_are_waited_for);
    return check_report();
}
