/* sources: csrc/zygote/stem.c csrc/zygote/binds.c csrc/zygote/source.c csrc/zygote/search.c csrc/zygote/listing.c
 * csrc/init/files.c csrc/init/mount_flags.c csrc/init/mounts.c csrc/init/mask.c csrc/init/plan.c csrc/init/lines.c
 * csrc/init/proc.c csrc/common/tree_linux.c csrc/common/idmap_linux.c csrc/common/vfork_linux.c csrc/common/wire.c
 * csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/mountinfo_linux.c csrc/common/text.c */
/* What the zygote does before it becomes an interpreter: what tenants can write to is hidden, and each call refused. */
#include <sys/resource.h>
#include <sys/stat.h>

#include "check.h"
#include "common/fact.h"
#include "common/stage.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"
#include "zygote/stem.h"
#include "zygote/zygote.h"

#define NO_INTERPRETER "/nowhere/python"

static struct sp_plan_bind binds[5];
static struct sp_plan plan;
static struct sp_rec_failed why;
static int outside = -1; /* the host's pidfd */

int sp_stem_tier_prepare(struct sp_plan *of, struct sp_rec_failed *failed) {
    return sp_failed(failed, SP_STAGE_SCRATCH, of == &plan ? ENOSPC : EINVAL, "the tier's");
}
const char *sp_stem_tier_home(void) { return "/tmp/l1"; }

static void make_file(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    CHECK(fd != -1 && write(fd, "text", 4) == 4);
    (void)close(fd);
}

static void fill_plan(void) {
    const struct sp_plan_bind all[] = {
        {.path = "/data", .source = "/data", .parent = -1, .writable = true},
        {.path = "/data/inner", .source = "/inner", .parent = 0, .writable = true},
        {.path = "/file", .source = "/file", .parent = -1, .writable = true},
        {.path = "/read", .source = "/read", .parent = -1},
        {.path = "/tmp/staged", .source = "/staged", .parent = -1, .writable = true, .staged = true},
    };
    memcpy(binds, all, sizeof binds);
    plan = (struct sp_plan){.binds = binds,
                            .config.n_binds = 5,
                            .has_staged = true,
                            .payload = "payload",
                            .interpreter = NO_INTERPRETER,
                            .module = open("/file", O_RDONLY | O_CLOEXEC),
                            .errors = dup(2)};
    plan.config.payload_len = 8;
    outside = dup(0);
}

/* Its root is a tmpfs with what a template has. */
static void prepare(void) {
    static const char *const dirs[] = {"/tmp/dev",  "/tmp/dev/pts",    "/tmp/dev/pts/staged", "/tmp/dev/pts/staged/4",
                                       "/tmp/data", "/tmp/data/inner", "/tmp/read",           "/tmp/tmp"};
    enter_own_mounts();
    umask(022);
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755") == 0);
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        CHECK(mkdir(dirs[i], 0755) == 0);
    }
    make_file("/tmp/data/module.py");
    make_file("/tmp/read/module.py");
    make_file("/tmp/file");
    make_file("/tmp/dev/pts/staged/4/module.py");
    (void)close(open("/tmp" SP_EMPTY_FILE, O_CREAT | O_WRONLY, 0444));
    (void)dup2(open("/proc", O_PATH | O_DIRECTORY), SP_PROC_FD);
    (void)dup2(0, 3);
    CHECK(chroot("/tmp") == 0 && chdir("/") == 0);
    fill_plan();
}

static bool is_there(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 || stat(path, &st) == 0; /* one of the two may be the refused call */
}

static bool is_empty(const char *path) {
    struct stat st;
    return (stat(path, &st) == 0 || stat(path, &st) == 0) && st.st_size == 0;
}

static int prepare_stem(void) {
    int rc = sp_zygote_prepare_stem(&plan, &why);
    CHECK(rc != 0 || (!is_there("/data/module.py") && is_empty("/file") && is_there("/read/module.py")));
    CHECK(rc == 0 || (why.detail[0] != '\0' && why.err != 0 && why.stage != SP_STAGE_NONE));
    return rc != 0 ? -(int)why.err : 0;
}

/* ---- what is hidden ---- */

static void hide_and_show(void) {
    prepare();
    CHECK(prepare_stem() == 0 && !is_there("/tmp/staged/module.py") && is_there("/tmp/staged"));
    CHECK(mkdir("/data/new", 0755) == -1 && errno == EROFS);
    CHECK(sp_stem_show_writable(&plan) == 0 && is_there("/data/module.py") && !is_empty("/file"));
    CHECK(sp_stem_show_writable(&plan) == -EINVAL); /* nothing is mounted there any more */
}

static void without_a_network_namespace(void) {
    prepare();
    plan.config.flags = SP_CONFIG_DEGRADE;
    refuse(SYS_unshare, EPERM);
    CHECK(prepare_stem() == 0);
    plan.config.flags = SP_CONFIG_NET_HOST;
    CHECK(prepare_stem() == 0);
}

static void where_it_cannot_be(void) {
    prepare();
    plan.left_out = SP_FACT_OWN_PROC;
    CHECK(prepare_stem() == -ENOTSUP && why.stage == SP_STAGE_PRELOAD);
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER; /* its own file makes ready */
    CHECK(prepare_stem() == -ENOSPC && why.stage == SP_STAGE_SCRATCH);
}

static void what_tenants_can_write_is_hidden(void) {
    CHECK(in_child(hide_and_show, 10) == 0 && in_child(without_a_network_namespace, 10) == 0);
    CHECK(in_child(where_it_cannot_be, 10) == 0);
}

static void each_refused_call_is_reported(void) {
    const struct sweep sweep = {.prepare = prepare, .act = prepare_stem, .err = ENOMEM};
    CHECK(count_fatal(&sweep, SYS_unshare) == 1 && count_fatal(&sweep, SYS_mount) == 5);
    CHECK(count_fatal(&sweep, SYS_newfstatat) != 0 && count_fatal(&sweep, SYS_mkdirat) == 2);
}

/* ---- what the interpreter gets ---- */

/* 0: it has come to the exec, which fails. */
static int become(void) {
    int rc = sp_zygote_become_stem(&plan, outside, &why);
    CHECK(rc == -(int)why.err && why.stage == SP_STAGE_PRELOAD);
    return strcmp(why.detail, NO_INTERPRETER) == 0 && rc == -ENOENT ? 0 : rc;
}

static void become_all(void) {
    prepare();
    CHECK(become() == 0);
    plan.module = plan.errors; /* no file that can be mapped */
    CHECK(become() != 0 && strcmp(why.detail, "hand-over") == 0);
}

static void become_without_a_host(void) {
    prepare();
    outside = -1;
    CHECK(become() == 0);
}

/* Linux before 6.3 does not know the flag that makes the copy executable. */
static void become_before_the_flag(void) {
    prepare();
    refuse_nth(SYS_memfd_create, EINVAL, 2);
    CHECK(become() == 0);
}

/* The first failure is reported, whatever the calls are that are made again without the flag. */
static void become_without_memory_before_the_flag(void) {
    prepare();
    refuse_flagged(SYS_memfd_create, EINVAL, 1, 0x10);
    refuse_nth(SYS_memfd_create, ENOMEM, 1);
    CHECK(become() == -ENOMEM);
}

/* The signal of the limit would end a process that is no pid 1, as in the Landlock tier, and nobody would know why. */
static void become_below_a_limit(void) {
    const struct rlimit limit = {16, 16};
    prepare();
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0 && signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    CHECK(become() == -EFBIG && strcmp(why.detail, "hand-over") == 0);
}

static void the_exec_is_reached(void) {
    CHECK(in_child(become_all, 10) == 0 && in_child(become_without_a_host, 10) == 0);
    CHECK(in_child(become_before_the_flag, 10) == 0 && in_child(become_without_memory_before_the_flag, 10) == 0);
    CHECK(in_child(become_below_a_limit, 10) == 0);
}

static void each_refused_call_of_the_hand_over_is_reported(void) {
    static const long calls[] = {SYS_memfd_create, SYS_newfstatat, SYS_mmap,  SYS_write, SYS_fcntl, SYS_lseek,
                                 SYS_capget,       SYS_capset,     SYS_prctl, SYS_dup3,  SYS_execve};
    const struct sweep sweep = {.prepare = prepare, .act = become, .err = ENOMEM, .ends = true, .keeps = 4};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(100);
    RUN_WITHOUT(lack, what_tenants_can_write_is_hidden);
    RUN_WITHOUT(lack, each_refused_call_is_reported);
    RUN_WITHOUT(lack, the_exec_is_reached);
    RUN_WITHOUT(lack, each_refused_call_of_the_hand_over_is_reported);
    return check_report();
}
