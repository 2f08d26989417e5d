/*
 * The paths of the host that the configuration adds to the system view. The zygote clones each as a detached mount
 * tree, sets its attributes, and attaches it below /new.
 *
 * An earlier tenant may have written to a writable bind. So the zygote never follows a symlink inside a bind, and works
 * with descriptors all the way from the source to the mount point.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stage.h"
#include "init/files.h"
#include "zygote/zygote.h"

#define BIND_ATTRS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define ANYWHERE (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
#define INSIDE_BIND (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
#define WHOLE_TREE 0x8000u /* AT_RECURSIVE */
#define OLD "/old"
#define ATTACH_ATTEMPTS 50

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

/* An O_PATH descriptor, or -errno. */
static int open_path(int dir, const char *path, uint64_t resolve) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = resolve};
    long fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
    return fd != -1 ? (int)fd : -errno;
}

static const char *rest_of(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    return bind->path + strlen(plan->binds[bind->parent].path) + 1;
}

static int open_source(const struct sp_plan *plan, const struct sp_plan_bind *bind, int root) {
    if (bind->parent == -1) {
        return open_path(root, bind->path, ANYWHERE);
    }
    sp_auto_fd int above = open_source(plan, &plan->binds[bind->parent], root);
    return above < 0 ? above : open_path(above, rest_of(plan, bind), INSIDE_BIND);
}

static int open_target(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    if (bind->parent != -1) {
        sp_auto_fd int above = open_target(plan, &plan->binds[bind->parent]);
        return above < 0 ? above : open_path(above, rest_of(plan, bind), INSIDE_BIND);
    }
    char staged[64];
    const char *end = staged + sizeof staged;
    (void)sp_append_number(sp_append(staged, end, SP_STAGED_DIR "/"), end, (uint64_t)(bind - plan->binds));
    sp_auto_fd int root = open_path(AT_FDCWD, "/new", 0);
    return root < 0 ? root : open_path(root, bind->staged ? staged : bind->path, ANYWHERE);
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

/* Checks both the configured path and the path that it leads to: a link must not give access to what its target's name
 * would be refused for. */
static int check_source(const struct sp_plan_bind *bind, int fd, const char *base) {
    char name[PATH_MAX];
    struct statfs fs;
    find_name(fd, base, name, sizeof name);
    const char *names[] = {bind->path, name};
    for (size_t i = 0; i < COUNT(names); i++) {
        bool whole = names[i][0] == '\0' || strcmp(names[i], "/") == 0 || strcmp(names[i], "/tmp") == 0;
        if (whole || is_one_of(names[i], never_bound, COUNT(never_bound)) ||
            (bind->writable && is_one_of(names[i], never_writable, COUNT(never_writable)))) {
            return -EINVAL;
        }
    }
    if (fstatfs(fd, &fs) != 0) {
        return -errno;
    }
    return fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ? -EINVAL : 0;
}

/* Clones a mount tree that no other process sees, and to which later mounts of the host do not propagate. */
static int clone_tree(int source, bool writable) {
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | WHOLE_TREE;
    sp_auto_fd int tree = (int)syscall(SYS_open_tree, source, "", flags);
    if (tree == -1) {
        return -errno;
    }
    struct mount_attr attr = {.attr_set = BIND_ATTRS | (writable ? 0u : MOUNT_ATTR_RDONLY), .propagation = MS_PRIVATE};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | WHOLE_TREE, &attr, sizeof attr) != 0) {
        return -errno;
    }
    return sp_fd_steal(&tree);
}

static int open_checked_source(const struct sp_plan *plan, const struct sp_plan_bind *bind, const char *base) {
    sp_auto_fd int root = open_path(AT_FDCWD, base[0] != '\0' ? base : "/", 0);
    sp_auto_fd int source = root < 0 ? root : open_source(plan, bind, root);
    int rc = source < 0 ? source : check_source(bind, source, base);
    return rc != 0 ? rc : sp_fd_steal(&source);
}

static int clone_source(const struct sp_plan *plan, const struct sp_plan_bind *bind, const char *base) {
    sp_auto_fd int source = open_checked_source(plan, bind, base);
    return source < 0 ? source : clone_tree(source, bind->writable);
}

/* As root. If the tree cannot be idmapped, check_access() decides whether the bind is usable. */
static int clone_as_owned(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    sp_auto_fd int source = open_checked_source(plan, bind, "");
    int tree = source < 0 ? source : clone_tree(source, bind->writable);
    if (tree >= 0 && (bind->writable || !is_kept_by_root(source, bind->path))) {
        (void)sp_zygote_idmap_tree(tree, bind->writable);
    }
    return tree;
}

/* The mount trees that were cloned before the zygote gave up root: one for each bind, and the rootfs. -1: none. */
static int trees[SP_BINDS_MAX];
static int rootfs_tree = -1;

/* The rootfs is cloned like any other read-only path. */
static int clone_rootfs(const struct sp_plan *plan, const char *base) {
    return clone_source(plan, &(struct sp_plan_bind){.path = plan->rootfs, .parent = -1}, base);
}

int sp_zygote_clone_binds(const struct sp_plan *plan, struct sp_rec_failed *why) {
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        trees[i] = -1;
    }
    if (plan->rootfs != NULL && geteuid() == 0) {
        int tree = clone_rootfs(plan, "");
        if (tree < 0 && tree != -EPERM) {
            return sp_failed(why, SP_STAGE_ROOTFS, -tree, plan->rootfs);
        }
        rootfs_tree = tree < 0 ? -1 : tree;
    }
    for (uint32_t i = 0; i < plan->config.n_binds && geteuid() == 0; i++) {
        const struct sp_plan_bind *bind = &plan->binds[i];
        if (bind->covers) {
            continue; /* attach_cover() clones it from its parent, once that is attached */
        }
        int tree = clone_as_owned(plan, bind);
        if (tree == -EPERM) {
            return 0; /* root of a container, without CAP_SYS_ADMIN: binds are cloned later, as "nobody" */
        }
        if (tree < 0) {
            return sp_failed(why, SP_STAGE_BIND, -tree, bind->path);
        }
        trees[i] = tree;
    }
    return 0;
}

static int attach(int tree, int target) {
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    return syscall(SYS_move_mount, tree, "", target, "", flags) == 0 ? 0 : -errno;
}

static int make_mount_point(const struct sp_plan *plan, const struct sp_plan_bind *bind, bool is_dir) {
    char target[PATH_MAX];
    const char *end = target + sizeof target;
    if (bind->parent != -1 || (plan->rootfs != NULL && !bind->staged)) {
        return 0; /* nothing is created in a directory of the host; if it is missing, open_target() fails */
    }
    char *at = sp_append(target, end, bind->staged ? "/new" SP_STAGED_DIR "/" : "/new");
    at = bind->staged ? sp_append_number(at, end, (uint64_t)(bind - plan->binds)) : sp_append(at, end, bind->path);
    struct stat st;
    if (at != NULL && lstat(target, &st) == 0 && S_ISLNK(st.st_mode)) {
        /* What the system view has as a link, such as /etc/localtime: the bind is attached where the link leads. */
        sp_auto_fd int place = open_target(plan, bind);
        return place == -ENOENT ? -ELOOP : place < 0 ? place : 0;
    }
    return at != NULL ? sp_make_mount_point(target, is_dir) : -ENAMETOOLONG;
}

/* Runs in the zygote, because the answer is the same as in the sandbox: the ids are the same, and no capability of the
 * zygote counts for files of the host. */
static int check_access(const struct sp_plan_bind *bind, int tree, mode_t type) {
    int mode = S_ISDIR(type) ? X_OK : R_OK;
    if (!S_ISDIR(type) && !S_ISREG(type)) {
        return 0; /* sockets, fifos and devices are not checked */
    }
    mode |= bind->writable ? W_OK : 0;
    return syscall(SYS_faccessat2, tree, "", mode, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

static int attach_tree(const struct sp_plan *plan, const struct sp_plan_bind *bind, int tree) {
    struct stat st;
    if (fstat(tree, &st) != 0) {
        return -errno;
    }
    int rc = make_mount_point(plan, bind, S_ISDIR(st.st_mode));
    sp_auto_fd int target = rc != 0 ? rc : open_target(plan, bind);
    rc = target < 0 ? target : attach(tree, target);
    return rc != 0 ? rc : check_access(bind, tree, st.st_mode);
}

/*
 * Mounts a file or directory read-only over itself. Its tree is cloned from the place where the tenant would find it,
 * so that it belongs to the same ids, and through one descriptor, so that nothing can change between the check and the
 * mount. Since the host looked at it, a tenant may have moved it and put something else in its place. Then the cover
 * would leave the moved one writable, so the pool is refused.
 */
static int attach_cover(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    struct stat st;
    int found = open_target(plan, bind);
    sp_auto_fd int target = found < 0 ? -1 : found;
    if (found < 0 || fstat(target, &st) != 0 || st.st_dev != bind->device || st.st_ino != bind->inode) {
        return -ESTALE;
    }
    int rc = clone_tree(target, false);
    sp_auto_fd int tree = rc < 0 ? -1 : rc;
    return rc < 0 ? rc : attach(tree, target);
}

/* The kernel refuses with ENOENT to attach a file that has been replaced since it was opened: opens the new one. */
static int clone_and_attach(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    int rc = -ENOENT;
    for (int i = 0; i < ATTACH_ATTEMPTS && rc == -ENOENT; i++) {
        sp_auto_fd int tree = clone_source(plan, bind, OLD);
        if (tree < 0) {
            return tree;
        }
        rc = attach_tree(plan, bind, tree);
    }
    return rc;
}

static int attach_bind(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    if (bind->covers) {
        return attach_cover(plan, bind);
    }
    sp_auto_fd int tree = trees[bind - plan->binds];
    return tree != -1 ? attach_tree(plan, bind, tree) : clone_and_attach(plan, bind);
}

int sp_zygote_attach_binds(const struct sp_plan *plan, struct sp_rec_failed *why) {
    if (plan->has_staged && mkdir("/new" SP_STAGED_DIR, 0755) != 0) {
        return sp_failed(why, SP_STAGE_BIND, errno, "staging directory");
    }
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        int rc = attach_bind(plan, &plan->binds[i]);
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_BIND, -rc, plan->binds[i].path);
        }
    }
    return 0;
}

/* A link at one of these paths would redirect the template's own mounts. */
static int check_mount_points(struct sp_rec_failed *why) {
    static const char *const names[] = {"proc", "tmp", "dev"};
    sp_auto_fd int root = open_path(AT_FDCWD, "/new", 0);
    for (size_t i = 0; i < COUNT(names); i++) {
        struct stat st;
        if (fstatat(root, names[i], &st, AT_SYMLINK_NOFOLLOW) != 0) {
            return sp_failed(why, SP_STAGE_ROOTFS, errno, names[i]);
        }
        if (!S_ISDIR(st.st_mode)) {
            return sp_failed(why, SP_STAGE_ROOTFS, ENOTDIR, names[i]);
        }
    }
    return 0;
}

int sp_zygote_attach_rootfs(const struct sp_plan *plan, struct sp_rec_failed *why) {
    struct stat st;
    sp_auto_fd int tree = rootfs_tree != -1 ? rootfs_tree : clone_rootfs(plan, OLD);
    sp_auto_fd int target = open_path(AT_FDCWD, "/new", 0);
    int rc = tree < 0 ? tree : target < 0 ? target : 0;
    rc = rc == 0 && fstat(tree, &st) != 0 ? -errno : rc;
    rc = rc == 0 && !S_ISDIR(st.st_mode) ? -ENOTDIR : rc;
    rc = rc != 0 ? rc : attach(tree, target);
    if (rc == 0 && syscall(SYS_faccessat2, tree, "", X_OK, AT_EMPTY_PATH) != 0) {
        rc = -errno;
    }
    return rc != 0 ? sp_failed(why, SP_STAGE_ROOTFS, -rc, plan->rootfs) : check_mount_points(why);
}
