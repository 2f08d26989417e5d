/* sources: csrc/common/tree_linux.c csrc/common/idmap_linux.c csrc/common/vfork_linux.c csrc/common/packet.c
 * csrc/common/wire.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/text.c */
/* Which mount trees a bind may show, as whose they are shown, and where one cannot be made. */
#include "common/tree.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/fd.h"
#include "common/idmap.h"
#include "common/kernel_linux.h"
#include "common/wire.h"
#include "lacks.h"
#include "refused.h"

static char folder[] = "/tmp/sandpool-tree-XXXXXX";

static int check(const char *source, const char *path, bool writable, const char *base) {
    sp_auto_fd int fd = open(source, O_PATH | O_CLOEXEC);
    CHECK(fd != -1);
    return sp_tree_check(fd, path, writable, base);
}

static void unchecked(void) {
    refuse(SYS_fstatfs, EIO);
    CHECK(check(folder, folder, true, "") == -EIO);
}

static void at_another_place(void) {
    static const char *const shown[] = {"/proc", "/sys"};
    enter_own_mounts();
    CHECK(check(folder, folder, false, "") == 0);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        CHECK(mount(shown[i], folder, NULL, MS_BIND | MS_REC, NULL) == 0);
        CHECK(check(folder, folder, false, "") == -EINVAL);
        CHECK(umount2(folder, MNT_DETACH) == 0);
    }
}

static void what_shows_the_host_is_refused_by_name(void) {
    CHECK(check(folder, folder, true, "") == 0 && check("/usr", "/usr", false, "") == 0);
    CHECK(check("/usr", folder, true, "") == -EINVAL && check(folder, "/usr", true, "") == -EINVAL);
    CHECK(check("/proc/1", folder, false, "") == -EINVAL && check("/", folder, false, "") == -EINVAL);
    CHECK(in_child(unchecked, 20) == 0);
}

static void and_at_another_place(void) { CHECK(in_child(at_another_place, 20) == 0); }

enum { READ_ONLY, AS_IT_WAS };

static int clone_tree(bool whole) {
    sp_auto_fd int source = open(folder, O_PATH | O_CLOEXEC);
    sp_auto_fd int tree = sp_tree_clone(source, false, whole);
    struct statvfs fs = {0};
    CHECK(tree < 0 || fstatvfs(tree, &fs) == 0);
    return tree < 0 ? tree : (fs.f_flag & ST_RDONLY) != 0 ? READ_ONLY : AS_IT_WAS;
}

static void clone_it(void) {
    enter_own_mounts();
    CHECK(clone_tree(true) == READ_ONLY && clone_tree(false) == READ_ONLY);
}

static void clone_it_without_attributes(int err, int rc) {
    enter_own_mounts();
    refuse(SYS_mount_setattr, err);
    CHECK(clone_tree(true) == rc);
}

/* The template sets them, too, and mounts without them where it cannot. */
static void before_linux_5_12(void) { clone_it_without_attributes(ENOSYS, AS_IT_WAS); }
static void where_a_filter_refuses_them(void) { clone_it_without_attributes(EPERM, AS_IT_WAS); }
static void where_they_cannot_be_set(void) { clone_it_without_attributes(EINVAL, -EINVAL); }

static void without_a_copy(void) {
    enter_own_mounts();
    refuse(SYS_open_tree, ENOSYS);
    CHECK(clone_tree(true) == -ENOSYS);
}

static void a_copy_has_its_attributes_or_none(void) {
    CHECK(in_child(clone_it, 20) == 0);
    CHECK(in_child(before_linux_5_12, 20) == 0 && in_child(where_a_filter_refuses_them, 20) == 0);
    CHECK(in_child(where_they_cannot_be_set, 20) == 0 && in_child(without_a_copy, 20) == 0);
}

/* Whether an id map was made for it. */
static bool is_mapped(const char *path, const char *name, bool writable, bool group) {
    sp_auto_fd int fd = open(path, O_PATH | O_CLOEXEC);
    struct sp_idmap_kept kept = {.fd = -1};
    const unsigned before = count_fds();
    sp_tree_show_as_own(fd, fd, name, writable, group, &kept);
    const bool mapped = kept.fd >= 0;
    sp_fd_close(&kept.fd);
    CHECK(count_fds() == before);
    return mapped;
}

static void what_is_the_tenants_already_needs_no_map(void) {
    const uid_t id = SP_UNPRIVILEGED_ID;
    CHECK(!is_mapped("/etc", "/etc", false, false)); /* root keeps it */
    if (chown(folder, id, 0) == 0) {                 /* root, with all ids */
        CHECK(!is_mapped(folder, "/srv/a", true, false) && is_mapped(folder, "/srv/a", true, true));
        CHECK(chown(folder, id, id) == 0 && !is_mapped(folder, "/srv/a", true, true));
        CHECK(chown(folder, 0, 0) == 0 && is_mapped(folder, "/srv/a", true, true));
    }
}

int main(void) {
    check_deadline(60);
    CHECK(mkdtemp(folder) != NULL);
    RUN(what_shows_the_host_is_refused_by_name);
    RUN_WITHOUT(lack_of_namespaces(), and_at_another_place);
    RUN_WITHOUT(lack_of_namespaces(), a_copy_has_its_attributes_or_none);
    RUN_WITHOUT(lack_of_namespaces(), what_is_the_tenants_already_needs_no_map);
    CHECK(rmdir(folder) == 0);
    return check_report();
}
