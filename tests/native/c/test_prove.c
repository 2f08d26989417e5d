/* sources: csrc/init/prove.c csrc/init/proc.c csrc/init/lines.c csrc/init/processes.c csrc/init/plan.c
 * csrc/common/fd.c csrc/common/text.c */
/* No fact is proved where its defence is missing, and what proves it is that defence alone. */
#include "init/prove.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include "common/fact.h"
#include "init/confine.h"
#include "init/landlock_tier.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t processes_of_init;
static uint32_t facts_of_tier;

uint64_t sp_limit_of_data(const struct sp_plan *plan) { return plan->config.memory_bytes != 0 ? 64 * MIB : 0; }
uint64_t sp_limit_of_processes(const struct sp_plan *plan) {
    (void)plan;
    return processes_of_init;
}
uint64_t sp_tier_processes(const struct sp_plan *plan) { return plan->config.max_processes; }
uint32_t sp_prove_tier(const struct sp_plan *plan) {
    (void)plan;
    return facts_of_tier;
}

static struct sp_plan plan;

/* As a sandbox whose init has done nothing: a root that can be written to, and all privileges there. */
static void begin(void) {
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    enter_own_mounts();
    CHECK(mount("tmpfs", "/mnt", "tmpfs", 0, NULL) == 0 && mkdir("/mnt/tmp", 0777) == 0);
    CHECK(dup2(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), SP_PROC_FD) == SP_PROC_FD);
    CHECK(chroot("/mnt") == 0 && chdir("/") == 0);
    (void)setrlimit(RLIMIT_FSIZE, &none);
    plan = (struct sp_plan){.config = {.memory_bytes = MIB, .scratch_bytes = MIB}};
    processes_of_init = 1;
}

static uint32_t prove(void) {
    struct sp_proof proof = {.status = -1};
    sp_prove_namespaces(&plan, &proof);
    sp_prove_confinement(&plan, 1, &proof);
    CHECK(proof.status == -1);
    return proof.facts;
}

/* The machine may have no other link than lo, and processes of its user may be limited. */
#define OF_MACHINE (SP_FACT_NO_LINK | SP_FACT_LIMIT_NPROC | SP_FACT_LIMIT_DATA | SP_FACT_MEMORY_WATCH)
#define OF_CONFINEMENT                                                                                            \
    (SP_FACT_NO_PRIVILEGE | SP_FACT_NO_NEW_PRIVS | SP_FACT_CALL_DENIED | SP_FACT_NO_INET | SP_FACT_NO_UNIX |      \
     SP_FACT_ROOT_READ_ONLY | SP_FACT_LANDLOCK_DENIES | SP_FACT_NO_CAPS | SP_FACT_FILTERED | SP_FACT_ROOT_FLAGS | \
     SP_FACT_SCRATCH | SP_FACT_LIMITS | SP_FACT_ID_MAP | SP_FACT_OWN_PROC)

static uint32_t proved(void) { return prove() & OF_CONFINEMENT; }

static void with_nothing(void) {
    begin();
    CHECK(proved() == 0 && access("/written", F_OK) == -1 && access("/tmp/device", F_OK) == -1);
}

static void as_real_root(void) {
    CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("tmpfs", "/mnt", "tmpfs", 0, NULL) == 0 && mkdir("/mnt/tmp", 0777) == 0 && chroot("/mnt") == 0);
    plan = (struct sp_plan){.config = {.memory_bytes = MIB}};
    CHECK((proved() & (SP_FACT_ROOT_READ_ONLY | SP_FACT_LANDLOCK_DENIES)) == 0);
    CHECK(access("/written", F_OK) == -1 && access("/tmp/device", F_OK) == -1); /* a device of the host */
}

static void with_a_filter_of(int first, int second) {
    CHECK((proved() & SP_FACT_CALL_DENIED) == 0);
    refuse(first, EPERM);
    CHECK((proved() & SP_FACT_CALL_DENIED) == 0); /* one of the two filters is not enough */
    refuse(second, EPERM);
    CHECK((proved() & SP_FACT_CALL_DENIED) != 0 && (proved() & (SP_FACT_FILTERED | SP_FACT_NO_NEW_PRIVS)) != 0);
    plan.zygote_filters = 2;
    CHECK((proved() & SP_FACT_FILTERED) == 0); /* those of the container, not init's */
}

static void with_filters(void) {
    begin();
    with_a_filter_of(SYS_keyctl, SYS_setns);
}

static void with_other_filters(void) {
    begin();
    with_a_filter_of(SYS_perf_event_open, SYS_unshare);
}

/* As a container may answer instead of the kernel: 0 is no refusal. */
static void with_calls_that_do_nothing(void) {
    static const int calls[] = {SYS_keyctl, SYS_perf_event_open, SYS_setns, SYS_unshare};
    begin();
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        refuse(calls[i], 0);
    }
    CHECK((proved() & SP_FACT_CALL_DENIED) == 0);
}

static int err;

static void without_sockets(void) {
    begin();
    refuse(SYS_socket, err);
    CHECK((proved() & (SP_FACT_NO_INET | SP_FACT_NO_UNIX)) ==
          (err == EAFNOSUPPORT ? SP_FACT_NO_INET | SP_FACT_NO_UNIX : 0));
}

static void without_links(void) {
    begin();
    refuse(SYS_ioctl, EPERM);
    CHECK((prove() & SP_FACT_NO_LINK) == 0);
}

static void without_devices(void) {
    begin();
#ifdef SYS_mknod
    refuse(SYS_mknod, err);
#endif
    refuse(SYS_mknodat, err);
    CHECK((proved() & SP_FACT_LANDLOCK_DENIES) == (err == EACCES ? SP_FACT_LANDLOCK_DENIES : 0));
}

static void with_a_root_that_is_read_only(void) {
    begin();
    CHECK(mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0);
    CHECK((proved() & (SP_FACT_ROOT_READ_ONLY | SP_FACT_ROOT_FLAGS)) == (SP_FACT_ROOT_READ_ONLY | SP_FACT_ROOT_FLAGS));
}

static void with_no_more_files(void) {
    const struct rlimit none = {0, 0};
    begin();
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK((proved() & ~(uint32_t)SP_FACT_LANDLOCK_DENIES) == 0); /* EMFILE is no EROFS, and no EAFNOSUPPORT */
}

/* In the Landlock tier the limit is each command's. */
static void limits_of_processes(void) {
    begin();
    processes_of_init = 0;
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    CHECK((prove() & SP_FACT_LIMIT_NPROC) == 0);
    plan.config.max_processes = 10;
    CHECK((prove() & SP_FACT_LIMIT_NPROC) != 0);
    refuse(SYS_prlimit64, EPERM);
    CHECK((prove() & (SP_FACT_LIMIT_NPROC | SP_FACT_LIMIT_DATA)) == 0);
}

/* What a rehearsal has proved is what all have; what each has to prove is not taken from it. */
static void after_a_rehearsal(void) {
    begin();
    plan.rehearsed = SP_FACT_SCRATCH | SP_FACT_NO_UNIX | SP_FACT_NO_PRIVILEGE | SP_FACT_ROOT_READ_ONLY | SP_FACT_NET_NS;
    plan.left_out = SP_FACT_NET_NS;
    CHECK((prove() & ~(uint32_t)OF_MACHINE) == (SP_FACT_SCRATCH | SP_FACT_NO_UNIX | SP_FACT_UNIX_SCOPED));
}

static void nothing_is_proved_where_nothing_was_done(void) {
    CHECK(in_child(with_nothing, 10) == 0 && in_child(with_no_more_files, 10) == 0);
    CHECK(geteuid() != 0 || in_child(as_real_root, 10) == 0);
}

static void each_defence_proves_its_own_fact(void) {
    static const int errors[] = {EAFNOSUPPORT, EACCES, EPERM};
    CHECK(in_child(with_filters, 10) == 0 && in_child(with_other_filters, 10) == 0);
    CHECK(in_child(with_calls_that_do_nothing, 10) == 0);
    CHECK(in_child(without_links, 10) == 0 && in_child(with_a_root_that_is_read_only, 10) == 0);
    CHECK(in_child(limits_of_processes, 10) == 0 && in_child(after_a_rehearsal, 10) == 0);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        err = errors[i];
        CHECK(in_child(without_sockets, 10) == 0 && in_child(without_devices, 10) == 0);
    }
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(100);
    RUN_WITHOUT(lack, nothing_is_proved_where_nothing_was_done);
    RUN_WITHOUT(lack, each_defence_proves_its_own_fact);
    return check_report();
}
