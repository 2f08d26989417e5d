/* sources: csrc/zygote/stem_tier.c csrc/common/fd.c csrc/common/text.c csrc/common/wire.c */
/* What the zygote of the Landlock tier gives up before it becomes an interpreter; the rules of Landlock are replaced.
 */
#include <linux/capability.h>
#include <sys/stat.h>

#include "common/stage.h"
#include "init/landlock.h"
#include "nth.h"
#include "zygote/stem.h"
#include "zygote/zygote.h"

#ifdef SYS_chown
#define CHOWN SYS_chown
#else
#define CHOWN SYS_fchownat
#endif
#define LEASES "/tmp/sandpool-stem-tier"

static struct {
    int keep, make, enter; /* what these return */
    const char *failed;    /* what Landlock names */
    unsigned rules;
} the;

static struct sp_plan plan;
static struct sp_rec_failed why;
static char leases[] = LEASES "-XXXXXX";

void sp_zygote_tier_next(struct sp_plan *of) { of->lease++; }
int sp_stem_keep_capabilities(const struct sp_plan *of) {
    CHECK(of == &plan);
    return the.keep;
}
int sp_landlock_make(const struct sp_landlock_rules *rules, uint32_t abi_max, bool scoped, const char **failed) {
    CHECK(abi_max == 5 && scoped && strcmp(rules->more[0].path, leases) == 0 && rules->more[0].writable);
    the.rules = rules->n_more;
    *failed = the.failed;
    return the.make < 0 ? the.make : dup(0);
}
int sp_landlock_enter(int domain, uint32_t abi_max) {
    CHECK(domain > 2 && abi_max == 5);
    return the.enter;
}

static void prepare(void) {
    plan = (struct sp_plan){.leases = leases, .n_capabilities = 41, .config.landlock_abi_max = 5};
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    why = (struct sp_rec_failed){.err = 0};
}

static int make_ready(void) {
    const int rc = sp_stem_tier_prepare(&plan, &why);
    CHECK(rc == -(int)why.err && (rc == 0 || why.stage != SP_STAGE_NONE));
    return rc;
}

static bool fails(int err, uint32_t stage, const char *detail) {
    return make_ready() == -err && why.stage == stage && strcmp(why.detail, detail) == 0;
}

static void clear(void) {
    char path[128];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(path, sizeof path, "%s/l%d", leases, i);
        (void)rmdir(path);
    }
}

/* ---- the directory in the place of /tmp ---- */

/* A lease of an earlier zygote may still have the number. */
static void the_next_free_number_is_taken(void) {
    char path[128];
    struct stat st;
    prepare();
    (void)snprintf(path, sizeof path, "%s/l1", leases);
    CHECK(mkdir(path, 0700) == 0 && make_ready() == 0 && plan.lease == 2);
    (void)snprintf(path, sizeof path, "%s/l2", leases);
    CHECK(strcmp(sp_stem_tier_home(), path) == 0 && stat(path, &st) == 0 && (st.st_mode & 07777) == 0700);
}

static void a_directory_that_cannot_be_made_is_told(void) {
    static char gone[] = LEASES "-gone", deep[5000];
    prepare();
    plan.leases = gone;
    CHECK(fails(ENOENT, SP_STAGE_SCRATCH, gone));
    memset(deep, 'x', sizeof deep - 1);
    deep[0] = '/';
    plan.leases = deep;
    CHECK(make_ready() == -ENAMETOOLONG && why.stage == SP_STAGE_SCRATCH);
}

static void the_interpreter_has_a_directory(void) {
    CHECK(in_child(the_next_free_number_is_taken, 10) == 0);
    clear();
    CHECK(in_child(a_directory_that_cannot_be_made_is_told, 10) == 0);
}

/* ---- what is given up ---- */

static bool has_capability(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0}};
    CHECK(syscall(SYS_capget, &header, sets) == 0);
    return (sets[0].effective | sets[1].effective | sets[0].permitted | sets[1].permitted) != 0;
}

static void without_ids_no_capability_stays(void) {
    prepare();
    CHECK(make_ready() == 0 && !has_capability() && the.rules > 1);
}

static void without_ids_nothing_fails_silently(void) {
    prepare();
    the.keep = -EPERM;
    CHECK(fails(EPERM, SP_STAGE_CAPS, "capset"));
    the.keep = 0;
    the.make = -ENOENT;
    the.failed = "/data"; /* a path of the configuration */
    CHECK(fails(ENOENT, SP_STAGE_BIND, "/data"));
    the.make = -EMFILE;
    the.failed = "landlock";
    CHECK(fails(EMFILE, SP_STAGE_LANDLOCK, "landlock"));
    the.make = 0;
    the.enter = -E2BIG;
    CHECK(fails(E2BIG, SP_STAGE_LANDLOCK, "landlock"));
}

static void what_a_user_gives_up(void) {
    CHECK(in_child(without_ids_no_capability_stays, 10) == 0);
    CHECK(in_child(without_ids_nothing_fails_silently, 10) == 0);
    clear();
}

static void prepare_ids(void) {
    prepare();
    plan.config.flags |= SP_CONFIG_LEASE_UIDS;
    CHECK(chmod(leases, 0755) == 0); /* so that nobody sees what is his */
}

static void with_ids_it_is_nobody(void) {
    struct stat st;
    uid_t ids[3];
    gid_t groups[3];
    prepare_ids();
    CHECK(make_ready() == 0 && stat(sp_stem_tier_home(), &st) == 0 && st.st_uid == 65534 && st.st_gid == 65534);
    CHECK(getresuid(&ids[0], &ids[1], &ids[2]) == 0 && ids[0] == 65534 && ids[1] == 65534 && ids[2] == 65534);
    CHECK(getresgid(&groups[0], &groups[1], &groups[2]) == 0 && groups[0] == 65534 && groups[2] == 65534);
    CHECK(getgroups(0, NULL) == 0 && prctl(PR_CAPBSET_READ, (unsigned long)CAP_SYS_ADMIN, 0, 0, 0) == 0);
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_mkdirat, CHOWN, SYS_setgroups, SYS_setresgid, SYS_setresuid};
    const struct sweep sweep = {.prepare = prepare_ids, .act = make_ready, .err = ENOMEM};
    const struct sweep plain = {.prepare = prepare, .act = make_ready, .err = ENOMEM};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
        clear();
    }
    CHECK(count_fatal(&sweep, SYS_prctl) == 1); /* those that drop bounds go on: exec gives nobody anything */
    CHECK(count_fatal(&plain, SYS_capset) == 1);
    clear();
}

/* Where a container has taken the right to set groups away, there are none to keep. */
static void without_groups_to_set(void) {
    const struct sweep denied = {.prepare = prepare_ids, .act = make_ready, .err = EPERM};
    CHECK(count_fatal(&denied, SYS_setgroups) == 0);
    clear();
}

static void with_ids_and_no_capabilities(void) {
    prepare_ids();
    the.keep = -EPERM;
    CHECK(fails(EPERM, SP_STAGE_DROP_ROOT, "uid 65534 of the interpreter") && geteuid() == 0);
}

static void what_root_gives_up(void) {
    CHECK(in_child(with_ids_it_is_nobody, 10) == 0);
    clear();
    CHECK(in_child(with_ids_and_no_capabilities, 10) == 0);
    clear();
    each_refused_call_is_reported();
    without_groups_to_set();
}

int main(void) {
    check_deadline(100);
    if (mkdtemp(leases) == NULL) {
        return EXIT_FAILURE;
    }
    RUN(the_interpreter_has_a_directory);
    RUN(what_a_user_gives_up);
    if (geteuid() == 0) {
        RUN(what_root_gives_up);
    }
    clear();
    CHECK(rmdir(leases) == 0);
    return check_report();
}
