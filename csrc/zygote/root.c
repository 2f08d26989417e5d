/*
 * Builds the root template: a tmpfs with read-only binds. The mount namespace of each sandbox starts as a copy of it,
 * in which every mount is locked.
 *
 * It takes two pivots. The first moves the old root to /old of a tmpfs, so that the place where the template is built
 * does not hide a part of the host's tree. The second makes the template the root, and detaches everything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fact.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/stage.h"
#include "init/mask.h"
#include "init/mount_flags.h"
#include "zygote/binds.h"
#include "zygote/helpers.h"
#include "zygote/zygote.h"

static int make_base(struct sp_rec_failed *why) {
    sp_outside_keep();
    /* Made private first: mounts must not propagate to the host, and pivot_root refuses shared mounts. */
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
    int rc = sp_pivot_keeping_old();
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_PIVOT, -rc, base);
}

/* Both kinds of root then have /dev, /proc and /tmp, and files can be created in /dev. */
static int make_root(const struct sp_plan *plan, struct sp_helpers *helpers, struct sp_rec_failed *why) {
    if (plan->rootfs != NULL) {
        int rc = sp_zygote_attach_rootfs(plan, why);
        rc = rc != 0 ? rc : sp_zygote_lay_etc(plan, why);
        if (rc == 0 && mount("tmpfs", "/new/dev", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0) {
            return sp_failed(why, SP_STAGE_DEV, errno, "tmpfs of /dev");
        }
        return rc != 0 ? rc : sp_zygote_copy_cpus(plan, helpers, why);
    }
    if (mount("tmpfs", "/new", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0) {
        return sp_failed(why, SP_STAGE_ROOT, errno, "tmpfs of the new root");
    }
    if (mkdir("/new/dev", 0755) != 0 || mkdir("/new/proc", 0755) != 0 || mkdir("/new/tmp", 01777) != 0) {
        return sp_failed(why, SP_STAGE_ROOT, errno, "/dev, /proc and /tmp");
    }
    int rc = sp_zygote_copy_cpus(plan, helpers, why);
    return rc != 0 ? rc : sp_zygote_system_view(plan, helpers, why);
}

/* The kernel lets a sandbox mount its own /proc only while a complete one is visible. This one shows the pids of the
 * zygote's namespace. */
static int mount_proc(struct sp_plan *plan, struct sp_rec_failed *why) {
    if (mount("proc", "/new/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0) {
        return 0;
    }
    if (sp_may_leave_out(plan, errno)) { /* sandboxes then have no /proc at all */
        plan->left_out |= SP_FACT_OWN_PROC;
        return 0;
    }
    return sp_failed(why, SP_STAGE_MOUNT_PROC, errno, "/proc of the template");
}

static int make_read_only(const char *path, struct sp_rec_failed *why) {
    sp_auto_fd int mount = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const uint64_t attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    int rc = mount == -1 ? -errno : sp_mount_flags_add(mount, attrs, false);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_ROOT, -rc, path);
}

static int enter_root(const struct sp_plan *plan, struct sp_rec_failed *why) {
    if (chdir("/new") != 0) {
        return sp_failed(why, SP_STAGE_PIVOT, errno, "new root");
    }
    int rc = sp_pivot_leaving_old();
    if (rc != 0) {
        return sp_failed(why, SP_STAGE_PIVOT, -rc, "new root");
    }
    rc = make_read_only("/", why);
    return rc != 0 || plan->rootfs == NULL ? rc : make_read_only("/dev", why);
}

int sp_zygote_build_root(struct sp_plan *plan, struct sp_rec_failed *why) {
    umask(0);
    struct sp_helpers helpers = {.n = 0};
    int rc = make_base(why);
    rc = rc != 0 ? rc : make_root(plan, &helpers, why);
    rc = rc != 0 ? rc : sp_zygote_show_dev(why);
    rc = rc != 0 ? rc : mount_proc(plan, why);
    rc = rc != 0 ? rc : sp_zygote_make_workspace(plan, why);
    rc = rc != 0 ? rc : sp_helpers_end(&helpers, why);
    rc = rc != 0 ? rc : sp_zygote_lay_cpus(plan, why);
    rc = rc != 0 ? rc : sp_zygote_attach_binds(plan, why);
    rc = rc != 0 ? rc : enter_root(plan, why);
    sp_zygote_binds_are_in_root();
    umask(022);
    plan->masks = rc == 0 ? sp_masks_found() : 0;
    return rc;
}
