/*
 * The root template: a tmpfs with read-only binds, built once. Every sandbox's mount namespace starts as a copy of it,
 * with every mount locked.
 *
 * Two pivots: the first makes the old root reachable as /old from a tmpfs, so that nothing of the host's tree is hidden
 * by the place where we build; the second makes the new root the root, and detaches all the rest.
 */
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/stage.h"
#include "init/mask.h"
#include "zygote/zygote.h"

static int pivot_to(const char *new_root, const char *put_old) {
    return syscall(SYS_pivot_root, new_root, put_old) == 0 ? 0 : -errno;
}

static int make_base(struct sp_rec_failed *why) {
    /* Private first: nothing mounted here may reach the host, and pivot_root refuses shared mounts. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return sp_failed(why, SP_STAGE_NAMESPACES, errno, "private mounts");
    }
    const char *base = access("/tmp", F_OK) == 0 ? "/tmp" : "/run";
    if (mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0) {
        return sp_failed(why, SP_STAGE_ROOT, errno, "tmpfs of the template");
    }
    if (chdir(base) != 0 || mkdir("old", 0755) != 0 || mkdir("new", 0755) != 0) {
        return sp_failed(why, SP_STAGE_ROOT, errno, base);
    }
    int rc = pivot_to(".", "old");
    if (rc != 0 || chdir("/") != 0) {
        return sp_failed(why, SP_STAGE_PIVOT, rc != 0 ? -rc : errno, base);
    }
    if (mount("tmpfs", "/new", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0) {
        return sp_failed(why, SP_STAGE_ROOT, errno, "tmpfs of the new root");
    }
    return 0;
}

/* The kernel lets a sandbox mount its own /proc only while a whole one is in sight; this one shows the zygote's pids.
 */
static int mount_proc(struct sp_rec_failed *why) {
    if (mkdir("/new/proc", 0755) != 0 || mkdir("/new/tmp", 01777) != 0) {
        return sp_failed(why, SP_STAGE_ROOT, errno, "/proc and /tmp");
    }
    if (mount("proc", "/new/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0) {
        return sp_failed(why, SP_STAGE_MOUNT_PROC, errno, "/proc of the template");
    }
    return 0;
}

static int enter_root(struct sp_rec_failed *why) {
    if (chdir("/new") != 0) {
        return sp_failed(why, SP_STAGE_PIVOT, errno, "new root");
    }
    /* Stacks the old root on top of the new one, from where it is detached with everything below it. */
    int rc = pivot_to(".", ".");
    if (rc != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
        return sp_failed(why, SP_STAGE_PIVOT, rc != 0 ? -rc : errno, "new root");
    }
    unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV;
    if (mount(NULL, "/", NULL, flags, NULL) != 0) {
        return sp_failed(why, SP_STAGE_ROOT, errno, "read-only root");
    }
    return 0;
}

int sp_zygote_build_root(struct sp_plan *plan, struct sp_rec_failed *why) {
    umask(0);
    int rc = make_base(why);
    rc = rc != 0 ? rc : sp_zygote_system_view(plan, why);
    rc = rc != 0 ? rc : mount_proc(why);
    rc = rc != 0 ? rc : sp_zygote_show_binds(plan, why);
    rc = rc != 0 ? rc : enter_root(why);
    umask(022);
    plan->masks = rc == 0 ? sp_masks_found() : 0;
    return rc;
}
