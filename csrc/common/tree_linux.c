#include "common/kernel_linux.h"
#include "common/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/idmap.h"
#include "common/text.h"
#include "common/wire.h"

#define WHOLE_TREE 0x8000u /* AT_RECURSIVE */

/* Places that the template or init fills itself, and file systems that reveal the host: no bind may show them. */
static const char *const never_bound[] = {"/proc", "/sys", "/dev"};
/* Directories that no bind may make writable, whatever the link that leads there is called. Their own names are refused
 * by pysandpool/_config/paths.py already. */
static const char *const never_writable[] = {"/usr",   "/bin",    "/sbin", "/lib", "/lib32",
                                             "/lib64", "/libx32", "/etc",  "/boot"};
/* Where root keeps the secrets of the machine. A path there, and one that contains them, keeps the owners of its files
 * if it belongs to root: a tenant must not read /etc/shadow because somebody shows it /etc. */
static const char *const kept_by_root[] = {"/run", "/var/backups", "/var/cache", "/var/lib", "/var/log", "/var/spool"};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int open_path(int dir, const char *path, uint64_t resolve) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = resolve};
    long fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
    return fd != -1 ? (int)fd : -errno;
}

int sp_tree_open_path(int root, const char *path) {
    return open_path(root, path, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int sp_tree_open_inside(int dir, const char *path) {
    return open_path(dir, path, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

static bool is_one_of(const char *path, const char *const *dirs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (sp_path_is_below(path, dirs[i])) {
            return true;
        }
    }
    return false;
}

/* The path of an open file, as the host sees it; "" when the kernel does not give one. */
static void find_name(int fd, const char *base, char *name, size_t size) {
    char link[64];
    const char *end = link + sizeof link;
    (void)sp_append_number(sp_append(sp_append(link, end, base), end, "/proc/self/fd/"), end, (uint64_t)fd);
    ssize_t n = readlink(link, name, size - 1);
    name[n > 0 ? n : 0] = '\0';
    size_t skip = strlen(base);
    if (sp_path_is_below(name, base)) {
        memmove(name, name + skip, strlen(name) - skip + 1);
    }
}

static bool is_kept_by_root(int source, const char *path) {
    char name[PATH_MAX];
    struct stat owner;
    find_name(source, "", name, sizeof name);
    const char *names[] = {path, name};
    bool found = false;
    for (size_t i = 0; i < COUNT(names); i++) {
        found = found || strcmp(names[i], "/var") == 0 || is_one_of(names[i], never_writable, COUNT(never_writable)) ||
                is_one_of(names[i], kept_by_root, COUNT(kept_by_root));
    }
    return found && (fstat(source, &owner) != 0 || owner.st_uid == 0);
}

int sp_tree_check(int source, const char *path, bool writable, const char *base) {
    char name[PATH_MAX];
    struct statfs fs;
    find_name(source, base, name, sizeof name);
    const char *names[] = {path, name};
    for (size_t i = 0; i < COUNT(names); i++) {
        bool whole = names[i][0] == '\0' || strcmp(names[i], "/") == 0 || strcmp(names[i], "/tmp") == 0;
        if (whole || is_one_of(names[i], never_bound, COUNT(never_bound)) ||
            (writable && is_one_of(names[i], never_writable, COUNT(never_writable)))) {
            return -EINVAL;
        }
    }
    if (fstatfs(source, &fs) != 0) {
        return -errno;
    }
    return fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ? -EINVAL : 0;
}

uint64_t sp_tree_attrs(bool writable) {
    return MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (writable ? 0u : MOUNT_ATTR_RDONLY);
}

int sp_tree_clone(int source, bool writable, bool whole) {
    const unsigned below = whole ? WHOLE_TREE : 0;
    sp_auto_fd int tree =
        (int)syscall(SYS_open_tree, source, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | below);
    if (tree == -1) {
        return -errno;
    }
    struct mount_attr attr = {.attr_set = sp_tree_attrs(writable), .propagation = MS_PRIVATE};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | WHOLE_TREE, &attr, sizeof attr) != 0 && errno != ENOSYS &&
        errno != EPERM) {
        return -errno;
    }
    return sp_fd_steal(&tree);
}

/* A group that no process is in. It is not left out of the map: the kernel refuses every write to a file whose group is
 * not mapped, the connection to a socket file included. */
#define OTHER_GROUP (SP_UNPRIVILEGED_ID - 1)

/* A file system below that one cannot idmap the whole tree. Then only the top mount is idmapped, and what is mounted
 * below it keeps its owners. */
static void idmap(int tree, int userns) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)userns};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | WHOLE_TREE, &attr, sizeof attr) != 0) {
        (void)syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr);
    }
}

void sp_tree_show_as_own(int tree, int source, const char *path, bool writable, bool group,
                         struct sp_idmap_kept *kept) {
    struct stat owner;
    if ((!writable && is_kept_by_root(source, path)) || fstat(tree, &owner) != 0) {
        return;
    }
    if (owner.st_uid == SP_UNPRIVILEGED_ID && (!group || owner.st_gid == SP_UNPRIVILEGED_ID)) {
        return;
    }
    /* For reading it does not get the rights of that group, because they may be rights to files of other owners. */
    const struct sp_idmap map = {.uid = owner.st_uid,
                                 .shown_uid = SP_UNPRIVILEGED_ID,
                                 .gid = owner.st_gid,
                                 .shown_gid = group ? SP_UNPRIVILEGED_ID : OTHER_GROUP};
    struct sp_idmap_kept once = {.fd = -1};
    kept = kept != NULL ? kept : &once;
    if (kept->fd < 0 || memcmp(&kept->map, &map, sizeof map) != 0) {
        sp_fd_close(&kept->fd);
        kept->fd = sp_idmap_open(&map);
        kept->map = map;
    }
    if (kept->fd >= 0) {
        idmap(tree, kept->fd);
    }
    sp_fd_close(&once.fd);
}
