#include "host/linux/tier.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "common/text.h"
#include "common/wire.h"
#include "host/linux/reaper.h"
#include "host/sandbox/launch.h"
#include "host/sandbox/scratch.h"
#include "host/sandbox/scratch_root.h"

/* How many entries of a directory are removed at a time, and how many times that is done while the pool lives. */
#define BUDGET 2000
#define TRIES 1000

#define FALLBACK "/tmp"

/* An init that is stopped, or hangs, does not end by itself. The zygote kills the tenants of one that is killed, and
 * only with ids of their own, or from this ABI on, can none of them escape by forking. */
#define KILL_NS SP_SEC(5)
#define LANDLOCK_SCOPED 6

/* The ids of leases: init/landlock_tier.h. */
#define LEASE_ID 2000000000ULL
#define LEASE_IDS (2ULL << 22)

void sp_tier_init(struct sp_tier *tier) {
    tier->root = -1;
    pthread_mutex_init(&tier->lock, NULL);
}

/* ---- the decision ---- */

bool sp_tier_is_refusal(const sp_error *error) {
    static const int refusals[] = {EPERM, EACCES, ENOSYS, ENOSPC, EINVAL, EROFS, ENODEV, EBUSY};
    bool of_namespaces = error->stage >= SP_STAGE_DROP_ROOT && error->stage <= SP_STAGE_MOUNT_PROC &&
                         error->stage != SP_STAGE_CGROUP && error->stage != SP_STAGE_BIND &&
                         error->stage != SP_STAGE_ROOTFS;
    for (size_t i = 0; of_namespaces && i < sizeof refusals / sizeof refusals[0]; i++) {
        if (error->err == refusals[i]) {
            return true;
        }
    }
    return false;
}

/* The part of a configuration that needs namespaces; NULL: there is none. */
static const char *needs_namespaces(const sp_sandbox_options *o) {
    if (o->rootfs != NULL) {
        return "rootfs";
    }
    if (o->network != SP_NET_NONE || o->seccomp_profile != SP_SECCOMP_ESSENTIAL) {
        return "a network";
    }
    if (o->allow_unix_sockets == SP_UNIX_ANY) {
        return "allow_unix_sockets";
    }
    const char *writable = NULL;
    for (uint32_t i = 0; i < o->n_binds; i++) { /* sorted: a directory comes before what is in it */
        const sp_bind *bind = &o->binds[i];
        if ((bind->flags & SP_BIND_SCRATCH) != 0) {
            return "scratch_dirs";
        }
        if (strcmp(bind->path, bind->source) != 0) {
            return "a bind at another place";
        }
        if ((bind->flags & SP_BIND_COVER) != 0) {
            return "a set-id file in a writable bind";
        }
        if ((bind->flags & SP_BIND_WRITABLE) != 0 && o->interpreter != NULL) {
            return "a writable path with an interpreter that is copied, not started (start=\"exec\")";
        }
        if ((bind->flags & SP_BIND_WRITABLE) != 0) {
            writable = bind->path;
        } else if (writable != NULL && sp_path_is_below(bind->path, writable)) {
            return "a read-only path in a writable one";
        }
    }
    return NULL;
}

/* Reads the answer of the process at the far end; 0: it was killed before it gave one. */
static uint8_t read_answer(int sock, int64_t deadline) {
    uint8_t abi = 0;
    int rc = 0;
    do {
        rc = sp_wait_fd(sock, POLLIN, deadline);
    } while (rc == -EINTR);
    return rc == 0 && read(sock, &abi, sizeof abi) == sizeof abi ? abi : 0;
}

static void end_reaper(struct sp_reaper *reaper, int64_t deadline) {
    int rc = 0;
    while (!sp_reaper_reap(reaper) && (rc == 0 || rc == -EINTR)) {
        rc = sp_wait_fd(sp_reaper_fd(reaper), POLLIN, deadline);
    }
    sp_reaper_free(reaper);
}

/* Asked by a process of its own, because a filter may kill whoever makes the call, and this process is the application.
 * 0 or -errno; *abi is 0 where the kernel has none. */
static int find_landlock_abi(const char *program, uint32_t most, uint32_t *abi) {
    const int64_t deadline = sp_now() + SP_SEC(10);
    struct sp_reaper *reaper = NULL;
    pid_t child = 0;
    int pair[2] = {-1, -1};
    int rc = sp_control_pair(pair);
    if (rc != 0) {
        return rc;
    }
    const struct sp_start what = {
        .path = program, .name = SP_LANDLOCK_QUESTION, .fd = pair[1], .number = SP_ZYGOTE_SOCKET};
    rc = sp_reaper_start(&what, &reaper, &child);
    sp_fd_close(&pair[1]);
    if (rc == 0) {
        sp_reaper_release(reaper);
        *abi = read_answer(pair[0], deadline);
        *abi = *abi < most ? *abi : most;
        end_reaper(reaper, deadline);
    }
    sp_fd_close(&pair[0]);
    return rc;
}

/* CAP_DAC_OVERRIDE and CAP_FOWNER are needed to enter the directories of leases, and to remove what their owners have
 * made inaccessible or sticky. */
static bool has_capabilities(void) {
    static const unsigned needed[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_KILL, CAP_SETGID, CAP_SETUID};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    bool all = syscall(SYS_capget, &header, sets) == 0;
    for (size_t i = 0; all && i < sizeof needed / sizeof needed[0]; i++) {
        all = (sets[0].effective & 1u << needed[i]) != 0;
    }
    return all;
}

/* Lines "first outside count", see user_namespaces(7). 1, 0 or -errno. */
static int maps_lease_ids(const char *path) {
    char line[256];
    bool found = false;
    FILE *map = fopen(path, "re");
    if (map == NULL) {
        return errno == ENOENT ? 1 : -errno; /* ENOENT: a kernel without user namespaces, where all ids are there */
    }
    while (!found && fgets(line, sizeof line, map) != NULL) {
        char *at = line;
        const unsigned long long first = strtoull(at, &at, 10);
        (void)strtoull(at, &at, 10);
        const unsigned long long count = strtoull(at, &at, 10);
        found = first <= LEASE_ID && count >= LEASE_IDS && LEASE_ID - first <= count - LEASE_IDS;
    }
    (void)fclose(map);
    return found;
}

/* Ids of its own are what separates a lease best. Only root can give them. 1, 0, or -errno if it cannot be found out: a
 * host that lacks a descriptor for a moment must not get the weaker separation for good. */
static int can_give_ids(void) {
    if (geteuid() != 0 || !has_capabilities()) {
        return 0;
    }
    const int rc = maps_lease_ids("/proc/self/uid_map");
    return rc == 1 ? maps_lease_ids("/proc/self/gid_map") : rc;
}

/* Whether any user may pass through all directories of an absolute path. */
static bool is_open_to_all(const char *path) {
    char part[PATH_MAX];
    struct stat st;
    size_t len = strlen(path);
    bool open = len < sizeof part;
    for (size_t i = 1; open && i <= len; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(part, path, i);
            part[i] = '\0';
            open = stat(part, &st) == 0 && (st.st_mode & S_IXOTH) != 0;
        }
    }
    return open;
}

/* What every sandbox shows of the host, beside its binds. */
static const char *const shown[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/nix"};

/* Whether tenants are shown this directory: then each would find the directories of all leases in it. */
static bool is_shown(const sp_sandbox_options *o, const char *path) {
    char real[PATH_MAX];
    char bind[PATH_MAX];
    if (realpath(path, real) == NULL) {
        return false; /* nothing can be made there either */
    }
    bool found = false;
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        found = found || sp_path_is_below(real, shown[i]);
    }
    for (uint32_t i = 0; i < o->n_binds && !found; i++) {
        found = realpath(o->binds[i].source, bind) != NULL && sp_path_is_below(real, bind);
    }
    return found;
}

/* Under the ids of its lease, a tenant has to pass the directory, which it cannot list, and those above it. */
static const char *parent_of_leases(const struct sp_tier *tier, const sp_sandbox_options *options) {
    const char *wanted = options->lease_parent;
    bool fits = (!tier->lease_uids || is_open_to_all(wanted)) && !is_shown(options, wanted);
    return fits ? wanted : FALLBACK;
}

static int make_root(struct sp_tier *tier, const char *parent) {
    sp_scratch_root_sweep(parent);
    int root = sp_scratch_root_make(parent, &tier->leases);
    if (root < 0) {
        return root;
    }
    tier->root = root;
    tier->root_identity = sp_identity_of(tier->root);
    return !tier->lease_uids || fchmod(tier->root, 0711) == 0 ? 0 : -errno;
}

int sp_tier_lower(struct sp_tier *tier, const sp_sandbox_options *options, sp_error *error) {
    const char *needed = needs_namespaces(options);
    if (needed != NULL) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_TIER, ENOTSUP, needed);
    }
    int rc = find_landlock_abi(options->zygote_path, options->landlock_abi_max, &tier->abi);
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, options->zygote_path);
    }
    if (tier->abi == 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_LANDLOCK, ENOSYS, "landlock");
    }
    rc = can_give_ids();
    if (rc < 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SCRATCH, -rc, "/proc/self/uid_map");
    }
    tier->lease_uids = rc == 1;
    const char *parent = parent_of_leases(tier, options);
    rc = make_root(tier, parent);
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SCRATCH, -rc, parent);
    }
    tier->lower = true;
    return 0;
}

/* ---- the directories of leases ---- */

/* What cannot be seen any more counts as dead, too. */
static bool is_dead(const struct sp_left *left) {
    struct pollfd p = {.fd = left->pidfd, .events = POLLIN};
    return !sp_is_own(left->pidfd, &left->pidfd_identity) || poll(&p, 1, 0) > 0;
}

static void free_left(struct sp_left *left) {
    sp_close_own(&left->pidfd, &left->pidfd_identity);
    free(left);
}

void sp_tier_leave(struct sp_tier *tier, uint32_t lease, int pidfd) {
    struct sp_left *left = calloc(1, sizeof *left);
    if (left == NULL) {
        return; /* removed when the launcher is closed */
    }
    left->lease = lease;
    left->pidfd = pidfd != -1 ? fcntl(pidfd, F_DUPFD_CLOEXEC, 0) : -1;
    if (pidfd != -1 && left->pidfd == -1) {
        free(left);
        return;
    }
    left->pidfd_identity = sp_identity_of(left->pidfd);
    left->kill_at = tier->lease_uids || tier->abi >= LANDLOCK_SCOPED ? sp_now() + KILL_NS : SP_NEVER;
    pthread_mutex_lock(&tier->lock);
    const bool closed = tier->closed; /* its directory is gone already, and nobody would close the descriptor soon */
    if (!closed) {
        left->next = tier->left;
        tier->left = left;
    }
    pthread_mutex_unlock(&tier->lock);
    if (closed) {
        free_left(left);
    }
}

/* True when there is nothing more to do about it. */
static bool remove_left(const struct sp_tier *tier, struct sp_left *left) {
    char name[32];
    if (!is_dead(left)) {
        if (sp_now() >= left->kill_at) {
            (void)syscall(SYS_pidfd_send_signal, left->pidfd, SIGKILL, NULL, 0);
        }
        return false;
    }
    (void)snprintf(name, sizeof name, "l%u", left->lease);
    bool more = sp_is_own(tier->root, &tier->root_identity) && sp_scratch_remove(tier->root, name, BUDGET);
    return !more || ++left->tries == TRIES;
}

bool sp_tier_tend(struct sp_tier *tier) {
    if (!tier->lower) {
        return false;
    }
    pthread_mutex_lock(&tier->lock);
    for (struct sp_left **at = &tier->left; *at != NULL;) {
        struct sp_left *left = *at;
        if (remove_left(tier, left)) {
            *at = left->next;
            free_left(left);
        } else {
            at = &left->next;
        }
    }
    bool more = tier->left != NULL;
    pthread_mutex_unlock(&tier->lock);
    return more;
}

/* The janitor may still tend, and a session may end after this: both find nothing to do. */
void sp_tier_close(struct sp_tier *tier) {
    pthread_mutex_lock(&tier->lock);
    struct sp_left *left = tier->left;
    int root = tier->root;
    tier->left = NULL;
    tier->root = -1;
    tier->closed = true;
    pthread_mutex_unlock(&tier->lock);
    while (left != NULL) {
        struct sp_left *next = left->next;
        free_left(left);
        left = next;
    }
    if (root != -1 && sp_is_own(root, &tier->root_identity)) {
        sp_scratch_root_remove(root, tier->leases);
        sp_fd_close(&root);
    }
}

void sp_tier_free(struct sp_tier *tier) {
    struct sp_left *left = tier->left;
    while (left != NULL) {
        struct sp_left *next = left->next;
        free_left(left);
        left = next;
    }
    free(tier->leases);
    pthread_mutex_destroy(&tier->lock);
}
