#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/tree.h"
#include "init/mount_flags.h"
#include "zygote/binds.h"
#include "zygote/listing.h"

/* Deeper directories are covered as a whole. Each level needs a descriptor and a part of the stack. */
#define MAX_DEPTH 64
#define MAX_ENTRIES 4000000u
/* Of a short search. */
#define FEW_ENTRIES 1000u
#define SMALL_DEPTH 8

int sp_search_skip(struct sp_search *search, int fd) {
    struct stat st;
    if (search->n_skipped == SP_SEARCH_SKIPS) {
        return -E2BIG;
    }
    if (fstat(fd, &st) != 0) {
        return -errno;
    }
    search->skipped[search->n_skipped].device = st.st_dev;
    search->skipped[search->n_skipped++].inode = st.st_ino;
    return 0;
}

static bool is_skipped(const struct sp_search *search, const struct stat *st) {
    for (size_t i = 0; i < search->n_skipped; i++) {
        if (search->skipped[i].device == st->st_dev && search->skipped[i].inode == st->st_ino) {
            return true;
        }
    }
    return false;
}

/* `name` is in the current directory. Any error but "there is none" means that the attribute exists. Most files have no
 * attributes at all, and the kernel says so in a quarter of the time. */
static bool has_capability(const char *name) {
    char value;
    if (llistxattr(name, NULL, 0) == 0) {
        return false;
    }
    return lgetxattr(name, "security.capability", &value, 0) >= 0 ||
           (errno != ENODATA && errno != ENOTSUP && errno != ENOENT && errno != ENOTDIR && errno != ELOOP);
}

/* Set-gid without group-execute has no effect now, but an ACL entry or a chmod by the owner would give it one. */
static bool gains(const char *name, const struct stat *st) {
    return S_ISREG(st->st_mode) && ((st->st_mode & (S_ISUID | S_ISGID)) != 0 || has_capability(name));
}

/* Whatever has the name now: something that needs no cover is not harmed by one. */
static int cover(int dir, const char *name) {
    sp_auto_fd int target = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (target == -1) {
        return errno == ENOENT ? 0 : -errno;
    }
    int rc = sp_tree_clone(target, false, true);
    sp_auto_fd int tree = rc < 0 ? -1 : rc;
    return rc < 0 ? rc : sp_mount_attach(tree, target, sp_tree_attrs(false));
}

static bool is_pseudo(int dir) {
    struct statfs fs;
    return fstatfs(dir, &fs) == 0 && (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC);
}

static int search_dir(struct sp_search *search, int dir);

/* 1: the directory has to be covered. */
static int enter(struct sp_search *search, int dir, const char *name, const struct stat *st) {
    sp_auto_fd int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below == -1) {
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : 1;
    }
    if (search->is_short && search->depth == SMALL_DEPTH) {
        return -EOVERFLOW;
    }
    if (search->depth == MAX_DEPTH) {
        return 1;
    }
    if (st->st_dev != search->device && is_pseudo(below)) {
        return 0;
    }
    search->depth++;
    int rc = search_dir(search, below);
    search->depth--;
    return rc != 0 ? rc : fchdir(dir) == 0 ? 0 : -errno;
}

static int look_at(struct sp_search *search, int dir, const char *name) {
    struct stat st;
    if (++search->entries > (search->is_short ? FEW_ENTRIES : MAX_ENTRIES)) {
        return search->is_short ? -EOVERFLOW : -E2BIG;
    }
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? 0 : 1; /* 1: without the right to search, no name in it can be looked at */
    }
    if (is_skipped(search, &st)) {
        return 0;
    }
    if (S_ISDIR(st.st_mode)) {
        int rc = enter(search, dir, name, &st);
        return rc == 1 ? cover(dir, name) : rc;
    }
    return gains(name, &st) ? cover(dir, name) : 0;
}

/* 1: it cannot be read or searched. */
static int search_dir(struct sp_search *search, int dir) {
    struct sp_listing list = {0};
    struct stat st;
    const char *name;
    int rc = fchdir(dir) == 0 && fstat(dir, &st) == 0 ? 0 : 1;
    search->device = rc == 0 ? st.st_dev : 0;
    while (rc == 0 && (name = sp_next_name(dir, &list)) != NULL) {
        bool may_matter = list.type == DT_DIR || list.type == DT_REG || list.type == DT_UNKNOWN;
        rc = may_matter ? look_at(search, dir, name) : 0;
        search->device = st.st_dev;
    }
    return rc == 0 && list.filled < 0 ? 1 : rc;
}

int sp_search_and_cover(struct sp_search *search, int root) {
    struct stat st;
    sp_auto_fd int dir = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;
    if (dir != -1) {
        rc = search_dir(search, dir);
        rc = rc == 1 ? -EACCES : rc; /* its owner, the tenant, could open it */
    } else if (errno == ENOTDIR) {
        /* The bind is a file. It cannot be covered, because nothing else of the bind would be left. */
        rc = fstat(root, &st) != 0                                            ? -errno
             : (st.st_mode & (S_ISUID | S_ISGID)) != 0 && S_ISREG(st.st_mode) ? -EPERM
                                                                              : 0;
    } else {
        rc = -errno;
    }
    return chdir("/") == 0 ? rc : -errno;
}
