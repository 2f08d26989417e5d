#include "init/mounts.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "common/fact.h"
#include "common/kernel_linux.h"
#include "common/stage.h"
#include "init/files.h"
#include "init/mask.h"

/* Bounds the terminals: the kernel counts them for the whole machine, and one tenant could take all that are left. */
#define DEVPTS_OPTIONS "newinstance,ptmxmode=0666,mode=0620,max=16"

/* They are directories of the same tmpfs, too. */
static int mount_scratch_dirs(const struct sp_plan *plan, struct sp_rec_failed *why) {
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        char source[64];
        const char *end = source + sizeof source;
        if (!plan->binds[i].scratch) {
            continue;
        }
        (void)sp_append_number(sp_append(source, end, "/dev/shm/"), end, i);
        if (mkdir(source, 01777) != 0 || mount(source, plan->binds[i].path, NULL, MS_BIND, NULL) != 0) {
            return sp_failed(why, SP_STAGE_SCRATCH, errno, plan->binds[i].path);
        }
    }
    return 0;
}

static int mount_scratch(const struct sp_plan *plan, struct sp_rec_failed *why) {
    char options[128];
    const char *end = options + sizeof options;
    char *at = sp_append(options, end, "mode=0755");
    if (plan->config.scratch_bytes != 0) {
        at = sp_append_number(sp_append(at, end, ",size="), end, plan->config.scratch_bytes);
    }
    if (plan->config.scratch_inodes != 0) {
        at = sp_append_number(sp_append(at, end, ",nr_inodes="), end, plan->config.scratch_inodes);
    }
    if (at == NULL) {
        return sp_failed(why, SP_STAGE_SCRATCH, EOVERFLOW, "tmpfs options");
    }
    /* /tmp and /dev/shm are two directories of one tmpfs, so that they share one bound. Neither shows the other. */
    if (mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, options) != 0) {
        return sp_failed(why, SP_STAGE_SCRATCH, errno, options);
    }
    if (mkdir("/dev/shm/tmp", 01777) != 0 || mkdir("/dev/shm/shm", 01777) != 0) {
        return sp_failed(why, SP_STAGE_SCRATCH, errno, "directories of the scratch tmpfs");
    }
    if (mount("/dev/shm/tmp", "/tmp", NULL, MS_BIND, NULL) != 0) {
        return sp_failed(why, SP_STAGE_SCRATCH, errno, "/tmp");
    }
    if (plan->has_scratch && mount_scratch_dirs(plan, why) != 0) {
        return -1;
    }
    if (mount("/dev/shm/shm", "/dev/shm", NULL, MS_BIND, NULL) != 0) {
        return sp_failed(why, SP_STAGE_SCRATCH, errno, "/dev/shm");
    }
    return 0;
}

static int bind_staged(const struct sp_plan_bind *bind, uint32_t index, struct sp_rec_failed *why) {
    char source[64];
    char target[PATH_MAX];
    const char *end = source + sizeof source;
    struct stat st;
    char *at = sp_append_number(sp_append(source, end, SP_STAGED_DIR "/"), end, index);
    if (at == NULL || sp_append(target, target + sizeof target, bind->path) == NULL) {
        return sp_failed(why, SP_STAGE_BIND, ENAMETOOLONG, bind->path);
    }
    if (stat(source, &st) != 0) {
        return sp_failed(why, SP_STAGE_BIND, errno, bind->path);
    }
    int rc = sp_make_mount_point(target, S_ISDIR(st.st_mode));
    /* The template has set flags and nested binds, and they are locked; a recursive bind includes them. */
    if (rc == 0 && mount(source, target, NULL, MS_BIND | MS_REC, NULL) != 0) {
        rc = -errno;
    }
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_BIND, -rc, bind->path);
}

int sp_bind_staged(const struct sp_plan *plan, struct sp_rec_failed *why) {
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        if (plan->binds[i].staged && bind_staged(&plan->binds[i], i, why) != 0) {
            return -1;
        }
    }
    return 0;
}

int sp_init_mounts(const struct sp_plan *plan, struct sp_rec_failed *why) {
    bool has_proc = (plan->left_out & SP_FACT_OWN_PROC) == 0;
    if (has_proc && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0) {
        return sp_failed(why, SP_STAGE_MOUNT_PROC, errno, "/proc");
    }
    int rc = has_proc ? sp_mask_proc(plan, why) : 0;
    rc = rc != 0 ? rc : mount_scratch(plan, why);
    rc = rc == 0 && plan->has_staged ? sp_bind_staged(plan, why) : rc;
    if (rc != 0) {
        return rc;
    }
    /* This mount comes last, because it hides the staged binds and covers that the steps above used. */
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, DEVPTS_OPTIONS) != 0) {
        return sp_failed(why, SP_STAGE_DEV, errno, "/dev/pts");
    }
    return 0;
}
