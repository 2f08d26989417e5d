#include "host/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "host/seccomp_program.h"
#include "host/seccomp_table.h"
#include "host/syscalls_aarch64.h"
#include "host/syscalls_x86_64.h"
#include "sandpool.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

/* Newer than some of the headers that this has to compile with. */
#define SP_PR_SCHED_CORE 62
#define SP_CLONE_NEWCGROUP 0x02000000u

#define SP_CLONE_NAMESPACES                                                                                     \
    ((uint32_t)(CLONE_NEWNS | SP_CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
                CLONE_NEWNET))
#define SP_UNSHARE_HARMLESS \
    ((uint32_t)(CLONE_FILES | CLONE_FS | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD | CLONE_VM))

/* Calls of x32 are x86_64 calls with this bit; nr -1 is how a tracer says "skip this call". */
#define X32_BIT 0x40000000u
#define NR_SKIPPED 0xffffffffu

/* All tables end far below; the kernel's own caches assume 1,024 too. */
#define NR_END 1024

static const struct {
    uint32_t audit;
    bool has_x32;
    const struct sp_syscall *calls;
    size_t n_calls;
} arches[SP_ARCH_COUNT] = {
    [SP_ARCH_X86_64] = {AUDIT_ARCH_X86_64, true, sp_syscalls_x86_64, LENGTH(sp_syscalls_x86_64)},
    [SP_ARCH_AARCH64] = {AUDIT_ARCH_AARCH64, false, sp_syscalls_aarch64, LENGTH(sp_syscalls_aarch64)},
};

/* What is done at the end of the search: a verdict, or a look at the arguments and then a verdict. */
enum leaf {
    ALLOW,
    DENY,
    UNKNOWN,
    CHECK_MODE_1,
    CHECK_MODE_2,
    CHECK_OPEN,
    CHECK_OPENAT,
    REFUSE_OPENAT2,
    CHECK_NAMESPACES,
    CHECK_THREAD,
    CHECK_UNSHARE,
    CHECK_PRLIMIT,
    CHECK_IOCTL,
    CHECK_PERSONALITY,
    CHECK_SETRLIMIT,
    CHECK_FCNTL,
    CHECK_PRCTL,
    CHECK_SOCKET,
    CHECK_SOCKETPAIR,
    CHECK_NAMED,
};

/* Each rule in template, init and exec. Arguments are looked at in the first layer after which nobody needs more. */
static const enum leaf leaves[SP_RULE_COUNT][SP_LAYER_COUNT] = {
    [SP_RULE_UNKNOWN] = {UNKNOWN, ALLOW, ALLOW},
    [SP_RULE_ALLOW] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_DENY] = {DENY, ALLOW, ALLOW},
    [SP_RULE_MODE_1] = {CHECK_MODE_1, ALLOW, ALLOW},
    [SP_RULE_MODE_2] = {CHECK_MODE_2, ALLOW, ALLOW},
    [SP_RULE_OPEN] = {CHECK_OPEN, ALLOW, ALLOW},
    [SP_RULE_OPENAT] = {CHECK_OPENAT, ALLOW, ALLOW},
    [SP_RULE_OPENAT2] = {REFUSE_OPENAT2, ALLOW, ALLOW},
    [SP_RULE_SETUP] = {ALLOW, DENY, ALLOW},
    [SP_RULE_CLONE3] = {ALLOW, UNKNOWN, ALLOW},
    [SP_RULE_CLONE] = {ALLOW, CHECK_NAMESPACES, CHECK_THREAD},
    [SP_RULE_FORK] = {ALLOW, ALLOW, DENY},
    [SP_RULE_UNSHARE] = {ALLOW, CHECK_UNSHARE, ALLOW},
    [SP_RULE_PRLIMIT] = {ALLOW, CHECK_PRLIMIT, ALLOW},
    [SP_RULE_SETRLIMIT] = {ALLOW, CHECK_SETRLIMIT, ALLOW},
    [SP_RULE_FCNTL] = {CHECK_FCNTL, ALLOW, ALLOW},
    [SP_RULE_IOCTL] = {CHECK_IOCTL, ALLOW, ALLOW},
    [SP_RULE_PERSONALITY] = {CHECK_PERSONALITY, ALLOW, ALLOW},
    [SP_RULE_PRCTL] = {CHECK_PRCTL, ALLOW, ALLOW},
    [SP_RULE_SOCKET] = {CHECK_SOCKET, ALLOW, ALLOW},
    [SP_RULE_SOCKETPAIR] = {CHECK_SOCKETPAIR, ALLOW, ALLOW},
    [SP_RULE_NAMED] = {CHECK_NAMED, ALLOW, ALLOW},
};

/* ---- leaves: each ends with a verdict; most need no policy ---- */

static void allow(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    give(b, SECCOMP_RET_ALLOW);
}

static void deny(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, EPERM);
}

static void unknown(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, ENOSYS);
}

/* The kernel takes a mode as 16 bits. */
static void check_mode(struct block *b, unsigned arg) {
    load_low(b, arg);
    refuse_if_set(b, S_ISUID | S_ISGID, EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

static void check_mode_1(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_mode(b, 1);
}

static void check_mode_2(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_mode(b, 2);
}

/* Without these flags the mode is whatever the register held. O_TMPFILE is a bit of its own, and O_DIRECTORY. */
static void check_made(struct block *b, unsigned flags_arg) {
    load_low(b, flags_arg);
    emit(b, BPF_JMP | BPF_JSET | BPF_K, O_CREAT | (O_TMPFILE & ~O_DIRECTORY), 1, 0);
    give(b, SECCOMP_RET_ALLOW);
    check_mode(b, flags_arg + 1);
}

static void check_open(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_made(b, 1);
}

static void check_openat(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_made(b, 2);
}

static void check_namespaces(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 0);
    refuse_if_set(b, SP_CLONE_NAMESPACES, EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

static void check_thread(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 0);
    emit(b, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
    refuse(b, EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

/* The kernel reads all 64 bits of these flags: only what is known to be no namespace passes. */
static void check_unshare(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 0);
    refuse_if_set(b, ~SP_UNSHARE_HARMLESS, EPERM);
    load_high(b, 0);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    refuse(b, EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

/*
 * init sets RLIMIT_CORE to 1: only that keeps the kernel from starting the host's core_pattern helper (core(5)); 0
 * would not. Whoever wants to set it, mostly to 0, is told that it is done.
 */
static void pretend_core(struct block *b, unsigned argument) {
    load_low(b, argument);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_CORE, 0, 1);
    refuse(b, 0);
}

static void check_setrlimit(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    pretend_core(b, 0);
    give(b, SECCOMP_RET_ALLOW);
}

/* A lease on a file of the host's holds up whoever opens it there. */
static void check_fcntl(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 1);
    refuse_if_equal(b, F_SETLEASE, EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

/* The kernel lets equal uids set each other's limits, so a tenant could choke init (pid 1). Reading is free. */
static void check_prlimit(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 2);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load_high(b, 2);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    give(b, SECCOMP_RET_ALLOW);
    load_low(b, 0);
    refuse_if_equal(b, 1, EPERM);
    pretend_core(b, 1);
    give(b, SECCOMP_RET_ALLOW);
}

/* TIOCSETD loads line disciplines, a row of past kernel exploits; the other two type into a terminal. */
static void check_ioctl(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 1);
    refuse_if_equal(b, TIOCSTI, EPERM);
    refuse_if_equal(b, TIOCLINUX, EPERM);
    refuse_if_equal(b, TIOCSETD, EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

/* PER_LINUX, PER_LINUX32, each also with UNAME26, and the question. Not READ_IMPLIES_EXEC, not ADDR_NO_RANDOMIZE. */
static void check_personality(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    static const uint32_t allowed[] = {0, 0x8, 0x20000, 0x20008, 0xffffffff};
    load_low(b, 0);
    require_one_of(b, allowed, LENGTH(allowed), EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

/* PR_SET_MM forges /proc/self/exe; a core-scheduling cookie leaves the other hyperthread of the host's core idle. */
static void check_prctl(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 0);
    refuse_if_equal(b, PR_SET_MM, EPERM);
    refuse_if_equal(b, SP_PR_SCHED_CORE, EPERM);
    give(b, SECCOMP_RET_ALLOW);
}

/* The low 4 bits are the type, the others flags such as SOCK_CLOEXEC. */
static void load_socket_type(struct block *b) {
    load_low(b, 1);
    emit(b, BPF_ALU | BPF_AND | BPF_K, 0xf, 0, 0);
}

/*
 * A family that is not offered looks as if the kernel did not have it, for libc and runtimes know that case: netlink
 * (glibc and libuv then do without interface lists), inet6 (fall back to inet), unix (no nscd, no syslog).
 * Of inet only TCP and UDP: another protocol would make the kernel load its module (SCTP, DCCP, SMC), and MPTCP is
 * outside what Landlock's TCP rules see.
 */
static void check_socket(struct block *b, const struct sp_seccomp_policy *policy) {
    static const uint32_t families[] = {AF_INET, AF_INET6};
    static const uint32_t types[] = {SOCK_STREAM, SOCK_DGRAM};
    static const uint32_t protocols[] = {0, IPPROTO_TCP, IPPROTO_UDP};
    load_low(b, 0);
    if (policy->allow_unix_sockets) {
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1);
        give(b, SECCOMP_RET_ALLOW);
    }
    if (policy->profile != SP_SECCOMP_NETWORK) {
        refuse(b, EAFNOSUPPORT);
        return;
    }
    require_one_of(b, families, LENGTH(families), EAFNOSUPPORT);
    load_socket_type(b);
    require_one_of(b, types, LENGTH(types), EPERM);
    load_low(b, 2);
    require_one_of(b, protocols, LENGTH(protocols), EPROTONOSUPPORT);
    give(b, SECCOMP_RET_ALLOW);
}

/*
 * Half of a datagram pair (SOCK_RAW is one too) is a whole AF_UNIX socket: it can be sent or connected to any address.
 * So without allow_unix_sockets only the connected types, whose peer cannot be changed.
 */
static void check_socketpair(struct block *b, const struct sp_seccomp_policy *policy) {
    static const uint32_t families[] = {AF_UNIX};
    static const uint32_t types[] = {SOCK_STREAM, SOCK_SEQPACKET};
    load_low(b, 0);
    require_one_of(b, families, LENGTH(families), EAFNOSUPPORT);
    if (!policy->allow_unix_sockets) {
        load_socket_type(b);
        require_one_of(b, types, LENGTH(types), ESOCKTNOSUPPORT);
    }
    give(b, SECCOMP_RET_ALLOW);
}

static void check_named(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->profile == SP_SECCOMP_NETWORK || policy->allow_unix_sockets) {
        give(b, SECCOMP_RET_ALLOW);
    } else {
        refuse(b, EPERM);
    }
}

static void (*const write_leaf[])(struct block *, const struct sp_seccomp_policy *) = {
    [ALLOW] = allow,
    [DENY] = deny,
    [UNKNOWN] = unknown,
    [CHECK_MODE_1] = check_mode_1,
    [CHECK_MODE_2] = check_mode_2,
    [CHECK_OPEN] = check_open,
    [CHECK_OPENAT] = check_openat,
    [REFUSE_OPENAT2] = unknown,
    [CHECK_NAMESPACES] = check_namespaces,
    [CHECK_THREAD] = check_thread,
    [CHECK_UNSHARE] = check_unshare,
    [CHECK_PRLIMIT] = check_prlimit,
    [CHECK_IOCTL] = check_ioctl,
    [CHECK_PERSONALITY] = check_personality,
    [CHECK_SETRLIMIT] = check_setrlimit,
    [CHECK_FCNTL] = check_fcntl,
    [CHECK_PRCTL] = check_prctl,
    [CHECK_SOCKET] = check_socket,
    [CHECK_SOCKETPAIR] = check_socketpair,
    [CHECK_NAMED] = check_named,
};

/* ---- the search ---- */

struct range {
    uint32_t first; /* up to the next one's first */
    enum leaf leaf;
};

struct search {
    const struct sp_seccomp_policy *policy;
    struct range ranges[NR_END];
    uint32_t n;
    uint32_t shared[CHECK_NAMED + 1]; /* the label of each leaf that was written, 0 for none */
};

/* Written again when the branches have come out of its reach. */
static uint32_t prepend_leaf(struct program *p, struct search *s, enum leaf leaf) {
    if (s->shared[leaf] == 0 || p->len - s->shared[leaf] >= JUMP_MAX / 2) {
        struct block block = {.len = 0};
        write_leaf[leaf](&block, s->policy);
        s->shared[leaf] = prepend_block(p, &block);
    }
    return s->shared[leaf];
}

static uint32_t prepend_search(struct program *p, struct search *s, uint32_t from, uint32_t to) {
    if (to - from == 1) {
        return prepend_leaf(p, s, s->ranges[from].leaf);
    }
    uint32_t middle = from + (to - from) / 2;
    uint32_t right = prepend_search(p, s, middle, to);
    uint32_t left = prepend_search(p, s, from, middle);
    return prepend_branch(p, s->ranges[middle].first, right, left);
}

static int by_name(const void *key, const void *row) { return strcmp(key, ((const struct sp_syscall *)row)->name); }

static const struct sp_syscall *find_call(enum sp_arch arch, const char *name) {
    return bsearch(name, arches[arch].calls, arches[arch].n_calls, sizeof(struct sp_syscall), by_name);
}

static void find_rules(enum sp_arch arch, uint8_t rules[NR_END]) {
    memset(rules, SP_RULE_UNKNOWN, NR_END);
    for (size_t g = 0; g < LENGTH(sp_rules); g++) {
        for (size_t i = 0; i < LENGTH(sp_rules[g].names) && sp_rules[g].names[i] != NULL; i++) {
            const struct sp_syscall *call = find_call(arch, sp_rules[g].names[i]);
            if (call != NULL && call->nr < NR_END) {
                rules[call->nr] = (uint8_t)sp_rules[g].rule;
            }
        }
    }
}

/* The last range has no end: every number above the table is unknown. */
static void find_ranges(struct search *s, enum sp_arch arch, enum sp_layer layer) {
    uint8_t rules[NR_END];
    find_rules(arch, rules);
    s->n = 0;
    for (uint32_t nr = 0; nr < NR_END; nr++) {
        enum leaf leaf = leaves[rules[nr]][layer];
        bool of_modes = leaf >= CHECK_MODE_1 && leaf <= REFUSE_OPENAT2;
        leaf = of_modes && !s->policy->no_setid ? ALLOW : leaf;
        if (s->n == 0 || s->ranges[s->n - 1].leaf != leaf) {
            s->ranges[s->n++] = (struct range){nr, leaf};
        }
    }
}

/*
 * Another architecture's numbers mean other calls: nothing that uses them is an honest program of ours. Only the
 * template looks, for its verdict is final and the layers above it are installed once per sandbox or per command.
 */
static void check_arch(struct block *b, enum sp_arch arch) {
    load(b, offsetof(struct seccomp_data, arch));
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, arches[arch].audit, 1, 0);
    give(b, SECCOMP_RET_KILL_PROCESS);
    load(b, offsetof(struct seccomp_data, nr));
    if (arches[arch].has_x32) {
        emit(b, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 2);
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, NR_SKIPPED, 1, 0);
        give(b, SECCOMP_RET_KILL_PROCESS);
    }
}

static int finish(const struct program *p, struct sp_filter *filter) {
    if (p->len > PROGRAM_MAX) {
        return -E2BIG;
    }
    filter->insns = malloc(p->len * sizeof p->insns[0]);
    if (filter->insns == NULL) {
        return -ENOMEM;
    }
    memcpy(filter->insns, &p->insns[PROGRAM_MAX - p->len], p->len * sizeof p->insns[0]);
    filter->len = (uint16_t)p->len;
    return 0;
}

int sp_seccomp_build(enum sp_arch arch, enum sp_layer layer, const struct sp_seccomp_policy *policy,
                     struct sp_filter *filter) {
    *filter = (struct sp_filter){0};
    if (policy->profile != SP_SECCOMP_ESSENTIAL && policy->profile != SP_SECCOMP_NETWORK) {
        return -EINVAL;
    }
    if (layer == SP_LAYER_EXEC && policy->allow_fork) {
        return 0;
    }
    struct program program = {.len = 0};
    struct search search = {.policy = policy};
    struct block start = {.len = 0};
    find_ranges(&search, arch, layer);
    if (layer == SP_LAYER_TEMPLATE) {
        check_arch(&start, arch);
    } else {
        load(&start, offsetof(struct seccomp_data, nr));
    }
    prepend_search(&program, &search, 0, search.n); /* its root comes out in front: the start falls through to it */
    prepend_block(&program, &start);
    return finish(&program, filter);
}

const struct sp_syscall *sp_seccomp_syscalls(enum sp_arch arch, size_t *count) {
    *count = arches[arch].n_calls;
    return arches[arch].calls;
}

void sp_seccomp_each_name(void (*each)(const char *name, void *arg), void *arg) {
    for (size_t g = 0; g < LENGTH(sp_rules); g++) {
        for (size_t i = 0; i < LENGTH(sp_rules[g].names) && sp_rules[g].names[i] != NULL; i++) {
            each(sp_rules[g].names[i], arg);
        }
    }
}

static int build_native(enum sp_layer layer, const struct sp_seccomp_policy *policy, struct sp_filter *filter) {
#if defined(__x86_64__) && !defined(__ILP32__)
    return sp_seccomp_build(SP_ARCH_X86_64, layer, policy, filter);
#elif defined(__aarch64__) && defined(__LP64__) && defined(__AARCH64EL__)
    return sp_seccomp_build(SP_ARCH_AARCH64, layer, policy, filter);
#else
    (void)layer, (void)policy;
    *filter = (struct sp_filter){0};
    return -ENOTSUP;
#endif
}

int sp_seccomp_template(const struct sp_seccomp_policy *policy, struct sp_filter *filter) {
    return build_native(SP_LAYER_TEMPLATE, policy, filter);
}

int sp_seccomp_init(const struct sp_seccomp_policy *policy, struct sp_filter *filter) {
    return build_native(SP_LAYER_INIT, policy, filter);
}

int sp_seccomp_exec(const struct sp_seccomp_policy *policy, struct sp_filter *filter) {
    return build_native(SP_LAYER_EXEC, policy, filter);
}
