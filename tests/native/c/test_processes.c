/* sources: csrc/init/processes.c csrc/init/proc.c csrc/init/lines.c csrc/common/text.c csrc/common/fd.c */
/* init counts the threads of tenants where the kernel counts those of a user. */
#include "init/processes.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/personality.h>
#include <sys/utsname.h>

#include "check.h"
#include "init/plan.h"
#include "init/proc.h"
#include "machine.h"
#include "nth.h"

#define AS_2_6 0x0020000ul /* UNAME26 */

static int proc;

static void as_an_old_kernel(void) {
    CHECK(personality(AS_2_6) != -1 && sp_processes_are_of_user());
    struct sp_plan plan = {.processes_of_user = sp_processes_are_of_user(), .config.max_processes = 4};
    CHECK(sp_processes_are_watched(&plan) && !sp_processes_have_limit(&plan));
    plan.config.max_processes = 0;
    CHECK(!sp_processes_are_watched(&plan));
}

/* Watching costs something and limits more than needed; not watching would limit nothing. */
static void as_a_kernel_that_does_not_say(void) {
    refuse_nth(SYS_uname, EPERM, 1);
    CHECK(sp_processes_are_of_user());
}

static void the_version_decides(void) {
    struct utsname name;
    char *end = NULL;
    CHECK(uname(&name) == 0);
    const unsigned long major = strtoul(name.release, &end, 10);
    bool old = major < 5 || (major == 5 && strtoul(end + 1, NULL, 10) < 14);
    CHECK(sp_processes_are_of_user() == old);
    struct sp_plan plan = {.processes_of_user = false, .config.max_processes = 4};
    CHECK(!sp_processes_are_watched(&plan) && sp_processes_have_limit(&plan));
    CHECK(in_child(as_an_old_kernel, 10) == 0);
}

/* The kernel's limit remains in the tier, as a bound on what starts between two counts. */
static void in_the_landlock_tier_the_ids_decide(void) {
    struct sp_plan plan = {.config = {.flags = SP_CONFIG_LANDLOCK_TIER, .max_processes = 4}};
    CHECK(sp_processes_are_watched(&plan) && sp_processes_have_limit(&plan));
    plan.config.flags |= SP_CONFIG_LEASE_UIDS;
    CHECK(!sp_processes_are_watched(&plan) && sp_processes_have_limit(&plan));
    plan.processes_of_user = true; /* of each of these users */
    CHECK(!sp_processes_are_watched(&plan) && sp_processes_have_limit(&plan));
    plan.config.max_processes = 0;
    CHECK(!sp_processes_are_watched(&plan) && !sp_processes_have_limit(&plan));
}

static bool is_own(int pid) { return pid == getpid(); }

static void *wait_for_end(void *fd) {
    char end;
    (void)!read(*(int *)fd, &end, 1);
    return NULL;
}

static void threads_are_counted(void) {
    pthread_t threads[5];
    int ends[2];
    CHECK(pipe(ends) == 0);
    sp_proc_share(is_own);
    const unsigned before = sp_processes_count(proc, 1000);
    for (int i = 0; i < 5; i++) {
        CHECK(pthread_create(&threads[i], NULL, wait_for_end, &ends[0]) == 0);
    }
    CHECK(before >= 1 && sp_processes_count(proc, 1000) == before + 5);
    (void)close(ends[1]);
    for (int i = 0; i < 5; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    (void)close(ends[0]);
    sp_proc_share(NULL);
}

/* All but pid 1 count; the machine runs many. */
static void the_count_ends_above_the_limit(void) {
    CHECK(sp_processes_count(proc, 0) >= 1 && sp_processes_count(proc, 100000) > sp_processes_count(proc, 0));
    CHECK(sp_processes_count(open("/dev/null", O_RDONLY | O_CLOEXEC), 10) == 0);
}

static void an_unknown_version_is_taken_for_an_old_one(void) {
    CHECK(in_child(as_a_kernel_that_does_not_say, 10) == 0);
}

int main(void) {
    check_deadline(60);
    proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    RUN(the_version_decides);
    RUN(in_the_landlock_tier_the_ids_decide);
    RUN(an_unknown_version_is_taken_for_an_old_one);
    RUN(threads_are_counted);
    RUN(the_count_ends_above_the_limit);
    return check_report();
}
