/*
 * Workspaces: directories of the host that are attached to a live sandbox in which nothing has run yet. A child of the
 * zygote does it. It goes where only the zygote can go: into the mount namespace from before the template, where it
 * copies the directory's mount tree, and then into the sandbox's, where it mounts the copy. No process of the sandbox
 * needs a right for that.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "common/stage.h"
#include "common/tree.h"
#include "common/vfork.h"
#include "init/files.h"
#include "init/mount_flags.h"
#include "zygote/binds.h"
#include "zygote/listing.h"
#include "zygote/zygote.h"

#define NEW "/new"
#define LINK "/workspace"
#define SHM "/dev/shm"

/* ---- the place in the template ---- */

static bool is_taken(const struct sp_plan *plan) {
    bool taken = false;
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        const char *path = plan->binds[i].path;
        taken = taken || sp_path_is_below(path, SP_WORKSPACES) || sp_path_is_below(path, LINK);
    }
    return taken;
}

static bool is_empty_dir(const char *path) {
    struct sp_listing list = {0};
    sp_auto_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return dir != -1 && sp_next_name(dir, &list) == NULL && list.filled == 0;
}

/* In a rootfs nothing is created; its /mnt is covered if it is empty. */
static int make_in_rootfs(void) {
    if (!is_empty_dir(NEW SP_WORKSPACES)) {
        return -ENOTDIR;
    }
    if (mount("tmpfs", NEW SP_WORKSPACES, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=4k,nr_inodes=4") != 0 ||
        mkdir(NEW SP_WORKSPACE, 0755) != 0 ||
        mount(NULL, NEW SP_WORKSPACES, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0) {
        return -errno;
    }
    return 0;
}

int sp_zygote_make_workspace(struct sp_plan *plan, struct sp_rec_failed *why) {
    if (is_taken(plan)) {
        return 0;
    }
    int rc = plan->rootfs != NULL ? make_in_rootfs()
             : mkdir(NEW SP_WORKSPACES, 0755) == 0 && mkdir(NEW SP_WORKSPACE, 0755) == 0 &&
                     symlink(&SP_WORKSPACE[1], NEW LINK) == 0
                 ? 0
                 : -errno;
    if (rc == 0) {
        sp_zygote_allow_workspace(plan);
    }
    return rc == 0 || plan->rootfs != NULL ? 0 : sp_failed(why, SP_STAGE_ROOT, -rc, SP_WORKSPACE);
}

/* ---- attaching ---- */

struct attaching {
    const struct sp_rec_attach *attach;
    const char *path;
    int reply;          /* the socket for the answer */
    int init;           /* the socket over which init has sent its namespaces */
    int mnt, user;      /* these; -1: not received yet */
    int tree;           /* -1: the host cannot make it */
    int scratch;        /* the directory of the layers of an overlay; -1: there is none */
    const char *failed; /* the step at which it failed */
    int rc;
    struct stat st;
};

static int check_tree(struct attaching *a) {
    const int wanted = a->attach->mode == SP_ATTACH_RW ? X_OK | W_OK : X_OK;
    if (fstat(a->tree, &a->st) != 0) {
        return -errno;
    }
    if (!S_ISDIR(a->st.st_mode)) {
        return -ENOTDIR;
    }
    if (a->st.st_dev != a->attach->device || a->st.st_ino != a->attach->inode) {
        return -ESTALE;
    }
    return syscall(SYS_faccessat2, a->tree, "", wanted, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

/* For a host that cannot make the tree itself. */
static int make_tree(struct attaching *a) {
    const bool writable = a->attach->mode == SP_ATTACH_RW;
    if (setns(sp_outside(), CLONE_NEWNS) != 0) {
        return -errno;
    }
    sp_auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sp_auto_fd int source = root == -1 ? -errno : sp_tree_open_path(root, a->path);
    int rc = source < 0 ? source : sp_tree_check(source, a->path, writable, "");
    a->tree = rc != 0 ? rc : sp_tree_clone(source, writable, a->attach->mode != SP_ATTACH_COW);
    return a->tree < 0 ? a->tree : 0;
}

static int search_tree(bool is_short) {
    struct sp_search search = {.is_short = is_short};
    sp_auto_fd int top = open(SP_WORKSPACE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return top == -1 ? -errno : sp_search_and_cover(&search, top);
}

static int mount_tree(struct attaching *a) {
    sp_auto_fd int target = open(SP_WORKSPACE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc = target == -1 ? -errno : sp_mount_attach(a->tree, target, sp_tree_attrs(a->attach->mode == SP_ATTACH_RW));
    return rc == 0 && a->attach->mode == SP_ATTACH_RW ? search_tree(true) : rc;
}

static int set_option(int fs, const char *key, const char *value) {
    const unsigned command = value != NULL ? 1 /* FSCONFIG_SET_STRING */ : 0 /* FSCONFIG_SET_FLAG */;
    return syscall(SYS_fsconfig, fs, command, key, value, 0) == 0 ? 0 : -errno;
}

/* The upper layer is a part of the scratch that the tenant does not see. `userxattr`: without privileges over the upper
 * file system, marks of the overlay are attributes of the user. */
static int make_overlay(int *overlay) {
    sp_auto_fd int fs = (int)syscall(SYS_fsopen, "overlay", 1 /* FSOPEN_CLOEXEC */);
    int rc = fs == -1 ? -errno : set_option(fs, "source", "workspace");
    rc = rc != 0 ? rc : set_option(fs, "lowerdir", SHM "/lower");
    rc = rc != 0 ? rc : set_option(fs, "upperdir", SHM "/upper");
    rc = rc != 0 ? rc : set_option(fs, "workdir", SHM "/work");
    rc = rc != 0 ? rc : set_option(fs, "userxattr", NULL);
    if (rc == 0 && syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) != 0) {
        rc = -errno;
    }
    *overlay =
        rc == 0 ? (int)syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV) : -1;
    return rc != 0 ? rc : *overlay == -1 ? -errno : 0;
}

/* The directories of the layers, and the directory of the host as the lower one. */
static int fill_layers(const struct attaching *a) {
    if (mkdir(SHM "/lower", 0700) != 0 || mkdir(SHM "/work", 0700) != 0 || mkdir(SHM "/upper", 0700) != 0 ||
        chmod(SHM "/upper", a->st.st_mode & 0777) != 0) {
        return -errno;
    }
    sp_auto_fd int lower = open(SHM "/lower", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return lower == -1 ? -errno : sp_mount_attach(a->tree, lower, sp_tree_attrs(false));
}

static int move(const char *from, const char *to) {
    return syscall(SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, 0) == 0 ? 0 : -errno;
}

/* The root of the scratch is mounted at /dev/shm, below the directory that is seen there: init/mounts.c. That one is
 * put aside for a moment, in which nothing runs in the sandbox. */
static int mount_overlay(struct attaching *a) {
    sp_auto_fd int overlay = -1;
    int rc = setns(a->user, CLONE_NEWUSER) == 0 ? move(SHM, SP_WORKSPACE) : -errno;
    if (rc != 0) {
        return rc;
    }
    umask(0);
    rc = fill_layers(a);
    if (rc == 0) {
        a->failed = "overlay";
        rc = make_overlay(&overlay);
    }
    a->scratch = open(SHM, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int back = move(SP_WORKSPACE, SHM);
    sp_auto_fd int target = open(SP_WORKSPACE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return rc != 0        ? rc
           : back != 0    ? back
           : target == -1 ? -errno
                          : sp_mount_attach(overlay, target, sp_tree_attrs(true));
}

/* The overlay holds the lower layer, which is mounted where nobody sees it. The kernel needs some time for this, so it
 * comes after the answer. */
static void unmount_lower(struct attaching *a) {
    if (a->scratch != -1 && fchdir(a->scratch) == 0) {
        (void)umount2("lower", MNT_DETACH);
    }
    sp_fd_close(&a->scratch);
}

/* Nothing has run in the sandbox yet: what its init sends can be believed. */
static int receive_namespaces(struct attaching *a) {
    struct sp_packet packet;
    int rc = sp_packet_recv(a->init, &packet, NULL, 0);
    if (rc != 0) {
        return rc;
    }
    if (packet.record.type == SP_REC_NAMESPACES && packet.n_fds == 2) {
        a->mnt = sp_fd_steal(&packet.fds[0]);
        a->user = sp_fd_steal(&packet.fds[1]);
    } else {
        rc = packet.record.type == SP_REC_FAILED ? -(int)packet.record.u.failed.err : -EBADMSG;
    }
    sp_packet_close(&packet);
    return rc;
}

static int attach(struct attaching *a) {
    int rc = a->tree == -1 ? make_tree(a) : 0;
    rc = rc != 0 ? rc : check_tree(a);
    rc = rc != 0 ? rc : receive_namespaces(a);
    if (rc == 0 && setns(a->mnt, CLONE_NEWNS) != 0) {
        rc = -errno;
    }
    return rc != 0 ? rc : a->attach->mode == SP_ATTACH_COW ? mount_overlay(a) : mount_tree(a);
}

static void answer(int reply, int rc, const char *failed) {
    struct sp_record done = {.type = SP_REC_ACK};
    struct sp_rec_failed why;
    if (rc == 0) {
        (void)sp_packet_send(reply, &(struct sp_outgoing){.record = &done}, sp_now());
    } else {
        (void)sp_failed(&why, SP_STAGE_WORKSPACE, -rc, failed);
        sp_packet_fail(reply, 0, &why);
    }
}

/* In a child with the zygote's memory and descriptors, but with namespaces and a root of its own. It answers itself,
 * because the zygote goes on only after the end of the child. */
static int attach_in_child(void *arg) {
    struct attaching *a = arg;
    a->rc = attach(a);
    if (a->rc != -EOVERFLOW || a->attach->mode != SP_ATTACH_RW) {
        answer(a->reply, a->rc, a->failed);
    }
    unmount_lower(a);
    return 0;
}

/* The zygote does not wait for the search of a large tree. The process that makes it answers. */
static void search_apart(const struct attaching *a, int reply) {
    long pid = syscall(SYS_clone, (unsigned long)SIGCHLD, NULL, NULL, NULL, 0L);
    if (pid == 0) {
        int rc = setns(a->mnt, CLONE_NEWNS) == 0 ? search_tree(false) : -errno;
        answer(reply, rc, a->path);
        _exit(0);
    }
    if (pid == -1) {
        answer(reply, -errno, "clone");
    }
}

void sp_zygote_attach_workspace(const struct sp_plan *plan, const struct sp_rec_attach *attach, const char *path,
                                const int *fds, unsigned n_fds) {
    struct attaching a = {.attach = attach,
                          .path = path,
                          .failed = path,
                          .reply = fds[0],
                          .init = fds[1],
                          .mnt = -1,
                          .user = -1,
                          .scratch = -1,
                          .tree = n_fds > 2 ? fds[2] : -1};
    int rc = plan->has_workspace ? sp_vfork_run(attach_in_child, &a) : -EBUSY;
    if (n_fds <= 2) {
        sp_fd_close(&a.tree);
    }
    if (rc != 0) {
        answer(a.reply, rc, path);
    } else if (a.rc == -EOVERFLOW && attach->mode == SP_ATTACH_RW) {
        search_apart(&a, a.reply);
    }
    sp_fd_close(&a.mnt);
    sp_fd_close(&a.user);
}
