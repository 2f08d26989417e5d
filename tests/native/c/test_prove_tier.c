/* sources: csrc/init/prove_tier.c csrc/common/fd.c */
/* What the Landlock tier takes for proved: only what a process that is just like a tenant was refused. */
#include <signal.h>
#include <sys/stat.h>

#include "common/fact.h"
#include "init/confine.h"
#include "init/landlock_tier.h"
#include "init/prove.h"
#include "refused.h"

#define BY_TENANT (SP_FACT_HOST_UNREAD | SP_FACT_HOST_UNWRITTEN | SP_FACT_HOST_UNSIGNALLED)

static int domain, filter; /* what entering them returns in the tenant */
static bool is_confined;   /* whether they refuse anything */
static int of_open = EACCES, of_kill = EPERM;
static pid_t zygote;

#define NOT_REFUSED (1 << 28) /* the signals to any other pid are */

static void confine(void) {
    refuse(SYS_openat, of_open);
#ifdef SYS_open
    refuse(SYS_open, of_open);
#endif
    refuse_flagged(SYS_kill, of_kill, 0, ~(uint32_t)NOT_REFUSED);
}

int sp_tier_child(const struct sp_plan *plan) {
    (void)plan;
    return domain;
}

int sp_install_filter(const struct sp_plan_filter *of) {
    (void)of;
    if (is_confined) {
        confine();
    }
    return filter;
}

static char folder[] = "/tmp/sandpool-proof-XXXXXX/lease";
#define AT_LEASE (sizeof folder - sizeof "/lease")

static uint32_t proved(uint32_t rehearsed) {
    const struct sp_plan plan = {.leases = folder, .zygote = zygote, .rehearsed = rehearsed};
    CHECK(chdir(folder) == 0);
    const uint32_t facts = sp_prove_tier(&plan);
    (void)unlink("device"); /* root may make one */
    (void)unlink("../written");
    (void)unlink("/tmp/written-by-a-tenant");
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    return facts & ~(uint32_t)SP_FACT_ID_MAP;
}

static void refuse_device(int err) {
    refuse(SYS_mknodat, err);
#ifdef SYS_mknod
    refuse(SYS_mknod, err);
#endif
}

static void of_one_that_is_confined(void) {
    is_confined = true;
    refuse_device(EACCES);
    CHECK(proved(0) == (BY_TENANT | SP_FACT_LANDLOCK_DENIES));
    CHECK(proved(1) == SP_FACT_LANDLOCK_DENIES); /* the tenant is of the rehearsal alone */
}

/* That there is nothing to reach is no proof. */
static void of_one_that_finds_nothing(void) {
    is_confined = true;
    of_open = ENOENT;
    of_kill = ESRCH;
    CHECK((proved(0) & BY_TENANT) == 0);
}

static void of_one_that_reaches_the_zygote(void) {
    is_confined = true;
    zygote = 0; /* its own group */
    CHECK((proved(0) & BY_TENANT) == (SP_FACT_HOST_UNREAD | SP_FACT_HOST_UNWRITTEN));
}

static void of_one_without_a_zygote(void) {
    is_confined = true;
    zygote = NOT_REFUSED; /* above any pid */
    CHECK((proved(0) & BY_TENANT) == (SP_FACT_HOST_UNREAD | SP_FACT_HOST_UNWRITTEN));
}

static void of_one_that_reaches_everything(void) { CHECK((proved(0) & BY_TENANT) == 0); }

static void outside_its_domain(void) {
    is_confined = true;
    domain = -E2BIG;
    CHECK((proved(0) & BY_TENANT) == 0);
}

static void without_its_filter(void) {
    is_confined = true;
    filter = -EACCES;
    CHECK((proved(0) & BY_TENANT) == 0);
}

static void without_a_process(void) {
    is_confined = true;
    refuse_device(EPERM); /* not by Landlock */
#ifdef SYS_fork
    refuse(SYS_fork, EAGAIN);
#endif
    refuse(SYS_clone, EAGAIN);
    CHECK(proved(0) == 0);
}

static void own_ids(void) {
    const uid_t id = SP_LEASE_ID + (uid_t)getpid();
    const uid_t other = SP_LEASE_ID_OF_INIT + (uid_t)getpid();
    const struct sp_plan plan = {.rehearsed = 1};
    CHECK((sp_prove_tier(&plan) & SP_FACT_ID_MAP) == 0);
    if (geteuid() == 0 && setresgid(id, id, id) == 0 && setresuid(other, id, other) == 0) { /* root, with all ids */
        CHECK((sp_prove_tier(&plan) & SP_FACT_ID_MAP) != 0);
    }
}

static void only_what_a_tenant_was_refused_is_proved(void) {
    CHECK(in_child(of_one_that_is_confined, 20) == 0);
    CHECK(in_child(of_one_that_reaches_everything, 20) == 0);
    CHECK(in_child(of_one_that_finds_nothing, 20) == 0);
    CHECK(in_child(of_one_that_reaches_the_zygote, 20) == 0);
    CHECK(in_child(of_one_without_a_zygote, 20) == 0);
}

static void a_proof_that_cannot_be_tried_proves_nothing(void) {
    CHECK(in_child(outside_its_domain, 20) == 0);
    CHECK(in_child(without_its_filter, 20) == 0);
    CHECK(in_child(without_a_process, 20) == 0);
}

static void ids_of_the_lease_are_recognized(void) { CHECK(in_child(own_ids, 20) == 0); }

int main(void) {
    check_deadline(60);
    zygote = getpid();
    folder[AT_LEASE] = '\0';
    CHECK(mkdtemp(folder) != NULL);
    folder[AT_LEASE] = '/';
    CHECK(mkdir(folder, 0700) == 0 && chdir(folder) == 0);
    RUN(only_what_a_tenant_was_refused_is_proved);
    RUN(a_proof_that_cannot_be_tried_proves_nothing);
    RUN(ids_of_the_lease_are_recognized);
    (void)unlink("device");
    CHECK(rmdir(folder) == 0);
    folder[AT_LEASE] = '\0';
    CHECK(rmdir(folder) == 0);
    return check_report();
}
