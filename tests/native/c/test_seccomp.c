/* sources: csrc/host/seccomp */
/*
 * A simulator gives the combined verdict of every syscall number for every profile and architecture; it is compared
 * with tests/native/golden/ (--update rewrites it). test_seccomp_kernel.c asks this machine's kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "check.h"
#include "golden.h"
#include "seccomp_sim.h"

static bool update;

/* ---- every number, against the golden tables ---- */

static void print_table(FILE *out, const struct layers *l) {
    size_t n;
    const struct sp_syscall *calls = sp_seccomp_syscalls(l->arch, &n);
    for (size_t i = 0; i < n; i++) {
        struct trace trace = {0};
        struct seccomp_data data = {.arch = arch_audit[l->arch], .nr = calls[i].nr};
        uint32_t verdict = combined(l, &data, &trace);
        fprintf(out, "%-24s %s%s\n", calls[i].name, word(verdict), trace.arguments ? " (all arguments 0)" : "");
    }
}

/* The verdicts on numbers without a name. They are the same for all tables, so the golden files do not contain them. */
static void check_unnamed(const struct layers *l) {
    bool named[NR_END] = {false};
    size_t n;
    const struct sp_syscall *calls = sp_seccomp_syscalls(l->arch, &n);
    for (size_t i = 0; i < n; i++) {
        CHECK(i == 0 || strcmp(calls[i - 1].name, calls[i].name) < 0);
        CHECK(calls[i].nr < NR_END && !named[calls[i].nr]);
        named[calls[i].nr] = true;
    }
    uint32_t with_bit = l->arch == SP_ARCH_X86_64 ? SECCOMP_RET_KILL_PROCESS : ERRNO(ENOSYS);
    for (uint32_t nr = 0; nr < NR_END; nr++) {
        uint32_t verdict = verdict_of(l, arch_audit[l->arch], nr);
        CHECK(named[nr] || verdict == ERRNO(ENOSYS));
        CHECK(strcmp(word(verdict), "kill") != 0);
        CHECK(verdict_of(l, arch_audit[l->arch], nr | 0x40000000) == with_bit);
        CHECK(verdict_of(l, arch_foreign[l->arch], nr) == SECCOMP_RET_KILL_PROCESS);
    }
    CHECK(verdict_of(l, arch_audit[l->arch], 0x3fffffff) == ERRNO(ENOSYS));
    CHECK(verdict_of(l, arch_audit[l->arch], UINT32_MAX) == ERRNO(ENOSYS)); /* a call that a tracer skips */
    CHECK(verdict_of(l, arch_audit[l->arch], UINT32_MAX - 1) == with_bit);
}

static void compare(const struct layers *l, const char *profile) {
    char name[64];
    char *text = NULL;
    size_t len = 0;
    snprintf(name, sizeof name, "seccomp_%s_%s.txt", arch_words[l->arch], profile);
    FILE *now = open_memstream(&text, &len);
    print_table(now, l);
    fclose(now);
    compare_golden(__FILE__, name, text, update);
    free(text);
}

/* The kernel runs a program once for each number when it is installed, so the program must stay a binary search. */
static void check_size(const struct layers *l, const char *profile) {
    unsigned deepest = 0;
    for (uint32_t nr = 0; nr < NR_END; nr++) {
        struct trace trace = {0};
        run(&l->filter[SP_LAYER_TEMPLATE], &(struct seccomp_data){.arch = arch_audit[l->arch], .nr = (int)nr}, &trace);
        deepest = trace.steps > deepest ? trace.steps : deepest;
    }
    printf("%s %s: template %u, init %u, exec %u instructions; deepest path of the template %u\n", arch_words[l->arch],
           profile, l->filter[0].len, l->filter[1].len, l->filter[2].len, deepest);
    CHECK(deepest <= 24);
    CHECK(l->filter[SP_LAYER_INIT].len <= 96 && l->filter[SP_LAYER_EXEC].len <= 32);
}

/* Checks that the policy's switch changes the verdicts on these names and no others. */
static void check_difference(enum sp_arch arch, const policy_t *policy, const char *const *names) {
    struct layers base = build(arch, &essential), other = build(arch, policy);
    size_t n, differing = 0, found = 0, expected = 0;
    const struct sp_syscall *calls = sp_seccomp_syscalls(arch, &n);
    for (size_t i = 0; i < n; i++) {
        differing += call(&base, calls[i].name, 0, 0, 0) != call(&other, calls[i].name, 0, 0, 0);
    }
    for (; *names != NULL; names++) {
        if (number(arch, *names) != UINT32_MAX) {
            expected++;
            found += call(&base, *names, 0, 0, 0) != call(&other, *names, 0, 0, 0);
        }
    }
    CHECK(differing == expected && found == expected);
    drop(&base);
    drop(&other);
}

static void check_name(const char *name, void *seen) {
    bool *marks = seen;
    bool known = false;
    for (int arch = 0; arch < SP_ARCH_COUNT; arch++) {
        uint32_t nr = number((enum sp_arch)arch, name);
        known |= nr != UINT32_MAX;
        if (nr < NR_END) {
            CHECK(!marks[arch * NR_END + (int)nr]); /* one rule per name */
            marks[arch * NR_END + (int)nr] = true;
        }
    }
    if (!known) {
        printf("no architecture has %s\n", name);
    }
    CHECK(known);
}

/* ---- arguments ---- */

static uint32_t call4(const struct layers *l, const char *name, const uint64_t args[4]) {
    struct trace trace = {0};
    struct seccomp_data data = {
        .arch = arch_audit[l->arch], .nr = (int)number(l->arch, name), .args = {args[0], args[1], args[2], args[3]}};
    return combined(l, &data, &trace);
}

static void check_processes(enum sp_arch arch) {
    static const uint64_t namespaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                          CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    struct layers l = build(arch, &essential), single = build(arch, &no_fork);
    for (size_t i = 0; i < LENGTH(namespaces); i++) {
        CHECK(call(&l, "clone", namespaces[i] | SIGCHLD, 0, 0) == ERRNO(EPERM));
        CHECK(call(&l, "clone", namespaces[i] | SIGCHLD | GARBAGE, 0, 0) == ERRNO(EPERM));
        CHECK(call(&l, "clone", namespaces[i] | CLONE_THREAD, 0, 0) == ERRNO(EPERM));
        CHECK(call(&single, "clone", namespaces[i] | CLONE_THREAD, 0, 0) == ERRNO(EPERM));
        CHECK(call(&l, "unshare", namespaces[i], 0, 0) == ERRNO(EPERM));
    }
    CHECK(call(&l, "clone", SIGCHLD, 0, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "clone", CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "unshare", CLONE_SYSVSEM | CLONE_FS, 0, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "unshare", CLONE_FILES, 0, 0) == ERRNO(EPERM));
    CHECK(call(&l, "clone", 0x3d0f00 /* pthread_create */, 0, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "clone", 0x3d0f00 & ~CLONE_FILES, 0, 0) == ERRNO(EPERM));
    CHECK(call(&l, "close_range", 3, UINT32_MAX, 4 /* CLOEXEC */) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "close_range", 3, UINT32_MAX, 2 /* UNSHARE */ | GARBAGE) == ERRNO(EINVAL));
    CHECK(call(&l, "unshare", 0x80 /* CLONE_NEWTIME */, 0, 0) == ERRNO(EPERM));
    CHECK(call(&l, "unshare", CLONE_FS | GARBAGE, 0, 0) == ERRNO(EPERM));
    CHECK(call(&single, "clone", 0x3d0f00 /* pthread_create */, 0, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&single, "clone", SIGCHLD, 0, 0) == ERRNO(EPERM));
    CHECK(call(&single, "clone", CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0) == ERRNO(EPERM));
    CHECK(call(&single, "clone", SIGCHLD | (uint64_t)CLONE_THREAD << 32, 0, 0) == ERRNO(EPERM));
    CHECK(call(&l, "clone3", 0, 0, 0) == ERRNO(ENOSYS) && call(&single, "clone3", 0, 0, 0) == ERRNO(ENOSYS));
    CHECK(call(&l, "prlimit64", 1, RLIMIT_NOFILE, 0x1000) == ERRNO(EPERM));
    CHECK(call(&l, "prlimit64", 1 | GARBAGE, RLIMIT_NOFILE, UINT64_C(1) << 32) == ERRNO(EPERM));
    CHECK(call(&l, "prlimit64", 1, RLIMIT_NOFILE, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "prlimit64", 7, RLIMIT_NOFILE, 0x1000) == ERRNO(EPERM)); /* what init is about to start */
    CHECK(call(&l, "prlimit64", 0, RLIMIT_NOFILE, 0x1000) == SECCOMP_RET_ALLOW);
    drop(&l);
    drop(&single);
}

/* init, by its number, its group and its user; the kernel sees ints. */
static void check_priorities(enum sp_arch arch) {
    static const char *const by_pid[] = {"sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"};
    struct layers l = build(arch, &essential);
    for (size_t i = 0; i < LENGTH(by_pid); i++) {
        CHECK(call(&l, by_pid[i], 0, 1, 0) == SECCOMP_RET_ALLOW && call(&l, by_pid[i], 2, 1, 0) == SECCOMP_RET_ALLOW);
        CHECK(call(&l, by_pid[i], 1, 0, 0) == ERRNO(EPERM) && call(&l, by_pid[i], 1 | GARBAGE, 0, 0) == ERRNO(EPERM));
    }
    for (int io = 0; io < 2; io++) {
        const char *name = io ? "ioprio_set" : "setpriority";
        uint64_t process = io ? 1 : PRIO_PROCESS, group = io ? 2 : PRIO_PGRP, user = io ? 3 : PRIO_USER;
        CHECK(call(&l, name, process, 0, 19) == SECCOMP_RET_ALLOW && call(&l, name, group, 0, 1) == SECCOMP_RET_ALLOW);
        CHECK(call(&l, name, process, 7, 1) == SECCOMP_RET_ALLOW && call(&l, name, group, 7, 1) == SECCOMP_RET_ALLOW);
        CHECK(call(&l, name, process, 1, 19) == ERRNO(EPERM) && call(&l, name, group, 1, 19) == ERRNO(EPERM));
        CHECK(call(&l, name, process | GARBAGE, 1 | GARBAGE, 19) == ERRNO(EPERM));
        CHECK(call(&l, name, user, 0, 19) == ERRNO(EPERM) && call(&l, name, user | GARBAGE, 1000, 19) == ERRNO(EPERM));
    }
    drop(&l);
}

static void check_values(enum sp_arch arch) {
    static const uint64_t personalities[] = {0, 8, 0x20000, 0x20008, 0xffffffff};
    static const uint64_t refused[] = {0x0040000, 0x0400000, 0x20040, 9, UINT64_C(8) | 0x8000000};
    static const uint64_t requests[] = {TIOCSTI, TIOCLINUX, TIOCSETD};
    struct layers l = build(arch, &network);
    for (size_t i = 0; i < LENGTH(personalities); i++) {
        CHECK(call(&l, "personality", personalities[i], 0, 0) == SECCOMP_RET_ALLOW);
        CHECK(call(&l, "personality", refused[i], 0, 0) == ERRNO(EPERM));
        CHECK(call(&l, "personality", refused[i] | GARBAGE, 0, 0) == ERRNO(EPERM));
    }
    for (size_t i = 0; i < LENGTH(requests); i++) {
        CHECK(call(&l, "ioctl", 0, requests[i], 0) == ERRNO(EPERM));
        CHECK(call(&l, "ioctl", 0, requests[i] | GARBAGE, 0) == ERRNO(EPERM));
    }
    CHECK(call(&l, "ioctl", 0, TCGETS, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "ioctl", TIOCSTI, FIONREAD, TIOCSTI) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "prctl", PR_SET_MM | GARBAGE, 0, 0) == ERRNO(EPERM));
    CHECK(call(&l, "prctl", 62 /* PR_SCHED_CORE */, 0, 0) == ERRNO(EPERM));
    CHECK(call(&l, "prctl", PR_SET_NAME, 0, 0) == SECCOMP_RET_ALLOW);
    drop(&l);
}

/* What a tenant could do to the host's disks, page cache, huge pages and memory. */
static void check_machine(enum sp_arch arch) {
    struct layers l = build(arch, &essential), quiet = build(arch, &no_sync);
    CHECK(call(&l, "sync", 0, 0, 0) == SECCOMP_RET_ALLOW && call(&quiet, "sync", 0, 0, 0) == ERRNO(0));
    CHECK(call(&quiet, "syncfs", 3, 0, 0) == ERRNO(0) && call(&l, "fsync", 3, 0, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "fcntl", 3, F_NOTIFY, 0) == ERRNO(EPERM) && call(&l, "fcntl", 3, F_SETLEASE, 0) == ERRNO(EPERM));
    CHECK(call(&l, "fcntl", 3, F_NOTIFY | GARBAGE, 0) == ERRNO(EPERM));
    CHECK(call(&l, "fcntl", F_NOTIFY, F_GETFL, F_NOTIFY) == SECCOMP_RET_ALLOW);
    CHECK(call4(&l, "fadvise64", (uint64_t[]){3, 0, 0, POSIX_FADV_DONTNEED}) == ERRNO(0));
    CHECK(call4(&l, "fadvise64", (uint64_t[]){3, 0, 0, POSIX_FADV_SEQUENTIAL}) == SECCOMP_RET_ALLOW);
    CHECK(call4(&l, "mmap", (uint64_t[]){0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS}) == SECCOMP_RET_ALLOW);
    CHECK(call4(&l, "mmap", (uint64_t[]){0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB}) == ERRNO(ENOMEM));
    CHECK(call4(&l, "mmap", (uint64_t[]){0, 4096, 3, MAP_HUGETLB | 30u << 26 | GARBAGE}) == ERRNO(ENOMEM));
    CHECK(call(&l, "memfd_create", 0, MFD_CLOEXEC | MFD_ALLOW_SEALING, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "memfd_create", 0, MFD_CLOEXEC | MFD_HUGETLB | GARBAGE, 0) == ERRNO(ENOMEM));
    CHECK(call(&l, "shmget", 0, 4096, IPC_CREAT | 0600) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "shmget", 0, 4096, SHM_HUGETLB | SHM_NORESERVE | 0600 | GARBAGE) == ERRNO(ENOMEM));
    CHECK(call(&l, "vmsplice", 1, 0, 1) == ERRNO(ENOSYS));
    drop(&l);
    drop(&quiet);
}

static void check_sockets(enum sp_arch arch) {
    static const uint64_t families[] = {AF_UNSPEC, AF_AX25,  AF_NETLINK, AF_PACKET, AF_TIPC,
                                        AF_ALG,    AF_VSOCK, 43,         44,        45};
    static const uint64_t inet[] = {AF_INET, AF_INET6};
    const uint64_t flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    struct layers e = build(arch, &essential), n = build(arch, &network), u = build(arch, &with_unix);
    for (size_t i = 0; i < LENGTH(families); i++) {
        CHECK(call(&e, "socket", families[i], SOCK_RAW, 0) == ERRNO(EAFNOSUPPORT));
        CHECK(call(&n, "socket", families[i] | GARBAGE, SOCK_DGRAM, 0) == ERRNO(EAFNOSUPPORT));
        CHECK(call(&u, "socket", families[i], SOCK_DGRAM, 0) == ERRNO(EAFNOSUPPORT));
        CHECK(call(&u, "socketpair", families[i], SOCK_STREAM, 0) == ERRNO(EAFNOSUPPORT));
    }
    for (size_t i = 0; i < LENGTH(inet); i++) {
        CHECK(call(&e, "socket", inet[i], SOCK_STREAM, 0) == ERRNO(EAFNOSUPPORT));
        CHECK(call(&u, "socket", inet[i], SOCK_STREAM, 0) == ERRNO(EAFNOSUPPORT));
        CHECK(call(&n, "socket", inet[i], SOCK_STREAM | flags, 0) == SECCOMP_RET_ALLOW);
        CHECK(call(&n, "socket", inet[i], SOCK_STREAM, IPPROTO_TCP) == SECCOMP_RET_ALLOW);
        CHECK(call(&n, "socket", inet[i] | GARBAGE, SOCK_DGRAM | GARBAGE, IPPROTO_UDP | GARBAGE) == SECCOMP_RET_ALLOW);
        CHECK(call(&n, "socket", inet[i], SOCK_RAW | flags, IPPROTO_TCP) == ERRNO(EPERM));
        CHECK(call(&n, "socket", inet[i], SOCK_RAW | GARBAGE, 0) == ERRNO(EPERM));
        CHECK(call(&n, "socket", inet[i], 10 /* SOCK_PACKET */, 0) == ERRNO(EPERM));
        CHECK(call(&n, "socket", inet[i], SOCK_STREAM, 132 /* SCTP */) == ERRNO(EPROTONOSUPPORT));
        CHECK(call(&n, "socket", inet[i], SOCK_STREAM, 262 /* MPTCP */) == ERRNO(EPROTONOSUPPORT));
    }
    CHECK(call(&e, "socket", AF_UNIX, SOCK_STREAM, 0) == ERRNO(EAFNOSUPPORT));
    CHECK(call(&n, "socket", AF_UNIX, SOCK_STREAM, 0) == ERRNO(EAFNOSUPPORT));
    CHECK(call(&u, "socket", AF_UNIX, SOCK_DGRAM | flags, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&e, "socketpair", AF_UNIX, SOCK_STREAM | flags, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&n, "socketpair", AF_UNIX, SOCK_SEQPACKET, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&e, "socketpair", AF_UNIX, SOCK_DGRAM | GARBAGE, 0) == ERRNO(ESOCKTNOSUPPORT));
    CHECK(call(&n, "socketpair", AF_UNIX, SOCK_RAW | flags, 0) == ERRNO(ESOCKTNOSUPPORT));
    CHECK(call(&u, "socketpair", AF_UNIX, SOCK_DGRAM, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&e, "connect", 0, 0, 0) == ERRNO(EPERM) && call(&n, "connect", 0, 0, 0) == SECCOMP_RET_ALLOW);
    drop(&e);
    drop(&n);
    drop(&u);
}

/* Netlink is allowed only where the sandbox may list its interfaces, and no other protocol of netlink is. */
static void check_netlink(enum sp_arch arch) {
    const uint64_t flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    struct layers l = build(arch, &loopback), n = build(arch, &network);
    CHECK(call(&l, "socket", AF_NETLINK, SOCK_RAW | flags, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "socket", AF_NETLINK | GARBAGE, SOCK_DGRAM | GARBAGE, GARBAGE) == SECCOMP_RET_ALLOW);
    CHECK(call(&n, "socket", AF_NETLINK, SOCK_RAW, 0) == ERRNO(EAFNOSUPPORT));
    CHECK(call(&l, "socketpair", AF_NETLINK, SOCK_RAW, 0) == ERRNO(EAFNOSUPPORT));
    for (uint64_t other = 1; other < 64; other++) {
        CHECK(call(&l, "socket", AF_NETLINK, SOCK_RAW, other) == ERRNO(EAFNOSUPPORT));
        CHECK(call(&l, "socket", AF_NETLINK | GARBAGE, SOCK_DGRAM | flags, other | GARBAGE) == ERRNO(EAFNOSUPPORT));
    }
    for (uint64_t type = 0; type < 16; type++) {
        bool allowed = type == SOCK_RAW || type == SOCK_DGRAM;
        CHECK(call(&l, "socket", AF_NETLINK, type | flags, 0) == (allowed ? SECCOMP_RET_ALLOW : ERRNO(EAFNOSUPPORT)));
    }
    CHECK(call(&l, "socket", AF_INET, SOCK_STREAM, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "socket", AF_PACKET, SOCK_RAW, 0) == ERRNO(EAFNOSUPPORT));
    drop(&l);
    drop(&n);
}

static void check_modes(enum sp_arch arch) {
    static const struct {
        const char *name;
        unsigned mode_arg;
        bool makes;   /* the argument before holds the flags */
        bool creates; /* a new file */
    } calls[] = {{"chmod", 1, false, false},  {"creat", 1, false, true},     {"fchmod", 1, false, false},
                 {"mknod", 1, false, true},   {"fchmodat", 2, false, false}, {"fchmodat2", 2, false, false},
                 {"mknodat", 2, false, true}, {"open", 2, true, true},       {"openat", 3, true, true}};
    static const uint64_t harmless[] = {0, 0777, 01777, S_IFREG | 0644, 0644 | GARBAGE};
    static const uint64_t setid[] = {04755, 02755, 06000, S_IFREG | 04000, 04755 | GARBAGE};
    static const uint64_t making[] = {O_CREAT, O_CREAT | O_WRONLY | O_EXCL, O_TMPFILE | O_RDWR, O_CREAT | GARBAGE};
    static const uint64_t not_making[] = {O_RDONLY, O_WRONLY | O_TRUNC, O_DIRECTORY, O_PATH | O_CLOEXEC};
    struct layers on = build(arch, &no_setid), off = build(arch, &essential);
    for (size_t i = 0; i < LENGTH(calls); i++) {
        unsigned at = calls[i].mode_arg;
        for (size_t k = 0; k < LENGTH(setid) && number(arch, calls[i].name) != UINT32_MAX; k++) {
            uint64_t args[4] = {0};
            for (size_t m = 0; m < (calls[i].makes ? LENGTH(making) : 1); m++) {
                args[at - 1] = calls[i].makes ? making[m] : ~UINT64_C(0);
                args[at] = setid[k];
                CHECK(call4(&on, calls[i].name, args) == ERRNO(EPERM));
                CHECK(call4(&off, calls[i].name, args) == (calls[i].creates ? SECCOMP_RET_ALLOW : ERRNO(EPERM)));
                args[at] = harmless[k];
                CHECK(call4(&on, calls[i].name, args) == SECCOMP_RET_ALLOW);
                CHECK(call4(&off, calls[i].name, args) == SECCOMP_RET_ALLOW);
            }
            for (size_t m = 0; m < LENGTH(not_making) && calls[i].makes; m++) {
                args[at - 1] = not_making[m];
                args[at] = setid[k]; /* without O_CREAT the register may hold anything */
                CHECK(call4(&on, calls[i].name, args) == SECCOMP_RET_ALLOW);
            }
        }
    }
    drop(&on);
    drop(&off);
}

/* The device (0, 0) needs no capability since Linux 5.8. A block device passes, for init's proof of Landlock. */
static void check_nodes(enum sp_arch arch) {
    static const char *const calls[] = {"mknod", "mknodat"};
    static const uint64_t others[] = {0644, S_IFREG | 0644, S_IFIFO | 0600, S_IFSOCK | 0600, S_IFBLK | 0600};
    const struct sp_seccomp_policy *const policies[] = {&essential, &network, &no_setid};
    for (size_t i = 0; i < LENGTH(policies); i++) {
        struct layers l = build(arch, policies[i]);
        for (unsigned at = 1; at <= LENGTH(calls); at++) {
            if (number(arch, calls[at - 1]) == UINT32_MAX) {
                continue;
            }
            uint64_t args[4] = {0};
            args[at] = S_IFCHR | 0666;
            CHECK(call4(&l, calls[at - 1], args) == ERRNO(EPERM));
            args[at] = S_IFCHR | GARBAGE;
            CHECK(call4(&l, calls[at - 1], args) == ERRNO(EPERM));
            for (size_t k = 0; k < LENGTH(others); k++) {
                args[at] = others[k];
                CHECK(call4(&l, calls[at - 1], args) == SECCOMP_RET_ALLOW);
            }
        }
        drop(&l);
    }
    /* What a workspace adds to a policy without no_setid. */
    struct layers l = {.arch = arch};
    CHECK(sp_seccomp_build(arch, SP_LAYER_ATTACH, &essential, &l.filter[0]) == 0);
    const uint64_t harmful[4] = {0, 0, 04644}, harmless[4] = {0, 0, 0644};
    CHECK(call4(&l, "mknodat", harmful) == ERRNO(EPERM) && call4(&l, "mknodat", harmless) == SECCOMP_RET_ALLOW);
    drop(&l);
}

/* A tenant cannot change what init counts memory by. It cannot get huge pages of the host, which nothing counts. */
static void check_memory(enum sp_arch arch) {
    const uint64_t anonymous[4] = {0, 1 << 21, 3, MAP_PRIVATE | MAP_ANONYMOUS};
    const uint64_t huge[4] = {0, 1 << 21, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | GARBAGE};
    struct layers l = build(arch, &essential), n = build(arch, &network), own = build(arch, &own_network);
    struct trace trace = {0};
    struct seccomp_data undumpable = {.arch = arch_audit[arch], .nr = (int)number(arch, "prctl"), .args = {4}};
    CHECK(call4(&l, "mmap", anonymous) == SECCOMP_RET_ALLOW && call4(&l, "mmap", huge) == ERRNO(ENOMEM));
    CHECK(call(&l, "memfd_create", 0, 3, 0) == SECCOMP_RET_ALLOW && call(&l, "memfd_create", 0, 4, 0) == ERRNO(ENOMEM));
    CHECK(call(&l, "setsockopt", 0, SOL_SOCKET, SO_SNDBUF | GARBAGE) == ERRNO(0));
    CHECK(call(&l, "setsockopt", 0, 6, SO_SNDBUF) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "setsockopt", 0, SOL_SOCKET, SO_RCVBUF) == SECCOMP_RET_ALLOW);
    CHECK(call(&n, "setsockopt", 0, SOL_SOCKET, SO_SNDBUF) == SECCOMP_RET_ALLOW);
    CHECK(call(&n, "setsockopt", 0, SOL_SOCKET, SO_RCVBUF) == SECCOMP_RET_ALLOW);
    CHECK(call(&own, "setsockopt", 0, SOL_SOCKET | GARBAGE, SO_SNDBUF) == ERRNO(0));
    CHECK(call(&n, "setsockopt", 0, SOL_SOCKET, SO_REUSEPORT) == ERRNO(ENOPROTOOPT)); /* the host's ports */
    CHECK(call(&own, "setsockopt", 0, SOL_SOCKET, SO_REUSEPORT) == SECCOMP_RET_ALLOW);
    CHECK(call(&own, "setsockopt", 0, SOL_SOCKET, SO_RCVBUF | GARBAGE) == ERRNO(0));
    CHECK(call(&n, "setsockopt", 0, SOL_SOCKET, SO_LINGER | GARBAGE) == ERRNO(0)); /* whoever closes would wait */
    CHECK(call(&n, "setsockopt", 0, SOL_SOCKET, SO_TIMESTAMP | GARBAGE) == ERRNO(ENOPROTOOPT)); /* patches the kernel */
    for (unsigned i = 0; i < 2; i++) { /* PEERGROUPS, PEERPIDFD */
        const unsigned option = i == 0 ? 59 : 77;
        CHECK(call(&l, "getsockopt", 0, SOL_SOCKET | GARBAGE, option | GARBAGE) == ERRNO(ENOPROTOOPT));
        CHECK(call(&l, "getsockopt", 0, 6, option) == SECCOMP_RET_ALLOW);
    }
    CHECK(call(&l, "getsockopt", 0, SOL_SOCKET, SO_PEERCRED) == SECCOMP_RET_ALLOW);
    CHECK(call(&n, "ioctl", 0, 0x8906 | GARBAGE, 0) == ERRNO(ENOTTY));
    CHECK(call(&l, "fcntl", 0, F_SETPIPE_SZ, 0) == ERRNO(EPERM));
    for (unsigned cmd = F_OFD_GETLK; cmd <= F_OFD_SETLKW; cmd++) {
        CHECK(call(&l, "fcntl", 0, cmd | GARBAGE, 0) == ERRNO(EINVAL));
    }
    CHECK(call(&l, "fcntl", 0, F_SETLK, 0) == SECCOMP_RET_ALLOW &&
          call(&l, "fcntl", 0, F_GETLK, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(&l, "prctl", PR_SET_DUMPABLE | GARBAGE, 0, 0) == ERRNO(0));
    CHECK(run(&l.filter[SP_LAYER_TEMPLATE], &undumpable, &trace) == SECCOMP_RET_ALLOW); /* init needs it */
    drop(&l);
    drop(&n);
    drop(&own);
}

/* The template filter must allow what zygote and init do after it is installed. */
static void check_setup(enum sp_arch arch) {
    static const char *const needed[] = {
        "clone",
        "clone3",
        "unshare",
        "setns",
        "mount",
        "umount2",
        "mount_setattr",
        "open_tree",
        "chdir",
        "fsopen",
        "fsconfig",
        "fsmount",
        "mkdirat",
        "symlinkat",
        "move_mount",
        "pivot_root",
        "openat",
        "sendmsg",
        "recvmsg",
        "ppoll",
        "wait4",
        "pidfd_open",
        "close_range",
        "sethostname",
        "prctl",
        "capset",
        "prlimit64",
        "setresuid",
        "seccomp",
        "setresgid",
        "setgroups",
        "execve",
        "setsid",
        "dup3",
        "kill",
        "rt_sigaction",
        "exit_group",
        "landlock_restrict_self",
        "pidfd_send_signal",
    };
    struct layers l = build(arch, &essential);
    for (size_t i = 0; i < LENGTH(needed); i++) {
        struct trace trace = {0};
        struct seccomp_data data = {
            .arch = arch_audit[arch], .nr = (int)number(arch, needed[i]), .args = {~UINT64_C(0)}};
        bool open = strcmp(needed[i], "prctl") == 0 || strcmp(needed[i], "seccomp") == 0 ||
                    run(&l.filter[0], &data, &trace) == SECCOMP_RET_ALLOW;
        if (!open) {
            printf("template refuses %s\n", needed[i]);
        }
        CHECK(open);
    }
    drop(&l);
}

static void test_every_number(void) {
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers e = build((enum sp_arch)i, &essential), n = build((enum sp_arch)i, &network),
                      f = build((enum sp_arch)i, &no_fork);
        compare(&e, "essential");
        compare(&n, "network");
        check_unnamed(&e);
        check_unnamed(&n);
        check_unnamed(&f);
        check_size(&f, "essential");
        check_size(&n, "network");
        drop(&e);
        drop(&n);
        drop(&f);
    }
}

static void test_names(void) {
    static bool seen[SP_ARCH_COUNT * NR_END];
    memset(seen, 0, sizeof seen);
    sp_seccomp_each_name(check_name, seen);
}

static void test_switches(void) {
    static const char *const fork_names[] = {"clone", "fork", "vfork", NULL};
    static const char *const unix_names[] = {"accept", "accept4", "bind", "connect", "listen", NULL};
    static const char *const setid_names[] = {"openat2", NULL};
    static const char *const sync_names[] = {"fdatasync", "fsync", "sync", "sync_file_range", "syncfs", NULL};
    struct sp_filter none;
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        check_difference((enum sp_arch)i, &no_fork, fork_names);
        check_difference((enum sp_arch)i, &with_unix, unix_names);
        check_difference((enum sp_arch)i, &no_setid, setid_names);
        check_difference((enum sp_arch)i, &no_sync, sync_names);
    }
    CHECK(sp_seccomp_exec(&essential, &none) == 0 && none.len == 0 && none.insns == NULL);
    CHECK(sp_seccomp_template(&(policy_t){.profile = 7}, &none) == -EINVAL);
}

/* A call that is allowed by name is allowed with any arguments, and nothing else changes. */
static void test_allowed_by_name(void) {
    static const char *const names[] = {"io_setup", "process_vm_readv", "landlock_add_rule", "modify_ldt", NULL};
    static const char *const refused[] = {"mount", "setns",  "clone3",         "unshare", "keyctl", "bpf",    "ioctl",
                                          "read",  "socket", "io_uring_setup", "fork",    "",       "no_such"};
    policy_t policy = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .allow = names, .n_allow = 4};
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        check_difference((enum sp_arch)i, &policy, names);
        struct layers l = build((enum sp_arch)i, &policy);
        CHECK(call(&l, "process_vm_readv", UINT64_MAX, UINT64_MAX, UINT64_MAX) == SECCOMP_RET_ALLOW);
        check_unnamed(&l);
        drop(&l);
        for (size_t k = 0; k < LENGTH(refused); k++) {
            policy_t bad = {.profile = SP_SECCOMP_NETWORK, .allow_fork = true, .allow = &refused[k], .n_allow = 1};
            for (int layer = SP_LAYER_TEMPLATE; layer <= SP_LAYER_INIT; layer++) {
                struct sp_filter none;
                CHECK(sp_seccomp_build((enum sp_arch)i, (enum sp_layer)layer, &bad, &none) == -EINVAL);
                CHECK(none.insns == NULL);
            }
        }
    }
}

static void test_arguments(void) {
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        check_processes((enum sp_arch)i);
        check_priorities((enum sp_arch)i);
        check_values((enum sp_arch)i);
        check_machine((enum sp_arch)i);
        check_sockets((enum sp_arch)i);
        check_netlink((enum sp_arch)i);
        check_modes((enum sp_arch)i);
        check_nodes((enum sp_arch)i);
        check_memory((enum sp_arch)i);
        check_setup((enum sp_arch)i);
    }
}

int main(int argc, char **argv) {
    update = argc > 1 && strcmp(argv[1], "--update") == 0;
    RUN(test_names);
    RUN(test_every_number);
    RUN(test_switches);
    RUN(test_allowed_by_name);
    RUN(test_arguments);
    return check_report();
}
