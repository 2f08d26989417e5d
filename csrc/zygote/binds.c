/*
 * Attaches what the configuration shows of the host to the template: below /new while that is built, and later at "/"
 * where a path leads elsewhere by then.
 */
#include "zygote/binds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/stage.h"
#include "common/tree.h"
#include "init/files.h"
#include "init/mount_flags.h"
#include "zygote/zygote.h"

#define NEW "/new"
#define OLD "/old"
#define ATTACH_ATTEMPTS 50

/* Where the template is: first at /new, and at / after the second pivot. */
static const char *template = NEW;

/* The mount trees that were cloned before the zygote gave up root: one for each bind, and the rootfs. -1: none. */
static int trees[SP_BINDS_MAX];
static int rootfs_tree = -1;
static bool attached[SP_BINDS_MAX];
static struct sp_rec_failed last_failure; /* why one is not */

static int open_target(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    if (bind->parent != -1) {
        const struct sp_plan_bind *parent = &plan->binds[bind->parent];
        sp_auto_fd int above = open_target(plan, parent);
        return above < 0 ? above : sp_tree_open_inside(above, bind->path + strlen(parent->path) + 1);
    }
    char staged[64];
    const char *end = staged + sizeof staged;
    (void)sp_append_number(sp_append(staged, end, SP_STAGED_DIR "/"), end, (uint64_t)(bind - plan->binds));
    sp_auto_fd int root = open(template, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root == -1 ? -errno : sp_tree_open_path(root, bind->staged ? staged : bind->path);
}

/* ---- while the template is built ---- */

/* The rootfs is cloned like any other read-only path. */
static int clone_rootfs(const struct sp_plan *plan, const char *base) {
    return sp_source_clone(plan, &(struct sp_plan_bind){.source = plan->rootfs, .within = -1}, base);
}

/* As root. If the tree cannot be idmapped, check_access() decides whether the bind is usable. */
static int clone_as_owned(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    sp_auto_fd int source = sp_source_open(plan, bind, "");
    int tree = source < 0 ? source : sp_tree_clone(source, bind->writable, true);
    if (tree >= 0) {
        sp_tree_show_as_own(tree, source, bind->source, bind->writable, bind->writable, NULL);
    }
    return tree;
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
        if (bind->covers || bind->scratch) {
            continue; /* attach_cover() clones it from its parent, once that is attached */
        }
        int tree = clone_as_owned(plan, bind);
        if (tree == -EPERM) {
            return 0; /* root of a container, without CAP_SYS_ADMIN: binds are cloned later, as "nobody" */
        }
        if (tree < 0) {
            return sp_failed(why, SP_STAGE_BIND, -tree, bind->source);
        }
        trees[i] = tree;
    }
    return 0;
}

static int make_mount_point(const struct sp_plan *plan, const struct sp_plan_bind *bind, bool is_dir) {
    char target[PATH_MAX];
    const char *end = target + sizeof target;
    if (bind->parent != -1 || (plan->rootfs != NULL && !bind->staged)) {
        return 0; /* nothing is created in a directory of the host; if it is missing, open_target() fails */
    }
    char *at = sp_append(target, end, bind->staged ? NEW SP_STAGED_DIR "/" : NEW);
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

/* With `makes` the mount point is created first, if it is the template's own. -ESTALE: the kernel does not attach a
 * file that was replaced since it was opened. */
static int attach_tree(const struct sp_plan *plan, const struct sp_plan_bind *bind, int tree, bool makes) {
    struct stat st;
    if (fstat(tree, &st) != 0) {
        return -errno;
    }
    int rc = check_access(bind, tree, st.st_mode);
    rc = rc == 0 && makes ? make_mount_point(plan, bind, S_ISDIR(st.st_mode)) : rc;
    sp_auto_fd int target = rc != 0 ? rc : open_target(plan, bind);
    rc = target < 0 ? target : sp_mount_attach(tree, target, sp_tree_attrs(bind->writable));
    return rc == -ENOENT && target >= 0 ? -ESTALE : rc;
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
    int rc = sp_tree_clone(target, false, true);
    sp_auto_fd int tree = rc < 0 ? -1 : rc;
    return rc < 0 ? rc : sp_mount_attach(tree, target, sp_tree_attrs(false));
}

static int clone_and_attach(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    int rc = -ESTALE;
    for (int i = 0; i < ATTACH_ATTEMPTS && rc == -ESTALE; i++) {
        sp_auto_fd int tree = sp_source_clone(plan, bind, OLD);
        if (tree < 0) {
            return tree;
        }
        rc = attach_tree(plan, bind, tree, true);
    }
    return rc;
}

/* init mounts on it: it must be a directory, and not one to which a link leads. */
static int check_scratch(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    struct stat st;
    int rc = make_mount_point(plan, bind, true);
    sp_auto_fd int target = rc != 0 ? rc : open_target(plan, bind);
    if (target < 0) {
        return target;
    }
    return fstat(target, &st) != 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int attach_bind(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    if (bind->covers) {
        return (plan->config.flags & SP_CONFIG_SEARCH) != 0 ? 0 : attach_cover(plan, bind);
    }
    if (bind->parent != -1 && !attached[bind->parent]) {
        return 0;
    }
    if (bind->scratch) {
        return check_scratch(plan, bind);
    }
    sp_auto_fd int tree = trees[bind - plan->binds];
    int rc = tree != -1 ? attach_tree(plan, bind, tree, true) : clone_and_attach(plan, bind);
    attached[bind - plan->binds] = rc == 0;
    if (rc == -ESTALE) { /* the first birth fails by it, and the host has it bound anew for the second */
        (void)sp_failed(&last_failure, SP_STAGE_BIND, ESTALE, bind->source);
        return 0;
    }
    return rc;
}

/* ---- set-id files ---- */

/* The binds directly inside this one are theirs to search, or read-only. */
static int search(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    sp_auto_fd int root = open_target(plan, bind);
    struct sp_search search = {0};
    for (uint32_t i = 0; i < plan->config.n_binds && root >= 0; i++) {
        const struct sp_plan_bind *inner = &plan->binds[i];
        if (!inner->covers && !inner->scratch && inner->parent != -1 && &plan->binds[inner->parent] == bind) {
            sp_auto_fd int other = open_target(plan, inner);
            int rc = other < 0 ? other : sp_search_skip(&search, other);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return root < 0 ? root : sp_search_and_cover(&search, root);
}

static bool is_in_group(const struct sp_plan *plan, const struct sp_plan_bind *bind, const struct sp_plan_bind *top) {
    while (bind != top && bind->parent != -1) {
        bind = &plan->binds[bind->parent];
    }
    return bind == top;
}

/* `top`: only those in this one; NULL: all. */
static int search_all(const struct sp_plan *plan, const struct sp_plan_bind *top, const char **failed) {
    int rc = 0;
    for (uint32_t i = 0; i < plan->config.n_binds && rc == 0; i++) {
        const struct sp_plan_bind *bind = &plan->binds[i];
        if (bind->writable && attached[i] && (top == NULL || is_in_group(plan, bind, top))) {
            *failed = bind->source;
            rc = search(plan, bind);
        }
    }
    return rc;
}

int sp_zygote_attach_binds(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const char *failed = NULL;
    if (plan->has_staged && mkdir(NEW SP_STAGED_DIR, 0755) != 0) {
        return sp_failed(why, SP_STAGE_BIND, errno, "staging directory");
    }
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        int rc = attach_bind(plan, &plan->binds[i]);
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_BIND, -rc, plan->binds[i].source);
        }
    }
    int rc = (plan->config.flags & SP_CONFIG_SEARCH) != 0 ? search_all(plan, NULL, &failed) : 0;
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_BIND, -rc, failed);
}

/* A link at one of these paths would redirect the template's own mounts. */
static int check_mount_points(struct sp_rec_failed *why) {
    static const char *const paths[] = {NEW "/proc", NEW "/tmp", NEW "/dev"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct stat st;
        int err = lstat(paths[i], &st) != 0 ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
        if (err != 0) {
            return sp_failed(why, SP_STAGE_ROOTFS, err, &paths[i][sizeof NEW]);
        }
    }
    return 0;
}

int sp_zygote_attach_rootfs(const struct sp_plan *plan, struct sp_rec_failed *why) {
    struct stat st;
    sp_auto_fd int tree = rootfs_tree != -1 ? rootfs_tree : clone_rootfs(plan, OLD);
    sp_auto_fd int target = open(NEW, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = tree < 0 ? tree : target < 0 ? -errno : 0;
    rc = rc == 0 && fstat(tree, &st) != 0 ? -errno : rc;
    rc = rc == 0 && !S_ISDIR(st.st_mode) ? -ENOTDIR : rc;
    rc = rc != 0 ? rc : sp_mount_attach(tree, target, sp_tree_attrs(false));
    if (rc == 0 && syscall(SYS_faccessat2, tree, "", X_OK, AT_EMPTY_PATH) != 0) {
        rc = -errno;
    }
    return rc != 0 ? sp_failed(why, SP_STAGE_ROOTFS, -rc, plan->rootfs) : check_mount_points(why);
}

/* ---- once the zygote serves ---- */

static uint32_t bindings;

void sp_zygote_binds_are_in_root(void) { template = "/"; }

void sp_binds_tell(struct sp_binds_known *known) {
    memcpy(known->attached, attached, sizeof attached);
    known->last_failure = last_failure;
}

void sp_binds_take_over(const struct sp_binds_known *known) {
    memcpy(attached, known->attached, sizeof attached);
    last_failure = known->last_failure;
    sp_zygote_binds_are_in_root();
}

/* Takes a bind out of the template, and with it those that lie in it. Live sandboxes keep their own copies. */
static int detach(const struct sp_plan *plan, const struct sp_plan_bind *top) {
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        attached[i] = attached[i] && (&plan->binds[i] == top || !is_in_group(plan, &plan->binds[i], top));
    }
    if (!attached[top - plan->binds]) {
        return 0;
    }
    char name[64];
    const char *end = name + sizeof name;
    sp_auto_fd int root = open_target(plan, top);
    /* By descriptor: a name could be a link. The directory of the descriptor is the template's /proc, whatever it
     * shows. */
    (void)sp_append_number(sp_append(name, end, "self/fd/"), end, (uint64_t)root);
    if (root < 0 || fchdir(SP_PROC_FD) != 0) {
        return root < 0 ? root : -errno;
    }
    int rc = umount2(name, MNT_DETACH) == 0 ? 0 : -errno;
    attached[top - plan->binds] = rc != 0;
    return chdir("/") == 0 ? rc : -errno;
}

static bool is_the_one_found(const struct sp_rec_bind *again, int tree) {
    struct stat st;
    return (again->device == 0 && again->inode == 0) ||
           (fstat(tree, &st) == 0 && st.st_dev == again->device && st.st_ino == again->inode);
}

static const struct sp_plan_bind *top_of(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    while (bind->parent != -1) {
        bind = &plan->binds[bind->parent];
    }
    return bind;
}

static int bind_again(const struct sp_plan *plan, const struct sp_rec_bind *again, int *tree) {
    const struct sp_plan_bind *bind = &plan->binds[again->index];
    if (bind->parent != -1 && !attached[bind->parent]) {
        return -ESTALE;
    }
    int rc = bind->parent == -1 ? detach(plan, bind) : 0;
    if (rc == 0 && *tree == -1) {
        *tree = sp_source_clone_outside(plan, bind);
        rc = *tree < 0 ? *tree : 0;
    }
    rc = rc == 0 && !is_the_one_found(again, *tree) ? -ESTALE : rc;
    rc = rc != 0 ? rc : attach_tree(plan, bind, *tree, false);
    attached[again->index] = rc == 0;
    return rc;
}

int sp_zygote_bind_again(const struct sp_plan *plan, const struct sp_rec_bind *again, int *tree) {
    if (again->index >= plan->config.n_binds || plan->binds[again->index].covers || plan->binds[again->index].scratch) {
        return -EBADMSG;
    }
    const struct sp_plan_bind *top = top_of(plan, &plan->binds[again->index]);
    const char *failed = plan->binds[again->index].source;
    bindings = again->bindings;
    int rc = bind_again(plan, again, tree);
    if (rc == 0 && (again->flags & SP_BIND_LAST) != 0) {
        rc = search_all(plan, top, &failed);
    }
    if (rc != 0) {
        (void)sp_failed(&last_failure, SP_STAGE_BIND, -rc, failed);
        (void)detach(plan, top); /* none of them counts as attached before all of them are */
        attached[top - plan->binds] = false;
    }
    return 0;
}

int sp_zygote_check_binds(const struct sp_plan *plan, uint32_t *changes, struct sp_rec_failed *why) {
    *changes = bindings;
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        if (!attached[i] && !plan->binds[i].covers && !plan->binds[i].scratch) {
            *why = last_failure;
            return -(int)last_failure.err;
        }
    }
    return 0;
}
