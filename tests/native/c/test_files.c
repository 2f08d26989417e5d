/* sources: csrc/init/files.c csrc/init/mount_flags.c csrc/init/lines.c csrc/init/proc.c csrc/common/mountinfo_linux.c
 * csrc/common/text.c csrc/common/fd.c */
/* Directories and id maps that cannot be made, and binds that cannot be completed: each failure has its errno. */
#include "init/files.h"

#include <sys/stat.h>

#include "init/plan.h"
#include "init/proc.h"
#include "lacks.h"
#include "refused.h"

static char folder[] = "/tmp/sandpool-files-XXXXXX";

static char *in_folder(const char *name) {
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void refuse_mkdir(int err) {
    refuse(SYS_mkdirat, err);
#ifdef SYS_mkdir
    refuse(SYS_mkdir, err);
#endif
}

static void make_whole_paths(void) {
    struct stat st;
    char *path = in_folder("a/b/c");
    CHECK(sp_make_dirs(path, 0755) == 0 && strcmp(path, in_folder("a/b/c")) == 0 && access(path, F_OK) == 0);
    CHECK(sp_make_dirs(path, 0755) == 0); /* they are there */
    CHECK(sp_make_mount_point(in_folder("a/d/file"), 0) == 0);
    CHECK(stat(in_folder("a/d/file"), &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0);
    CHECK(sp_make_mount_point(in_folder("a/d/file"), 0) == 0 && sp_make_mount_point(in_folder("a/d"), 1) == 0);
}

static void make_none(void) {
    char top[] = "/sandpool-no-such-directory";
    char relative[] = "file";
    refuse_mkdir(EACCES);
    CHECK(sp_make_dirs(in_folder("a/b"), 0755) == -EACCES); /* the upper one */
    CHECK(sp_make_dirs(top, 0755) == -EACCES);              /* the last one */
    CHECK(sp_make_mount_point(in_folder("a/file"), 0) == -EACCES);
    CHECK(sp_make_mount_point(relative, 0) == -EINVAL);
}

/* On a read-only file system each has this error, also one that is there. */
static void make_none_on_a_read_only_one(void) {
    refuse_mkdir(EROFS);
    CHECK(sp_make_dirs(in_folder("a/b"), 0755) == 0 && access(in_folder("a/b"), F_OK) == -1);
    CHECK(sp_make_mount_point(in_folder("a/file"), 0) == -ENOENT);
}

static void directories_are_made_or_the_failure_returned(void) {
    CHECK(in_child(make_none, 20) == 0 && in_child(make_none_on_a_read_only_one, 20) == 0);
    CHECK(in_child(make_whole_paths, 20) == 0);
    CHECK(unlink(in_folder("a/d/file")) == 0 && rmdir(in_folder("a/d")) == 0 && rmdir(in_folder("a/b/c")) == 0);
    CHECK(rmdir(in_folder("a/b")) == 0 && rmdir(in_folder("a")) == 0);
}

/* ---- id maps ---- */

static void enter_unmapped(void) {
    const int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(proc != -1 && dup2(proc, SP_PROC_FD) == SP_PROC_FD && unshare(CLONE_NEWUSER) == 0);
}

static void map_ids(void) {
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    enter_unmapped();
    CHECK(sp_deny_setgroups() == 0 && sp_write_id_maps(uid, gid) == 0);
    CHECK(geteuid() == SP_INSIDE_ID && getegid() == SP_INSIDE_ID);
    CHECK(sp_write_id_maps(uid, gid) == -EPERM); /* once only */
}

static void map_ids_in_vain(void) {
    enter_unmapped();
    refuse(SYS_write, EPERM);
    CHECK(sp_deny_setgroups() == -EPERM && sp_write_id_maps(0, 0) == -EPERM);
}

/* No kernel does it, but what is written in part must not count as written. */
static void map_ids_in_part(void) {
    enter_unmapped();
    refuse(SYS_write, 0);
    CHECK(sp_deny_setgroups() == -EIO && sp_write_id_maps(0, 0) == -EIO);
}

static void map_ids_without_proc(void) {
    enter_unmapped();
    CHECK(close(SP_PROC_FD) == 0);
    CHECK(sp_deny_setgroups() == -EBADF && sp_write_id_maps(0, 0) == -EBADF);
}

static void ids_are_mapped_or_the_failure_returned(void) {
    CHECK(in_child(map_ids, 20) == 0 && in_child(map_ids_in_vain, 20) == 0);
    CHECK(in_child(map_ids_in_part, 20) == 0 && in_child(map_ids_without_proc, 20) == 0);
}

/* ---- binds ---- */

static void bind_in_vain(void) {
    enter_own_mounts();
    CHECK(sp_bind("/no/such/directory", folder, 0) == -ENOENT);
    refuse(SYS_openat, EMFILE);
    CHECK(sp_bind("/tmp", folder, 0) == -EMFILE);
}

static void a_bind_that_cannot_be_completed_is_reported(void) { CHECK(in_child(bind_in_vain, 20) == 0); }

int main(void) {
    check_deadline(60);
    CHECK(mkdtemp(folder) != NULL);
    RUN(directories_are_made_or_the_failure_returned);
    RUN_WITHOUT(lack_of_namespaces(), ids_are_mapped_or_the_failure_returned);
    RUN_WITHOUT(lack_of_namespaces(), a_bind_that_cannot_be_completed_is_reported);
    CHECK(rmdir(folder) == 0);
    return check_report();
}
