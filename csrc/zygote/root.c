/*
 * The root template: a tmpfs with read-only binds, built once. Every sandbox's mount namespace starts as a copy of it,
 * with every mount locked.
 *
 * Two pivots: the first makes the old root reachable as /old from a tmpfs, so that nothing of the host's tree is hidden
 * by the place where we build; the second makes the new root the root, and detaches all the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stage.h"
#include "init/files.h"
#include "zygote/zygote.h"

#define HELD_BACK (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

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

/* The host's path, with every symlink in it resolved below /old; as an O_PATH fd. -errno. */
static int open_host_path(const char *path) {
    sp_auto_fd int old = open("/old", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    long fd = old == -1 ? -1 : syscall(SYS_openat2, old, path, &how, sizeof how);
    return fd != -1 ? (int)fd : -errno;
}

static bool is_below(const char *path, const char *dir) {
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Places that the template or init fills itself: a bind there would be hidden, or would reopen what is closed. */
static bool is_reserved(const char *path) {
    return strcmp(path, "/") == 0 || strcmp(path, "/tmp") == 0 || is_below(path, "/proc") || is_below(path, "/dev") ||
           is_below(path, "/sys") || is_below(path, SP_STAGED_DIR) || is_below(path, SP_STAGED_COVER);
}

static int target_of(const struct sp_plan_bind *bind, char *target, size_t size) {
    const char *end = target + size;
    char *at = sp_append(target, end, bind->staged ? "/new" SP_STAGED_DIR "/" : "/new");
    at = bind->staged ? sp_append_number(at, end, bind->index) : sp_append(at, end, bind->path);
    return at != NULL ? 0 : -ENAMETOOLONG;
}

static int show_bind(const struct sp_plan_bind *bind) {
    char target[PATH_MAX + 32];
    char source[64];
    struct stat st;
    if (is_reserved(bind->path)) {
        return -EINVAL;
    }
    sp_auto_fd int fd = open_host_path(bind->path);
    if (fd < 0 || fstat(fd, &st) != 0) {
        return fd < 0 ? fd : -errno;
    }
    const char *end = source + sizeof source;
    (void)sp_append_number(sp_append(source, end, "/old/proc/self/fd/"), end, (uint64_t)fd);
    int rc = target_of(bind, target, sizeof target);
    rc = rc != 0 ? rc : sp_make_mount_point(target, S_ISDIR(st.st_mode));
    uint64_t attrs = HELD_BACK | (bind->writable ? 0u : MOUNT_ATTR_RDONLY);
    return rc != 0 ? rc : sp_bind(source, target, attrs);
}

static int show_binds(const struct sp_plan *plan, struct sp_rec_failed *why) {
    if (plan->has_staged && (mkdir("/new" SP_STAGED_DIR, 0755) != 0 || mkdir("/new" SP_STAGED_COVER, 0755) != 0)) {
        return sp_failed(why, SP_STAGE_BIND, errno, "staging directory");
    }
    const char *cursor = plan->binds;
    struct sp_plan_bind bind = {0};
    while (sp_plan_next_bind(plan, &cursor, &bind)) {
        int rc = show_bind(&bind);
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_BIND, -rc, bind.path);
        }
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
    rc = rc != 0 ? rc : show_binds(plan, why);
    rc = rc != 0 ? rc : enter_root(why);
    umask(022);
    return rc;
}
