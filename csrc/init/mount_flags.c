/*
 * Linux before 5.12 has no mount_setattr(2), and some seccomp filters refuse it. Then each mount is remounted with the
 * flags that it has and those that it is to get. mountinfo tells which mounts there are and what flags they have. A
 * flag that a more privileged namespace has set is locked: a remount that left it out would be refused.
 */
#include "init/mount_flags.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/mountinfo.h"
#include "common/text.h"
#include "init/lines.h"
#include "init/plan.h"
#include "init/proc.h"

#define WHOLE_TREE 0x8000u /* AT_RECURSIVE */
#define NO_SYMLINKS 256u   /* MS_NOSYMFOLLOW, which older headers do not have */

static const struct flag {
    const char *option;
    uint64_t attr; /* 0: it is only kept */
    unsigned long flag;
} flags[] = {
    {"ro", MOUNT_ATTR_RDONLY, MS_RDONLY},  {"nosuid", MOUNT_ATTR_NOSUID, MS_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, MS_NODEV}, {"noexec", MOUNT_ATTR_NOEXEC, MS_NOEXEC},
    {"nosymfollow", 0, NO_SYMLINKS}, /* a remount that names no flag about access times keeps them */
};

/* The path of a descriptor below SP_PROC_FD: "self/fd/5". */
struct name {
    char text[64];
};

static struct name name_of(const char *folder, int fd) {
    struct name name = {{0}};
    const char *end = name.text + sizeof name.text;
    (void)sp_append_number(sp_append(name.text, end, folder), end, (uint64_t)fd);
    return name;
}

static bool is_missing(int err) { return err == ENOSYS || err == EPERM; }

static int set_attributes(int mount, uint64_t attrs, uint64_t propagation, bool whole) {
    struct mount_attr attr = {.attr_set = attrs, .propagation = propagation};
    unsigned at = AT_EMPTY_PATH | (whole ? WHOLE_TREE : 0);
    return syscall(SYS_mount_setattr, mount, "", at, &attr, sizeof attr) == 0 ? 0 : -errno;
}

/* ---- without mount_setattr(2) ---- */

#define DETACH 0

/* mount(2) with these flags, or umount2(2), for the mount of a descriptor. A path could lead elsewhere by now. */
static int change(int fd, unsigned long how) {
    const struct name name = name_of("self/fd/", fd);
    sp_auto_fd int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (back == -1 || fchdir(SP_PROC_FD) != 0) {
        return -errno;
    }
    bool done = how == DETACH ? umount2(name.text, MNT_DETACH) == 0 : mount(NULL, name.text, NULL, how, NULL) == 0;
    int rc = done ? 0 : -errno;
    return fchdir(back) == 0 ? rc : -errno;
}

#define WANT_MOUNT_ID 0x1000u /* STATX_MNT_ID, since Linux 5.8 */
#define CACHED 0x4000u        /* AT_STATX_DONT_SYNC: no question to the server of a network file system */

/* The kernel's struct statx: not every libc that this is built with has one, nor every one with this field. */
struct place {
    uint32_t mask;
    uint32_t others[35];
    uint64_t mount_id;
    uint64_t spare[13];
};

_Static_assert(offsetof(struct place, mount_id) == 0x90, "the place of stx_mnt_id in struct statx");
_Static_assert(sizeof(struct place) == 256, "the size of struct statx");

/*
 * The id of the mount that the descriptor is in, as mountinfo has it; -1: unknown. fdinfo has it on all kernels, but
 * before Linux 5.14 only root may look into the fdinfo of an undumpable process, and the child of the zygote that
 * attaches a workspace is one without that right.
 */
static int mount_id_of(int fd) {
    struct place place;
    char text[1024];
    uint64_t id;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH | CACHED, WANT_MOUNT_ID, &place) == 0 &&
        (place.mask & WANT_MOUNT_ID) != 0) {
        return (int)place.mount_id;
    }
    bool known = sp_read_text(SP_PROC_FD, name_of("self/fdinfo/", fd).text, text, sizeof text) &&
                 sp_find_number(text, "\nmnt_id:", &id);
    return known ? (int)id : -1;
}

/* The tree of a mount. The first look at mountinfo finds it, the next ones change what is in it. */
struct tree {
    int id;             /* of its first mount */
    char top[PATH_MAX]; /* where that is; "" before it is found */
    uint64_t attrs;
    bool whole;
    unsigned missing; /* so many mounts did not have all of the flags */
};

/* Changes one mount, unless it has all of the flags. */
static int add_to(const struct sp_mountinfo *mount, int fd, struct tree *tree) {
    unsigned long how = MS_REMOUNT | MS_BIND;
    bool has_all = true;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        bool has = sp_mountinfo_has(mount, flags[i].option);
        bool wanted = (tree->attrs & flags[i].attr) != 0;
        how |= has || wanted ? flags[i].flag : 0;
        has_all = has_all && (has || !wanted);
    }
    tree->missing += !has_all;
    return has_all ? 0 : change(fd, how);
}

static bool is_in(const struct sp_mountinfo *mount, const struct tree *tree) {
    return mount->id == tree->id || (tree->whole && sp_path_is_below(mount->point, tree->top));
}

static int look_at(const struct sp_mountinfo *mount, struct tree *tree) {
    if (tree->top[0] == '\0') {
        (void)(mount->id == tree->id ? sp_append(tree->top, tree->top + sizeof tree->top, mount->point) : NULL);
        return 0;
    }
    if (!is_in(mount, tree)) {
        return 0;
    }
    sp_auto_fd int fd = open(mount->point, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1) { /* no tenant can reach what is hidden by another mount; EACCES could change */
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    }
    return mount_id_of(fd) == mount->id ? add_to(mount, fd, tree) : 0; /* another id: it is hidden, too */
}

static int look_at_all(struct tree *tree) {
    static struct sp_lines lines; /* some callers have a small stack */
    struct sp_mountinfo mount;
    const char *line;
    int rc = 0;
    tree->missing = 0;
    sp_auto_fd int fd = sp_lines_open(&lines, SP_PROC_FD, "self/mountinfo");
    if (fd == -1) {
        return -errno;
    }
    while (rc == 0 && (line = sp_lines_next(&lines)) != NULL) {
        /* A line that does not fit could be that of a mount of the tree. */
        rc = sp_mountinfo_parse(line, &mount) ? look_at(&mount, tree) : -EOVERFLOW;
    }
    return rc != 0 ? rc : -lines.err;
}

static int remount(int mount, uint64_t attrs, bool whole) {
    struct tree tree = {.id = mount_id_of(mount), .top = "", .attrs = attrs, .whole = whole};
    int rc = look_at_all(&tree);
    if (rc == 0 && tree.top[0] == '\0') {
        return -ESTALE; /* not attached, or not below the root of this process */
    }
    rc = rc != 0 ? rc : look_at_all(&tree);
    rc = rc == 0 && tree.missing != 0 ? look_at_all(&tree) : rc; /* this one finds that nothing is missing any more */
    return rc == 0 && tree.missing != 0 ? -EIO : rc;
}

int sp_mount_flags_add(int mount, uint64_t attrs, bool whole) {
    int rc = set_attributes(mount, attrs, 0, whole);
    return is_missing(-rc) ? remount(mount, attrs, whole) : rc;
}

/* Only what is attached can be remounted. */
static int finish(int tree, uint64_t attrs) {
    int rc = change(tree, MS_REC | MS_PRIVATE);
    rc = rc != 0 ? rc : remount(tree, attrs, true);
    if (rc != 0) {
        (void)change(tree, DETACH);
    }
    return rc;
}

int sp_mount_attach(int tree, int target, uint64_t attrs) {
    int rc = set_attributes(tree, attrs, MS_PRIVATE, true);
    if (rc != 0 && !is_missing(-rc)) {
        return rc;
    }
    const unsigned at = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    if (syscall(SYS_move_mount, tree, "", target, "", at) != 0) {
        return -errno;
    }
    return rc == 0 ? 0 : finish(tree, attrs);
}
