/* sources: csrc/init/mount_flags.c csrc/init/lines.c csrc/init/proc.c csrc/common/mountinfo_linux.c csrc/common/text.c
 * csrc/common/fd.c */
/* Flags of mounts reach every mount of a tree and take none away, where mount_setattr(2) is there and where it is not.
 */
#include "init/mount_flags.h"

#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "check.h"
#include "common/kernel_linux.h"
#include "init/plan.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define NEW_TREE (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | 0x8000u) /* AT_RECURSIVE */

static int refusal; /* of mount_setattr; 0: it is not refused */

/* Since Linux 5.12, where nothing refuses it: the kernel does not like this size. */
static bool has_mount_setattr(void) { return syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) == -1 && errno == EINVAL; }

static void make_tmpfs(const char *path, unsigned long flags) {
    CHECK((mkdir(path, 0755) == 0 || errno == EEXIST) && mount("tmpfs", path, "tmpfs", flags, NULL) == 0);
}

static void make_file(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    CHECK(fd != -1);
    (void)close(fd);
}

/* The current directory becomes a tmpfs with a tree of mounts in "from", which is bound at "to". */
static void make_tree(void) {
    enter_own_mounts();
    int proc = open("/proc", O_PATH | O_DIRECTORY);
    CHECK(proc != -1 && dup2(proc, SP_PROC_FD) == SP_PROC_FD);
    make_tmpfs("/tmp", 0);
    CHECK(chdir("/tmp") == 0 && mkdir("to", 0755) == 0);
    make_tmpfs("from", MS_NOEXEC);
    make_tmpfs("from/plain", 0);
    make_tmpfs("from/plain/a b\t\\c", MS_NOATIME | MS_NODIRATIME);
    make_tmpfs("from/read-only", MS_RDONLY | MS_STRICTATIME);
    make_file("from/file");
    make_file("from/plain/file");
    CHECK(mount("from/file", "from/plain/file", NULL, MS_BIND, NULL) == 0);
    make_tmpfs("from/hidden", 0);
    make_tmpfs("from/hidden/inner", 0);
    make_tmpfs("from/hidden", 0);
    CHECK(mount("from", "to", NULL, MS_BIND | MS_REC, NULL) == 0);
    if (refusal != 0) {
        refuse(SYS_mount_setattr, refusal);
    }
}

static bool can_write(const char *folder) {
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/new", folder);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    bool can = fd != -1;
    CHECK(can || errno == EROFS);
    (void)(can ? close(fd) : 0);
    return can;
}

static unsigned long flags_of(const char *path) {
    struct statvfs st;
    CHECK(statvfs(path, &st) == 0);
    return st.f_flag;
}

static int add(const char *path, uint64_t attrs, bool whole) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    CHECK(fd != -1);
    int rc = sp_mount_flags_add(fd, attrs, whole);
    (void)close(fd);
    return rc;
}

static void check_kept_and_added(void) {
    const unsigned long added = ST_RDONLY | ST_NOSUID | ST_NODEV;
    CHECK(!can_write("to") && !can_write("to/plain") && !can_write("to/plain/a b\t\\c") && !can_write("to/hidden"));
    CHECK((flags_of("to") & (added | ST_NOEXEC)) == (added | ST_NOEXEC));
    CHECK((flags_of("to/plain") & (added | ST_NOEXEC)) == added);
    CHECK((flags_of("to/plain/file") & (added | ST_NOEXEC)) == (added | ST_NOEXEC));
    CHECK((flags_of("to/plain/a b\t\\c") & added) == added);
    CHECK((flags_of("to/plain/a b\t\\c") & (ST_NOATIME | ST_NODIRATIME)) == (ST_NOATIME | ST_NODIRATIME));
    CHECK((flags_of("to/read-only") & (added | ST_NOATIME | ST_RELATIME)) == added);
    CHECK((flags_of("to/hidden") & added) == added);
}

/* What is shown to a tenant is not changed for its owner. */
static void check_source(void) {
    CHECK(can_write("from") && can_write("from/plain") && can_write("from/plain/a b\t\\c") && can_write("from/hidden"));
    CHECK((flags_of("from/plain") & (ST_RDONLY | ST_NOSUID | ST_NODEV)) == 0);
}

static void of_the_first_mount_only(void) {
    make_tree();
    CHECK(mount(NULL, "to", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOEXEC, NULL) == 0);
    CHECK(!can_write("to") && can_write("to/plain") && can_write("to/plain/a b\t\\c") && can_write("to/hidden"));
}

static void a_remount_of_the_first_mount_leaves_the_others_writable(void) {
    CHECK(in_child(of_the_first_mount_only, 10) == 0);
}

static void of_a_whole_tree(void) {
    make_tree();
    CHECK(add("to", READ_ONLY, true) == 0);
    check_kept_and_added();
    check_source();
    CHECK(add("to", READ_ONLY, true) == 0);
}

static void of_one_mount(void) {
    make_tree();
    CHECK(add("to/plain", MOUNT_ATTR_RDONLY, false) == 0);
    CHECK(can_write("to") && !can_write("to/plain") && can_write("to/plain/a b\t\\c"));
}

static void of_a_file(void) {
    make_tree();
    CHECK(add("to/plain/file", READ_ONLY, true) == 0);
    CHECK((flags_of("to/plain/file") & ST_RDONLY) != 0 && can_write("to/plain"));
}

/* A less privileged namespace cannot take a flag of its parent away: a remount without it is refused. */
static void of_locked_mounts(void) {
    make_tree();
    CHECK(add("to", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, true) == 0);
    enter_own_mounts();
    CHECK(mount(NULL, "/tmp/to/plain", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == -1 && errno == EPERM);
    CHECK(chdir("/tmp") == 0 && add("to", READ_ONLY, true) == 0);
    check_kept_and_added();
}

static void of_a_detached_tree(void) {
    make_tree();
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "from", NEW_TREE);
    CHECK(tree != -1 && mkdir("at", 0755) == 0);
    CHECK(sp_mount_flags_add(tree, MOUNT_ATTR_RDONLY, true) == (has_mount_setattr() ? 0 : -ESTALE));
    CHECK(can_write("to") && can_write("from") && can_write("/tmp"));
}

static void of_an_attached_tree(void) {
    make_tree();
    CHECK(mount(NULL, "from", NULL, MS_REC | MS_SHARED, NULL) == 0);
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "from", NEW_TREE);
    CHECK(umount2("to", MNT_DETACH) == 0);
    int target = open("to", O_PATH | O_CLOEXEC);
    CHECK(sp_mount_attach(tree, target, READ_ONLY) == 0);
    check_kept_and_added();
    check_source();
    make_tmpfs("from/plain/later", 0); /* which does not propagate into the copy */
    CHECK(access("to/plain/later", F_OK) == 0 && (flags_of("to/plain/later") & ST_RDONLY) != 0);
}

static void the_fallbacks(void (*test)(void)) {
    static const int refusals[] = {0, ENOSYS, EPERM};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        refusal = refusals[i];
        CHECK(in_child(test, 10) == 0);
    }
}

static void every_mount_of_a_tree_gets_them(void) { the_fallbacks(of_a_whole_tree); }
static void one_mount_gets_them(void) { the_fallbacks(of_one_mount); }
static void a_mount_on_a_file_gets_them(void) { the_fallbacks(of_a_file); }
static void locked_flags_stay(void) { the_fallbacks(of_locked_mounts); }
static void what_is_not_attached_changes_nothing_else(void) { the_fallbacks(of_a_detached_tree); }
static void a_tree_is_attached_with_them(void) { the_fallbacks(of_an_attached_tree); }

/* ---- two ways to the id of a mount ---- */

/* Before Linux 5.14 only root may look into the fdinfo of an undumpable process. */
static void cover_fdinfo(void) {
    make_tmpfs("/proc/self/fdinfo", 0);
    CHECK(access("/proc/self/fdinfo/0", F_OK) == -1 && errno == ENOENT);
}

static void without_fdinfo(void) {
    refusal = ENOSYS;
    make_tree();
    cover_fdinfo();
    CHECK(add("to", READ_ONLY, true) == 0);
    check_kept_and_added();
}

/* Before Linux 5.8 statx(2) does not tell the id. */
static void without_statx(void) {
    refusal = ENOSYS;
    make_tree();
    refuse(SYS_statx, ENOSYS);
    CHECK(add("to", READ_ONLY, true) == 0);
    check_kept_and_added();
}

static void with_neither(void) {
    refusal = ENOSYS;
    make_tree();
    cover_fdinfo();
    refuse(SYS_statx, ENOSYS);
    CHECK(add("to", READ_ONLY, true) == -ESTALE && can_write("to"));
}

static void a_mount_is_found_by_its_id(void) {
    CHECK(in_child(without_fdinfo, 10) == 0);
    CHECK(in_child(without_statx, 10) == 0);
    CHECK(in_child(with_neither, 10) == 0);
}

/* ---- where it fails ---- */

static void without_proc(void) {
    refusal = ENOSYS;
    make_tree();
    CHECK(dup2(0, SP_PROC_FD) == SP_PROC_FD);
    CHECK(add("to", READ_ONLY, true) == -ENOTDIR && can_write("to"));
}

static void without_remounts(void) {
    refusal = ENOSYS;
    make_tree();
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "from", NEW_TREE);
    CHECK(mkdir("at", 0755) == 0);
    int target = open("at", O_PATH | O_CLOEXEC);
    refuse_flagged(SYS_mount, EACCES, 3, MS_REMOUNT);
    CHECK(add("to", READ_ONLY, true) == -EACCES);
    CHECK(sp_mount_attach(tree, target, READ_ONLY) == -EACCES);
    CHECK(access("at/plain", F_OK) == -1 && errno == ENOENT); /* nothing is attached */
    CHECK(access("to/plain", F_OK) == 0);
}

/* As if a supervisor said that it was done. */
static void with_remounts_of_no_effect(void) {
    refusal = ENOSYS;
    make_tree();
    refuse_flagged(SYS_mount, 0, 3, MS_REMOUNT);
    CHECK(add("to", READ_ONLY, true) == -EIO);
}

static void at_a_target_that_is_gone(void) {
    refusal = ENOSYS;
    make_tree();
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "from", NEW_TREE);
    CHECK(sp_mount_attach(tree, -1, READ_ONLY) == -EBADF);
    refusal = EINVAL;
    refuse(SYS_mount_setattr, EINVAL);
    CHECK(sp_mount_attach(tree, -1, READ_ONLY) == -EINVAL);
    CHECK(add("to", READ_ONLY, true) == -EINVAL && can_write("to"));
}

/* The line of mountinfo would have 4 bytes for each blank; and a path can be longer than one that can be opened. */
static char letter;

static void with_a_line_that_does_not_fit(void) {
    char name[201];
    refusal = ENOSYS;
    make_tree();
    memset(name, letter, sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < (letter == ' ' ? 12 : 22); i++) {
        CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0);
    }
    CHECK(mount("tmpfs", ".", "tmpfs", 0, NULL) == 0);
    CHECK(chdir("/tmp") == 0 && add("to", READ_ONLY, true) == -EOVERFLOW);
}

static char closed[] = "/tmp/sandpool-closed-XXXXXX", inner[64];

static void below_a_closed_directory(void) {
    CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("tmpfs", inner, "tmpfs", 0, NULL) == 0);
    CHECK(setresgid(1, 1, 1) == 0 && setresuid(1, 1, 1) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
    enter_own_mounts();
    int proc = open("/proc", O_PATH | O_DIRECTORY);
    CHECK(proc != -1 && dup2(proc, SP_PROC_FD) == SP_PROC_FD);
    refuse(SYS_mount_setattr, ENOSYS);
    CHECK(mount("/tmp", "/mnt", NULL, MS_BIND | MS_REC, NULL) == 0 && add("/mnt", READ_ONLY, true) == -EACCES);
}

/* Of the way without mount_setattr(2). */
static void prepare_remounts(void) {
    refusal = ENOSYS;
    make_tree();
    (void)dup2(open("to", O_PATH | O_CLOEXEC), 9);
}

static int remount(void) { return sp_mount_flags_add(9, READ_ONLY, true); }

static int remount_all(void) {
    const int rc = remount();
    CHECK(rc != 0 || (!can_write("to") && !can_write("to/plain")));
    return rc;
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_openat, SYS_fchdir, SYS_mount};
    const struct sweep sweep = {.prepare = prepare_remounts, .act = remount, .err = ENOMEM};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
}

/* A list of mounts that is cut short would leave the others as they are. */
static void a_list_that_cannot_be_read_is_reported(void) {
    const struct sweep sweep = {.prepare = prepare_remounts, .act = remount_all, .err = ENOMEM};
    CHECK(count_fatal(&sweep, SYS_read) >= 4);
}

/* A mount point that is hidden or gone is out of everybody's reach. */
static void what_is_hidden_is_left_out(void) {
    const struct sweep sweep = {.prepare = prepare_remounts, .act = remount, .err = ENOMEM};
    static const int errors[] = {ENOENT, ENOTDIR};
    unsigned fatal = count_fatal(&sweep, SYS_openat);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        const struct sweep hidden = {.prepare = prepare_remounts, .act = remount, .err = errors[i]};
        CHECK(count_fatal(&hidden, SYS_openat) < fatal);
    }
}

static void a_failure_is_reported(void) {
    CHECK(in_child(without_proc, 10) == 0);
    CHECK(in_child(without_remounts, 10) == 0);
    CHECK(in_child(with_remounts_of_no_effect, 10) == 0);
    CHECK(in_child(at_a_target_that_is_gone, 10) == 0);
    for (int i = 0; i < 2; i++) {
        letter = i == 0 ? ' ' : 'x';
        CHECK(in_child(with_a_line_that_does_not_fit, 10) == 0);
    }
    if (geteuid() == 0) {
        CHECK(mkdtemp(closed) != NULL);
        (void)snprintf(inner, sizeof inner, "%s/in", closed);
        CHECK(mkdir(inner, 0755) == 0 && in_child(below_a_closed_directory, 10) == 0);
        CHECK(rmdir(inner) == 0 && rmdir(closed) == 0);
    }
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(120);
    RUN_WITHOUT(lack, a_remount_of_the_first_mount_leaves_the_others_writable);
    RUN_WITHOUT(lack, every_mount_of_a_tree_gets_them);
    RUN_WITHOUT(lack, one_mount_gets_them);
    RUN_WITHOUT(lack, a_mount_on_a_file_gets_them);
    RUN_WITHOUT(lack, locked_flags_stay);
    RUN_WITHOUT(lack, what_is_not_attached_changes_nothing_else);
    RUN_WITHOUT(lack, a_tree_is_attached_with_them);
    RUN_WITHOUT(lack, a_mount_is_found_by_its_id);
    RUN_WITHOUT(lack, a_failure_is_reported);
    RUN_WITHOUT(lack, each_refused_call_is_reported);
    RUN_WITHOUT(lack, a_list_that_cannot_be_read_is_reported);
    RUN_WITHOUT(lack, what_is_hidden_is_left_out);
    return check_report();
}
