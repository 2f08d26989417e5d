#include "init/prove.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fact.h"
#include "common/fd.h"
#include "init/confine.h"
#include "init/files.h"
#include "init/landlock.h"
#include "init/landlock_tier.h"
#include "init/proc.h"
#include "init/processes.h"

/* Bit n of the facts is namespace n: fact.h lists them first, in this order. */
static const char *const namespaces[SP_NAMESPACES] = {
    "self/ns/user", "self/ns/pid", "self/ns/mnt", "self/ns/ipc", "self/ns/uts", "self/ns/cgroup", "self/ns/net",
};

static void set_fact(struct sp_proof *proof, uint32_t fact, bool is_so) { proof->facts |= is_so ? fact : 0; }

void sp_namespaces_of_self(uint64_t inodes[SP_NAMESPACES]) {
    for (int i = 0; i < SP_NAMESPACES; i++) {
        struct stat st;
        inodes[i] = fstatat(SP_PROC_FD, namespaces[i], &st, 0) == 0 ? st.st_ino : 0;
    }
}

/* The namespaces of host and zygote existed when this sandbox was created. So an inode that differs from both belongs
 * to a namespace of the sandbox's own. */
static void compare_namespaces(const struct sp_plan *plan, struct sp_proof *proof) {
    uint64_t own[SP_NAMESPACES];
    sp_namespaces_of_self(own);
    for (unsigned i = 0; i < SP_NAMESPACES; i++) {
        /* The zygote stays in the network namespace that it gave to the last sandbox. */
        bool as_zygote = (1u << i) != SP_FACT_NET_NS && own[i] == plan->zygote_namespaces[i];
        set_fact(proof, 1u << i, own[i] != 0 && own[i] != plan->host_namespaces[i] && !as_zygote);
    }
}

/* Reads a small file from its start; "" when it cannot be read. */
static void read_all(int fd, char *text, size_t size) {
    ssize_t n = fd != -1 ? pread(fd, text, size - 1, 0) : -1;
    text[n > 0 ? n : 0] = '\0';
}

/* Whether the map is one line "<inside> <outside> <count>" that maps SP_INSIDE_ID to itself. */
static bool is_identity(const char *map) {
    char *end;
    unsigned long inside = strtoul(map, &end, 10);
    unsigned long outside = strtoul(end, &end, 10);
    unsigned long count = strtoul(end, &end, 10);
    return inside == SP_INSIDE_ID && outside == SP_INSIDE_ID && count == 1 && strcmp(end, "\n") == 0;
}

static bool maps_one_id(const char *name) {
    char map[128];
    sp_auto_fd int fd = openat(SP_PROC_FD, name, O_RDONLY | O_CLOEXEC);
    read_all(fd, map, sizeof map);
    return is_identity(map);
}

static bool denies_setgroups(void) {
    char text[8];
    return sp_read_text(SP_PROC_FD, "self/setgroups", text, sizeof text) && strcmp(text, "deny\n") == 0;
}

/* In a /proc of the sandbox's own pid namespace, init is 1. */
static bool has_own_proc(void) {
    char self[8];
    ssize_t n = readlink("/proc/self", self, sizeof self);
    return n == 1 && self[0] == '1';
}

void sp_prove_namespaces(const struct sp_plan *plan, struct sp_proof *proof) {
    if (plan->rehearsed != 0) {
        return;
    }
    if (sp_in_landlock_tier(plan)) {
        proof->status = openat(SP_PROC_FD, "self/status", O_RDONLY | O_CLOEXEC);
        return;
    }
    compare_namespaces(plan, proof);
    set_fact(proof, SP_FACT_ID_MAP, maps_one_id("self/uid_map") && maps_one_id("self/gid_map") && denies_setgroups());
    set_fact(proof, SP_FACT_OWN_PROC, has_own_proc() && getpid() == 1);
    proof->status = openat(SP_PROC_FD, "self/status", O_RDONLY | O_CLOEXEC);
}

/* The text that follows "\n<name>:\t" in a status file; "" when it is missing. */
static const char *field_of(const char *status, const char *name) {
    const char *at = strstr(status, name);
    return at != NULL ? at + strlen(name) : "";
}

static bool has_no_capabilities(const char *status) {
    static const char *const sets[] = {"\nCapInh:\t", "\nCapPrm:\t", "\nCapEff:\t", "\nCapBnd:\t", "\nCapAmb:\t"};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        if (strncmp(field_of(status, sets[i]), "0000000000000000\n", 17) != 0) {
            return false;
        }
    }
    return true;
}

static unsigned filters_in(const char *status) {
    return (unsigned)strtoul(field_of(status, "\nSeccomp_filters:\t"), NULL, 10);
}

unsigned sp_filters_of_self(void) {
    char status[4096];
    sp_auto_fd int fd = openat(SP_PROC_FD, "self/status", O_RDONLY | O_CLOEXEC);
    read_all(fd, status, sizeof status);
    return filters_in(status);
}

static void prove_by_status(const struct sp_plan *plan, struct sp_proof *proof) {
    char status[4096];
    read_all(proof->status, status, sizeof status);
    sp_fd_close(&proof->status);
    set_fact(proof, SP_FACT_NO_CAPS, has_no_capabilities(status));
    /* The zygote has the large filter, on top of those that the host may have from its container. init has one more. */
    set_fact(proof, SP_FACT_FILTERED,
             strncmp(field_of(status, "\nSeccomp:\t"), "2\n", 2) == 0 && filters_in(status) > plan->zygote_filters);
}

/*
 * Makes one call for each filter, with arguments that the kernel itself would refuse with another error. So EPERM comes
 * from the filter, and the call does no harm if the filter is missing. The second call of each is for a configuration
 * that allows the first.
 */
static bool denies_calls(void) {
    bool by_template = (syscall(SYS_keyctl, -1L, 0, 0, 0, 0) == -1 && errno == EPERM) ||
                       (syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0) == -1 && errno == EPERM);
    bool by_init = (setns(-1, 0) == -1 && errno == EPERM) || (unshare(1) == -1 && errno == EPERM);
    return by_template && by_init;
}

/* For sandboxes with inet sockets: lo is the only interface, and is up only if the configuration asks for it. */
static bool has_no_link(const struct sp_plan *plan, int sock) {
    struct ifreq links[2];
    struct ifconf up = {.ifc_len = sizeof links, .ifc_req = links};
    struct ifreq lo = {.ifr_name = "lo"};
    bool wanted = (plan->config.flags & SP_CONFIG_NET_LOOPBACK) != 0;
    if (ioctl(sock, SIOCGIFFLAGS, &lo) != 0 || ioctl(sock, SIOCGIFCONF, &up) != 0) {
        return false;
    }
    bool only_lo = up.ifc_len == 0 || (up.ifc_len == sizeof links[0] && strcmp(links[0].ifr_name, "lo") == 0);
    return only_lo && ((lo.ifr_flags & IFF_UP) != 0) == wanted;
}

static void prove_network(const struct sp_plan *plan, struct sp_proof *proof) {
    if ((plan->config.flags & SP_CONFIG_NET_HOST) != 0) {
        return;
    }
    sp_auto_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    set_fact(proof, SP_FACT_NO_INET, sock == -1 && errno == EAFNOSUPPORT);
    set_fact(proof, SP_FACT_NO_LINK, sock != -1 && has_no_link(plan, sock));
}

/* The filter that decides is inherited, so the rehearsal proves it for all. */
static void prove_unix(const struct sp_plan *plan, struct sp_proof *proof) {
    if (plan->rehearsed == 0) {
        sp_auto_fd int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        set_fact(proof, SP_FACT_NO_UNIX, sock == -1 && errno == EAFNOSUPPORT);
    }
}

/* The mount flags of the template are locked, so that every sandbox's root has the same. */
static void prove_mounts(const struct sp_plan *plan, struct sp_proof *proof) {
    const uint64_t closed = ST_RDONLY | ST_NOSUID | ST_NODEV;
    const uint64_t restricted = ST_NOSUID | ST_NODEV;
    const uint64_t size = plan->config.scratch_bytes;
    struct statfs root;
    struct statfs tmp;
    bool known = statfs("/", &root) == 0 && statfs("/tmp", &tmp) == 0;
    set_fact(proof, SP_FACT_ROOT_FLAGS, known && ((uint64_t)root.f_flags & closed) == closed);
    set_fact(proof, SP_FACT_SCRATCH,
             known && ((uint64_t)tmp.f_flags & restricted) == restricted &&
                 (size == 0 || (uint64_t)tmp.f_blocks * (uint64_t)tmp.f_bsize <= size));
}

/*
 * The mounts forbid writing to the root. The kernel asks Landlock before it checks CAP_MKNOD, and Landlock's error is a
 * different one, so EACCES proves that Landlock refused the device. Without Landlock the missing capability would
 * prevent the device.
 */
static void prove_files(uint32_t landlock_abi, struct sp_proof *proof) {
    sp_auto_fd int made = open("/written", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    set_fact(proof, SP_FACT_ROOT_READ_ONLY, made == -1 && errno == EROFS);
    if (made != -1) {
        (void)unlink("/written"); /* with rootfs= the file would be the host's */
    }
    int rc = landlock_abi != 0 ? mknod("/tmp/device", S_IFBLK, makedev(1, 0)) : 0;
    set_fact(proof, SP_FACT_LANDLOCK_DENIES, rc == -1 && errno == EACCES);
    if (landlock_abi != 0 && rc == 0) {
        (void)unlink("/tmp/device");
    }
}

static bool is_limited(int resource, uint64_t most) {
    struct rlimit now;
    return getrlimit(resource, &now) == 0 && now.rlim_max <= most;
}

static void prove_fixed_limits(const struct sp_plan *plan, struct sp_proof *proof) {
    uint64_t size = plan->config.scratch_bytes;
    set_fact(proof, SP_FACT_LIMITS,
             is_limited(RLIMIT_NOFILE, SP_NOFILE_INIT_MAX) && is_limited(RLIMIT_CORE, 1) &&
                 is_limited(RLIMIT_MEMLOCK, 64 * 1024) && (size == 0 || is_limited(RLIMIT_FSIZE, size)));
}

/* The memory watch adds up what it reads in the files of /proc that are like this one. */
static void prove_memory_watch(const struct sp_plan *plan, struct sp_proof *proof) {
    char status[4096];
    sp_auto_fd int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    read_all(fd, status, sizeof status);
    bool has_proc = (proof->facts & SP_FACT_OWN_PROC) != 0 || sp_in_landlock_tier(plan);
    bool is_readable = has_proc && *field_of(status, "\nRssAnon:\t") != '\0';
    set_fact(proof, SP_FACT_MEMORY_WATCH, plan->config.memory_bytes != 0 && is_readable);
}

/* Whether a process that is started from here can be limited. init starts nothing meanwhile. */
static bool can_limit(int resource, uint64_t most) {
    struct rlimit own;
    if (getrlimit(resource, &own) != 0) {
        return false;
    }
    const struct rlimit lower = {.rlim_cur = own.rlim_cur < most ? own.rlim_cur : most, .rlim_max = own.rlim_max};
    struct rlimit found = own;
    bool limited = setrlimit(resource, &lower) == 0 && getrlimit(resource, &found) == 0 && found.rlim_cur <= most;
    return setrlimit(resource, &own) == 0 && limited;
}

/* RLIMIT_NPROC, or a count of init's own. */
static bool limits_processes(const struct sp_plan *plan) {
    const uint64_t of_init = sp_limit_of_processes(plan);
    if (of_init != 0) {
        return is_limited(RLIMIT_NPROC, of_init);
    }
    if (plan->config.max_processes == 0 || sp_in_landlock_tier(plan)) {
        return plan->config.max_processes != 0 && can_limit(RLIMIT_NPROC, sp_tier_processes(plan));
    }
    struct stat st;
    return (plan->left_out & SP_FACT_OWN_PROC) == 0 && stat("/proc/1/task", &st) == 0 && st.st_nlink == 3;
}

static void prove_limits(const struct sp_plan *plan, struct sp_proof *proof) {
    uint64_t data = sp_limit_of_data(plan);
    set_fact(proof, SP_FACT_LIMIT_DATA, data != 0 && is_limited(RLIMIT_DATA, data));
    set_fact(proof, SP_FACT_LIMIT_NPROC, limits_processes(plan));
}

static void prove_privileges(struct sp_proof *proof) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    bool known = syscall(SYS_capget, &header, sets) == 0;
    set_fact(proof, SP_FACT_NO_PRIVILEGE, known && memcmp(sets, none, sizeof sets) == 0);
    set_fact(proof, SP_FACT_NO_NEW_PRIVS, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

/* What each sandbox proves for itself, in about 20 us: facts that are cheap to prove or depend on its own steps. */
#define PROVED_BY_EACH                                                                                       \
    (SP_FACT_NO_PRIVILEGE | SP_FACT_NO_NEW_PRIVS | SP_FACT_CALL_DENIED | SP_FACT_NO_INET | SP_FACT_NO_LINK | \
     SP_FACT_UNIX_SCOPED | SP_FACT_ROOT_READ_ONLY | SP_FACT_LANDLOCK_DENIES | SP_FACT_LIMIT_DATA |           \
     SP_FACT_LIMIT_NPROC)

void sp_prove_confinement(const struct sp_plan *plan, uint32_t landlock_abi, struct sp_proof *proof) {
    prove_privileges(proof);
    set_fact(proof, SP_FACT_CALL_DENIED, denies_calls());
    prove_network(plan, proof);
    prove_unix(plan, proof);
    if (sp_in_landlock_tier(plan)) {
        proof->facts |= sp_prove_tier(plan);
    } else {
        prove_files(landlock_abi, proof);
    }
    prove_limits(plan, proof);
    if (plan->rehearsed != 0) {
        proof->facts |= plan->rehearsed & ~PROVED_BY_EACH;
    } else {
        prove_by_status(plan, proof);
        if (!sp_in_landlock_tier(plan)) {
            prove_mounts(plan, proof);
        }
        prove_fixed_limits(plan, proof);
        prove_memory_watch(plan, proof);
    }
    proof->facts &= ~plan->left_out; /* more may have been left out since the rehearsal */
    set_fact(proof, SP_FACT_UNIX_SCOPED,
             (proof->facts & (SP_FACT_NO_UNIX | SP_FACT_NET_NS)) != 0 || landlock_abi >= SP_LANDLOCK_SCOPED);
}
