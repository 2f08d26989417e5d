/* sources: csrc/zygote/root.c csrc/zygote/view.c csrc/zygote/etc.c csrc/zygote/cpus.c csrc/zygote/helpers.c
 * csrc/zygote/copy.c csrc/zygote/binds.c csrc/zygote/source.c csrc/zygote/search.c csrc/zygote/workspace.c
 * csrc/zygote/pivot.c csrc/zygote/listing.c csrc/init/files.c csrc/init/mount_flags.c csrc/init/mounts.c
 * csrc/init/lines.c csrc/init/proc.c csrc/init/mask.c csrc/init/plan.c csrc/common/tree_linux.c
 * csrc/common/idmap_linux.c csrc/common/vfork_linux.c csrc/common/packet.c csrc/common/wire.c csrc/common/clock.c
 * csrc/common/fd.c csrc/common/fd_linux.c csrc/common/mountinfo_linux.c csrc/common/text.c */
/* The root of the sandboxes, and the mounts of one: each call refused in turn, of this machine's own system view and of
 * a rootfs. */
#include <sys/stat.h>

#include "check.h"
#include "common/fact.h"
#include "common/stage.h"
#include "init/mounts.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"
#include "zygote/zygote.h"

#define ROOTFS "/tmp/rootfs"

static struct sp_plan_bind binds[2];
static struct sp_plan plan;
static struct sp_rec_failed why;

void sp_zygote_allow_workspace(struct sp_plan *of) { of->has_workspace = true; }

/* The first process of a pid namespace, because only there /proc can be mounted. The one before waits for it. */
static void enter_own_pids(void) {
    int status = -1;
    enter_own_mounts();
    CHECK(unshare(CLONE_NEWPID) == 0);
    pid_t pid = fork();
    if (pid != 0) {
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void prepare(void) {
    enter_own_pids();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755") == 0);
    (void)dup2(open("/proc", O_PATH | O_DIRECTORY), SP_PROC_FD);
    plan = (struct sp_plan){.binds = binds};
    why = (struct sp_rec_failed){0};
}

static void make_file(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    CHECK(fd != -1 && write(fd, "x:x:\n", 5) == 5);
    (void)close(fd);
}

static void prepare_rootfs(void) {
    static const char *const dirs[] = {ROOTFS,        ROOTFS "/proc", ROOTFS "/tmp", ROOTFS "/dev",
                                       ROOTFS "/etc", ROOTFS "/sys",  ROOTFS "/mnt"};
    prepare();
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        CHECK(mkdir(dirs[i], 0755) == 0);
    }
    make_file(ROOTFS "/etc/passwd");
    make_file(ROOTFS "/etc/hosts");
    plan.rootfs = ROOTFS;
}

static void prepare_network(void) {
    prepare();
    plan.config.flags = SP_CONFIG_NET_HOST;
}

static bool is_there(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 || stat(path, &st) == 0; /* one of the two may be the refused call */
}

static bool is_writable(const char *path) { return access(path, W_OK) == 0; }

static bool has_root(void) {
    return is_there("/proc/self") && is_there("/tmp") && is_there("/dev/null") && is_there("/etc/passwd") &&
           !is_there("/old") && !is_writable("/") && !is_writable("/etc/passwd");
}

static int build(void) {
    int rc = sp_zygote_build_root(&plan, &why);
    CHECK(rc != 0 || has_root());
    CHECK(rc == 0 || (why.err == (uint32_t)-rc && why.stage != SP_STAGE_NONE && why.detail[0] != '\0'));
    return rc;
}

/* ---- what a root has ---- */

static void build_system_view(void) {
    prepare();
    CHECK(build() == 0 && plan.has_workspace && plan.masks != 0);
    CHECK(is_there("/usr/bin") && is_there(SP_WORKSPACE) && is_there("/sys/devices/system/cpu/possible"));
    CHECK(is_there("/etc/nsswitch.conf") && !is_there("/etc/shadow") && !is_there("/home") && !is_there("/root"));
}

static void build_rootfs(void) {
    prepare_rootfs();
    CHECK(build() == 0 && plan.has_workspace && !is_there("/usr/bin") && is_there(SP_WORKSPACE));
    CHECK(!is_writable("/dev") && errno == EROFS && is_there("/sys/devices/system/cpu/possible"));
}

static void build_without_proc(void) {
    prepare();
    plan.config.flags = SP_CONFIG_DEGRADE;
    refuse_flagged(SYS_mount, EPERM, 3, MS_NOEXEC);
    CHECK(sp_zygote_build_root(&plan, &why) == 0 && (plan.left_out & SP_FACT_OWN_PROC) != 0 && !is_there("/proc/self"));
}

/* As in a container that has none. */
static void build_without_a_terminal(void) {
    prepare();
    refuse(SYS_faccessat, ENOENT);
#ifdef SYS_access
    refuse(SYS_access, ENOENT);
#endif
    CHECK(build() == 0 && is_there("/dev/zero") && !is_there("/dev/tty"));
}

static void a_root_has_what_a_sandbox_needs(void) {
    CHECK(in_child(build_system_view, 20) == 0 && in_child(build_rootfs, 20) == 0);
    CHECK(in_child(build_without_proc, 20) == 0 && in_child(build_without_a_terminal, 20) == 0);
}

/* ---- the mounts of a sandbox, which init makes ---- */

static void prepare_sandbox(void) {
    prepare();
    CHECK(mkdir("/tmp/shown", 0755) == 0 && mkdir("/tmp/shown/inside", 0755) == 0);
    binds[0] =
        (struct sp_plan_bind){.path = "/scratch", .source = "/scratch", .scratch = true, .parent = -1, .within = -1};
    binds[1] = (struct sp_plan_bind){
        .path = "/tmp/deep/shown", .source = "/tmp/shown", .staged = true, .parent = -1, .within = -1};
    plan.config = (struct sp_rec_config){.n_binds = 2, .scratch_bytes = 1 << 20, .scratch_inodes = 100};
    plan.has_scratch = plan.has_staged = true;
    CHECK(sp_zygote_clone_binds(&plan, &why) == 0 && build() == 0);
}

static bool has_mounts(void) {
    return is_there("/tmp/deep/shown/inside") && is_there("/dev/pts/ptmx") && is_writable("/tmp") &&
           is_writable("/scratch") && is_writable("/dev/shm") && !is_there("/dev/shm/tmp");
}

static int mount_all(void) {
    int rc = sp_init_mounts(&plan, &why);
    CHECK(rc != 0 || has_mounts());
    CHECK(rc == 0 || (rc == -1 && why.err == ENOSPC && why.stage != SP_STAGE_NONE && why.detail[0] != '\0') ||
          (rc == -(int)why.err && why.stage != SP_STAGE_NONE && why.detail[0] != '\0'));
    return rc == -1 ? -(int)why.err : rc;
}

static void mount_once(void) {
    prepare_sandbox();
    CHECK(mount_all() == 0);
}

static void each_refused_mount_of_a_sandbox_is_reported(void) {
    static const long of_init[] = {SYS_mount, SYS_mkdirat, SYS_newfstatat};
    const struct sweep sweep = {.prepare = prepare_sandbox, .act = mount_all, .err = ENOSPC};
    CHECK(in_child(mount_once, 20) == 0);
    for (size_t i = 0; i < sizeof of_init / sizeof of_init[0]; i++) {
        CHECK(count_fatal(&sweep, of_init[i]) != 0);
    }
}

/* ---- /etc ---- */

/* Its root is a tmpfs with a host in /old and a template in /new. */
static void prepare_etc(void) {
    static const char *const dirs[] = {"/tmp/old", "/tmp/old/etc", "/tmp/new", "/tmp/new/etc"};
    prepare_network();
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        CHECK(mkdir(dirs[i], 0755) == 0);
    }
    make_file("/tmp/old/etc/hosts");
    make_file("/tmp/old/etc/nsswitch.conf");
    CHECK(chroot("/tmp") == 0 && chdir("/") == 0);
}

static bool reads(const char *path, const char *ending) {
    char text[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    (void)close(fd);
    const size_t len = strlen(text);
    return len >= strlen(ending) && strcmp(text + len - strlen(ending), ending) == 0;
}

static int make_etc(void) {
    int rc = sp_zygote_make_etc(&plan, &why);
    CHECK(rc == 0 || (rc == -(int)why.err && why.stage == SP_STAGE_ROOT && why.detail[0] != '\0'));
    return rc;
}

static void names_of_the_host(void) {
    prepare_etc();
    CHECK(make_etc() == 0 && reads("/new/etc/hosts", "sandbox\nx:x:\n") && reads("/new/etc/nsswitch.conf", "x:x:\n"));
    CHECK(reads("/new/etc/group", "nogroup:x:65534:\n") && !is_there("/new/etc/resolv.conf"));
    CHECK(make_etc() == -EEXIST);
}

/* A file of the host that cannot be opened is left out. */
static void refuse_etc(void) {
    const struct sweep sweep = {.prepare = prepare_etc, .act = make_etc, .err = EIO};
    CHECK(count_fatal(&sweep, SYS_write) == 3 && count_fatal(&sweep, SYS_sendfile) == 4);
    CHECK(count_fatal(&sweep, SYS_openat) == 5 && count_fatal(&sweep, SYS_openat2) == 0);
}

static void prepare_etc_of_rootfs(void) {
    prepare_etc();
    make_file("/new/etc/passwd");
    plan.rootfs = "/rootfs";
}

static int lay_etc(void) {
    int rc = sp_zygote_lay_etc(&plan, &why);
    CHECK(rc != 0 || is_there("/new/etc/passwd")); /* without the lines of the rootfs, if these cannot be read */
    CHECK(rc == 0 || (rc == -(int)why.err && why.stage != SP_STAGE_NONE && why.detail[0] != '\0'));
    return rc;
}

static void lay_over_files(void) {
    prepare_etc_of_rootfs();
    CHECK(lay_etc() == 0 && reads("/new/etc/passwd", "/bin/false\nx:x:\n"));
}

static void lay_without_overlay(void) {
    prepare_etc_of_rootfs();
    refuse_flagged(SYS_mount, EPERM, 3, MS_RDONLY); /* an overlay is mounted so; a bind gets its flags later */
    CHECK(lay_etc() == 0 && !is_there("/new/etc/group"));
}

static void lay_in_vain(void) {
    prepare_etc_of_rootfs();
    refuse(SYS_mount, EACCES);
    CHECK(lay_etc() == -EACCES && why.stage == SP_STAGE_ROOTFS);
}

static void lay_over_nothing(void) {
    prepare_etc();
    CHECK(rmdir("/new/etc") == 0 && sp_zygote_lay_etc(&plan, &why) == 0 && !is_there("/laid"));
}

static void etc_is_made_up_or_the_failure_reported(void) {
    const struct sweep sweep = {.prepare = prepare_etc_of_rootfs, .act = lay_etc, .err = ENOSPC};
    CHECK(in_child(names_of_the_host, 10) == 0);
    refuse_etc();
    CHECK(in_child(lay_over_files, 10) == 0);
    CHECK(in_child(lay_without_overlay, 10) == 0 && in_child(lay_in_vain, 10) == 0 &&
          in_child(lay_over_nothing, 10) == 0);
    CHECK(count_fatal(&sweep, SYS_mkdirat) == 1 && count_fatal(&sweep, SYS_openat) != 0);
}

/* ---- calls that are refused while a root is built ---- */

/* The copy of /sys, which makes most of the calls, is that of the rootfs below. */
static void prepare_without_sys(void) {
    prepare();
    CHECK(mount("tmpfs", "/sys", "tmpfs", 0, "mode=0755") == 0);
}

static void prepare_rootfs_without_sys(void) {
    prepare_rootfs();
    CHECK(rmdir(ROOTFS "/sys") == 0);
}

static void refuse_each(void (*prepares)(void), const long *of, size_t n) {
    const struct sweep sweep = {.prepare = prepares, .act = build, .err = ENOSPC, .ends = true, .keeps = 1, .most = 70};
    for (size_t i = 0; i < n; i++) {
        CHECK(count_fatal(&sweep, of[i]) != 0);
    }
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_mount, SYS_mkdirat,    SYS_symlinkat, SYS_mount_setattr,
                                 SYS_chdir, SYS_pivot_root, SYS_umount2};
    static const long of_links[] = {SYS_readlinkat};
    struct stat st;
    refuse_each(prepare_without_sys, calls, sizeof calls / sizeof calls[0]);
    if (lstat("/bin", &st) == 0 && S_ISLNK(st.st_mode)) { /* as most systems have it */
        refuse_each(prepare_without_sys, of_links, 1);
    }
}

static void each_refused_call_for_a_rootfs_is_reported(void) {
    static const long calls[] = {SYS_mount, SYS_mkdirat, SYS_symlinkat, SYS_openat, SYS_write};
    static const long without_sys[] = {SYS_openat};
    refuse_each(prepare_rootfs, calls, sizeof calls / sizeof calls[0]);
    refuse_each(prepare_rootfs_without_sys, without_sys, 1);
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(230);
    RUN_WITHOUT(lack, a_root_has_what_a_sandbox_needs);
    RUN_WITHOUT(lack, each_refused_mount_of_a_sandbox_is_reported);
    RUN_WITHOUT(lack, etc_is_made_up_or_the_failure_reported);
    RUN_WITHOUT(lack, each_refused_call_is_reported);
    RUN_WITHOUT(lack, each_refused_call_for_a_rootfs_is_reported);
    return check_report();
}
