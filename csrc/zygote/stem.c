#include "zygote/stem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fact.h"
#include "common/fd.h"
#include "common/stage.h"
#include "init/mounts.h"
#include "zygote/zygote.h"

/* The numbers at the other side of the exec: above those that the zygote has in use. */
#define FIRST_NUMBER 20
#define MEMFD_EXEC 0x10u /* MFD_EXEC, which older headers lack */

/*
 * Runs in the interpreter before anything else does. argv: the descriptor of the module, that of the hand-over.
 * A free-threaded interpreter cannot load a module of the stable ABI.
 */
static const char boot[] =
    "import sys\n"
    "if sys.implementation.name != 'cpython' or sys.version_info < (3, 9) or 't' in sys.abiflags:\n"
    "    sys.exit('the interpreter has to be a CPython 3.9 or newer with a GIL, not ' + sys.version)\n"
    "import _frozen_importlib, _imp\n"
    "def load(module, plan):\n"
    "    origin = '/proc/self/fd/' + module\n"
    "    stem = _imp.create_dynamic(_frozen_importlib.ModuleSpec('_sandpool_stem', None, "
    "origin=origin))\n"
    "    _imp.exec_dynamic(stem)\n"
    "    stem.begin(int(module), int(plan))\n"
    "    return stem\n"
    "stem = load(*sys.argv[1:])\n"
    "exec(compile(stem.source(), '<sandpool>', 'exec'), {'__name__': '<sandpool>', 'stem': "
    "stem})\n";

static bool is_hidden(const struct sp_plan *plan, const struct sp_plan_bind *bind) {
    for (int above = bind->parent; above != -1; above = plan->binds[above].parent) {
        if (plan->binds[above].writable) {
            return false; /* with the one above */
        }
    }
    return bind->writable;
}

/*
 * What tenants can write to must not be there for the interpreter: a module that one of them has left would be imported
 * by the next stem, with the privileges of the zygote.
 */
static int hide_writable(const struct sp_plan *plan, struct sp_rec_failed *why) {
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        const char *path = plan->binds[i].path;
        struct stat st;
        if (!is_hidden(plan, &plan->binds[i])) {
            continue;
        }
        int rc = stat(path, &st);
        rc = rc != 0 ? rc
             : S_ISDIR(st.st_mode)
                 ? mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2")
                 : mount(SP_EMPTY_FILE, path, NULL, MS_BIND, NULL);
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_PRELOAD, errno, path);
        }
    }
    return 0;
}

/*
 * Neither what is imported nor what it starts shall be in the network of the host, unless the sandboxes are. Many
 * modules write to /tmp when they are imported; this one is not seen by any sandbox.
 */
int sp_zygote_prepare_stem(struct sp_plan *plan, struct sp_rec_failed *why) {
    if (sp_in_landlock_tier(plan)) {
        return sp_stem_tier_prepare(plan, why);
    }
    if ((plan->left_out & SP_FACT_OWN_PROC) != 0) { /* it could not be loaded, nor could a standby be watched */
        return sp_failed(why, SP_STAGE_PRELOAD, ENOTSUP, "an interpreter needs a /proc");
    }
    if ((plan->config.flags & SP_CONFIG_NET_HOST) == 0 && unshare(CLONE_NEWNET) != 0 &&
        !sp_may_leave_out(plan, errno)) {
        return sp_failed(why, SP_STAGE_NETNS, errno, "interpreter");
    }
    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m") != 0) {
        return sp_failed(why, SP_STAGE_PRELOAD, errno, "/tmp of the interpreter");
    }
    umask(0);
    int rc = plan->has_staged ? sp_bind_staged(plan, why) : 0;
    umask(022);
    return rc != 0 ? rc : hide_writable(plan, why);
}

int sp_stem_show_writable(const struct sp_plan *plan) {
    for (uint32_t i = 0; i < plan->config.n_binds; i++) {
        const char *path = plan->binds[i].path;
        /* Those below the /tmp of the interpreter go with it. */
        if (is_hidden(plan, &plan->binds[i]) && !sp_path_is_below(path, "/tmp") && umount2(path, MNT_DETACH) != 0) {
            return -errno;
        }
    }
    return 0;
}

/* What the loop of the zygote needs: CAP_SYS_ADMIN for namespaces and mounts, CAP_SYS_CHROOT to enter a mount
 * namespace, CAP_NET_ADMIN for lo. In the Landlock tier, those to give ids to leases, and to kill by them. */
static size_t needed_capabilities(const struct sp_plan *plan, const unsigned **needed) {
    static const unsigned of_namespaces[] = {CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_NET_ADMIN};
    static const unsigned of_tier[] = {CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID};
    const bool gives_ids = sp_has_lease_ids(plan);
    *needed = sp_in_landlock_tier(plan) ? of_tier : of_namespaces;
    return !sp_in_landlock_tier(plan) ? sizeof of_namespaces / sizeof of_namespaces[0]
           : gives_ids                ? sizeof of_tier / sizeof of_tier[0]
                                      : 0;
}

/* An exec by another user than root keeps ambient capabilities only. */
int sp_stem_keep_capabilities(const struct sp_plan *plan) {
    const unsigned *kept = NULL;
    const size_t n = needed_capabilities(plan, &kept);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, sets) != 0) {
        return -errno;
    }
    for (size_t i = 0; i < n; i++) {
        sets[0].inheritable |= 1u << kept[i];
    }
    if (syscall(SYS_capset, &header, sets) != 0) {
        return -errno;
    }
    for (size_t i = 0; i < n; i++) {
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (unsigned long)kept[i], 0, 0) != 0) {
            return -errno;
        }
    }
    return 0;
}

static int write_all(int fd, const void *bytes, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const char *)bytes + done, len - done);
        if (n < 0) {
            return -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

/* The descriptors that the interpreter inherits. */
struct inherited {
    int plan, module, host, outside;
};

/* The copy at a higher number, which an exec keeps; -1 for none. */
static int keep(int fd, int *kept) {
    *kept = fd == -1 ? -1 : fcntl(fd, F_DUPFD, FIRST_NUMBER);
    return fd == -1 || *kept != -1 ? 0 : -errno;
}

/* In memory of its own, so that the name of the file on the host is not in /proc/self/maps of a tenant. */
static int copy_module(int module) {
    struct stat st;
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    sp_auto_fd int copy = (int)syscall(SYS_memfd_create, "sandpool-stem", flags | MEMFD_EXEC);
    if (copy == -1 && errno == EINVAL) { /* before Linux 6.3 */
        copy = (int)syscall(SYS_memfd_create, "sandpool-stem", flags);
    }
    if (copy == -1 || fstat(module, &st) != 0) {
        return -errno;
    }
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, module, 0);
    if (bytes == MAP_FAILED) {
        return -errno;
    }
    int rc = write_all(copy, bytes, (size_t)st.st_size);
    munmap(bytes, (size_t)st.st_size);
    if (rc == 0 && fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        rc = -errno;
    }
    return rc != 0 ? rc : sp_fd_steal(&copy);
}

static int hand_over(const struct sp_plan *plan, int host, struct inherited *in) {
    static struct sp_stem_handover handover;
    sp_auto_fd int file = (int)syscall(SYS_memfd_create, "sandpool-plan", MFD_CLOEXEC);
    int rc = file == -1 ? -errno : 0;
    sp_auto_fd int module = rc == 0 ? copy_module(plan->module) : -1;
    rc = rc == 0 && module < 0 ? module : rc;
    rc = rc != 0 ? rc : keep(host, &in->host);
    rc = rc != 0 ? rc : keep(sp_outside(), &in->outside);
    rc = rc != 0 ? rc : keep(module, &in->module);
    rc = rc != 0 ? rc : keep(file, &in->plan);
    if (rc != 0) {
        return rc;
    }
    handover = (struct sp_stem_handover){
        .version = SP_WIRE_VERSION, .size = sizeof handover, .host = in->host, .outside = in->outside, .plan = *plan};
    sp_binds_tell(&handover.binds);
    rc = write_all(file, &handover, sizeof handover);
    rc = rc != 0 ? rc : write_all(file, plan->payload, plan->config.payload_len);
    return rc != 0 || lseek(file, 0, SEEK_SET) == 0 ? rc : -errno;
}

/* The interpreter has no other descriptors of the zygote than these, its socket and its /proc. */
static int keep_descriptors(const struct sp_plan *plan) {
    for (int fd = 1; fd <= 2; fd++) {
        if (dup2(plan->errors, fd) == -1) {
            return -errno;
        }
    }
    return fcntl(SP_ZYGOTE_SOCKET, F_SETFD, 0) == 0 && fcntl(SP_PROC_FD, F_SETFD, 0) == 0 ? 0 : -errno;
}

int sp_zygote_become_stem(const struct sp_plan *plan, int host, struct sp_rec_failed *why) {
    /* OpenBLAS and others start a thread for each processor when they are loaded, and no thread outlives a fork. */
    static char home[sizeof "HOME=" + PATH_MAX];
    static char tmpdir[sizeof "TMPDIR=" + PATH_MAX];
    static char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                home,
                                tmpdir,
                                "LANG=C.UTF-8",
                                "OPENBLAS_NUM_THREADS=1",
                                "OMP_NUM_THREADS=1",
                                "MKL_NUM_THREADS=1",
                                "NUMEXPR_NUM_THREADS=1",
                                "MPLBACKEND=agg",
                                NULL};
    const char *place = sp_in_landlock_tier(plan) ? sp_stem_tier_home() : "/tmp";
    struct inherited in;
    char module[16];
    char handover[16];
    /* Beyond a limit of the host (RLIMIT_FSIZE) a write fails then. CPython ignores it, too. */
    (void)signal(SIGXFSZ, SIG_IGN);
    int rc = hand_over(plan, host, &in);
    rc = rc != 0 ? rc : sp_stem_keep_capabilities(plan);
    rc = rc != 0 ? rc : keep_descriptors(plan);
    if (rc != 0) {
        return sp_failed(why, SP_STAGE_PRELOAD, -rc, "hand-over");
    }
    (void)snprintf(module, sizeof module, "%d", in.module);
    (void)snprintf(handover, sizeof handover, "%d", in.plan);
    char *const argv[SP_STEM_WORDS + 1] = {
        (char *)(uintptr_t)plan->interpreter, "-I", "-B", "-c", (char *)(uintptr_t)boot, module, handover, NULL};
    (void)snprintf(home, sizeof home, "HOME=%s", place);
    (void)snprintf(tmpdir, sizeof tmpdir, "TMPDIR=%s", place);
    (void)chdir(place);
    execve(plan->interpreter, argv, env);
    return sp_failed(why, SP_STAGE_PRELOAD, errno, plan->interpreter);
}
