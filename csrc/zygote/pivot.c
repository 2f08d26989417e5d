/*
 * How a directory becomes the root: by pivot_root(2), or, where a seccomp profile or AppArmor refuses that or the root
 * is an initramfs, by moving its mount on top of "/" and chroot(2). Then the former root stays where it is, below the
 * new one, and no path leads there: a path is walked from the root of a process, which is the new one, setns(2) enters
 * a mount namespace at the topmost root, and only the mounts below the root of a process are seen in its mountinfo. It
 * could be uncovered by umount2(2), for which nobody in a sandbox has a capability, and which the kernel refuses in a
 * namespace with another owner, because every mount is locked there.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/text.h"
#include "zygote/zygote.h"

static int pivot_to(const char *put_old) { return syscall(SYS_pivot_root, ".", put_old) == 0 ? 0 : -errno; }

static bool is_refused(int rc) { return rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EINVAL; }

/* Moves the mount of the current directory on top of "/". */
static int move_to_top(void) { return mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 ? 0 : -errno; }

/* The current directory, which is a mount of this process's, is at the same path in the copy, where it hides what the
 * host has there. */
static int uncover_in_copy(void) {
    char path[PATH_MAX] = "old";
    if (getcwd(path + 3, sizeof path - 3) == NULL) {
        return -errno;
    }
    return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ? 0 : -errno;
}

static int copy_and_move(void) {
    if (mount("/", "old", NULL, MS_BIND | MS_REC, NULL) != 0) {
        return -errno;
    }
    int rc = uncover_in_copy();
    return rc != 0 ? rc : move_to_top();
}

int sp_pivot_keeping_old(void) {
    int rc = pivot_to("old");
    rc = is_refused(rc) ? copy_and_move() : rc;
    return rc != 0 ? rc : chdir("/") == 0 ? 0 : -errno;
}

int sp_pivot_leaving_old(void) {
    /* pivot_root(".", ".") stacks the old root on top of the new one; it is then detached with everything below it. */
    int rc = pivot_to(".");
    if (is_refused(rc)) {
        rc = umount2("/old", MNT_DETACH) == 0 ? move_to_top() : -errno;
    } else if (rc == 0) {
        rc = umount2(".", MNT_DETACH) == 0 ? 0 : -errno;
    }
    return rc != 0 ? rc : chdir("/") == 0 ? 0 : -errno;
}
