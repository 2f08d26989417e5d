#include "host/seccomp/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "host/seccomp/leaf.h"
#include "host/seccomp/program.h"
#include "host/seccomp/syscalls_aarch64.h"
#include "host/seccomp/syscalls_x86_64.h"
#include "host/seccomp/table.h"
#include "sandpool.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

/* Calls of x32 are x86_64 calls with this bit. A tracer sets the number -1 to skip a call. */
#define X32_BIT 0x40000000u
#define NR_SKIPPED 0xffffffffu

/* All tables end far below this number; the kernel's own caches assume 1,024, too. */
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

/* What each rule does in the layers template, init and exec. Arguments are checked in the first layer after whose
 * installation neither zygote nor init needs a value that the check refuses. */
static const enum leaf leaves[SP_RULE_COUNT][SP_LAYER_COUNT] = {
    [SP_RULE_UNKNOWN] = {UNKNOWN, ALLOW, ALLOW},
    [SP_RULE_ALLOW] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_DENY] = {DENY, ALLOW, ALLOW},
    [SP_RULE_MAY_UNKNOWN] = {UNKNOWN, ALLOW, ALLOW},
    [SP_RULE_MAY_DENY] = {DENY, ALLOW, ALLOW},
    [SP_RULE_MAY_XATTR] = {REFUSE_EOPNOTSUPP, ALLOW, ALLOW},
    [SP_RULE_MAY_SPLICE] = {REFUSE_EINVAL, ALLOW, ALLOW},
    [SP_RULE_MAY_PTRACE] = {CHOOSE_PTRACE, ALLOW, ALLOW},
    [SP_RULE_MAY_KCMP] = {CHOOSE_KCMP, ALLOW, ALLOW},
    [SP_RULE_MAY_SECCOMP] = {CHOOSE_SECCOMP, CHECK_LATE_FILTER, CHECK_LAST_FILTER},
    [SP_RULE_MAY_RESTRICT] = {ALLOW, UNKNOWN, ALLOW},
    [SP_RULE_MAY_LATER] = {ALLOW, UNKNOWN, ALLOW},
    [SP_RULE_TRUNCATE] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_SYSV] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_SESSION] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_SIGNAL] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_KILL] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_MODE_1] = {CHECK_MODE_1, ALLOW, ALLOW},
    [SP_RULE_MODE_2] = {CHECK_MODE_2, ALLOW, ALLOW},
    [SP_RULE_OPEN] = {CHECK_OPEN, ALLOW, ALLOW},
    [SP_RULE_OPENAT] = {CHECK_OPENAT, ALLOW, ALLOW},
    [SP_RULE_OPENAT2] = {ALLOW, REFUSE_OPENAT2, ALLOW}, /* the zygote opens binds with it */
    [SP_RULE_SETUP] = {ALLOW, DENY, ALLOW},
    [SP_RULE_CLONE3] = {ALLOW, UNKNOWN, ALLOW},
    [SP_RULE_CLONE] = {ALLOW, CHECK_NAMESPACES, CHECK_THREAD},
    [SP_RULE_FORK] = {ALLOW, ALLOW, DENY},
    [SP_RULE_UNSHARE] = {ALLOW, CHECK_UNSHARE, ALLOW},
    [SP_RULE_PRLIMIT] = {ALLOW, CHECK_PRLIMIT, ALLOW},
    [SP_RULE_PID] = {CHECK_PID, ALLOW, ALLOW},
    [SP_RULE_PRIORITY] = {CHECK_PRIORITY, ALLOW, ALLOW},
    [SP_RULE_IOPRIO] = {CHECK_IOPRIO, ALLOW, ALLOW},
    [SP_RULE_SETRLIMIT] = {ALLOW, CHECK_SETRLIMIT, ALLOW},
    [SP_RULE_FCNTL] = {CHOOSE_FCNTL, ALLOW, ALLOW},
    [SP_RULE_IOCTL] = {CHOOSE_IOCTL, ALLOW, ALLOW},
    [SP_RULE_PERSONALITY] = {CHECK_PERSONALITY, ALLOW, ALLOW},
    [SP_RULE_PRCTL] = {CHOOSE_PRCTL, CHECK_LATE_PRCTL, CHECK_LAST_PRCTL},
    [SP_RULE_ARCH_PRCTL] = {CHOOSE_ARCH_PRCTL, ALLOW, ALLOW},
    [SP_RULE_MADVISE] = {CHOOSE_MADVISE, ALLOW, ALLOW},
    [SP_RULE_CLOSE_RANGE] = {CHECK_CLOSE_RANGE, ALLOW, ALLOW},
    [SP_RULE_MMAP] = {CHECK_MMAP, ALLOW, ALLOW},
    [SP_RULE_MEMFD] = {CHECK_MEMFD, ALLOW, ALLOW},
    [SP_RULE_SETSOCKOPT] = {CHOOSE_LEVEL, ALLOW, ALLOW},
    [SP_RULE_SOCKET] = {CHECK_SOCKET, ALLOW, ALLOW},
    [SP_RULE_SOCKETPAIR] = {CHECK_SOCKETPAIR, ALLOW, ALLOW},
    [SP_RULE_SYNC] = {CHECK_SYNC, ALLOW, ALLOW},
    [SP_RULE_ADVICE] = {CHECK_ADVICE, ALLOW, ALLOW},
    [SP_RULE_NAMED] = {CHECK_NAMED, ALLOW, ALLOW},
};

/* ---- the search ---- */

struct range {
    uint32_t first; /* it ends before the `first` of the next range */
    enum leaf leaf;
};

struct ranges {
    struct range at[NR_END];
    uint32_t n;
};

struct search {
    const struct sp_seccomp_policy *policy;
    uint32_t shared[LEAF_COUNT]; /* the label of each leaf that was written; 0: not written yet */
};

/* Adds a range, or extends the last one if it has the same leaf. */
static void add_range(struct ranges *r, uint32_t first, enum leaf leaf) {
    if (r->n == 0 || r->at[r->n - 1].leaf != leaf) {
        r->at[r->n++] = (struct range){first, leaf};
    }
}

static uint32_t prepend_search(struct program *p, struct search *s, const struct range *from, const struct range *to);

/* Writes the search over the options of one call. Every number that is in no listed range gets `o->unknown`. */
static uint32_t prepend_choice(struct program *p, struct search *s, const struct options *o) {
    struct ranges ranges = {.n = 0};
    struct block start = {.len = 0};
    uint32_t next = 0;
    for (uint32_t i = 0; i < o->n; i++) {
        if (o->ranges[i].first > next) {
            add_range(&ranges, next, o->unknown);
        }
        add_range(&ranges, o->ranges[i].first, o->ranges[i].leaf);
        next = o->ranges[i].last + 1;
    }
    add_range(&ranges, next, o->unknown);
    prepend_search(p, s, ranges.at, ranges.at + ranges.n);
    if (o->whole) {
        load_high(&start, o->arg);
        emit(&start, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
        sp_seccomp_write_leaf(&start, o->unknown, s->policy);
    }
    load_low(&start, o->arg);
    return prepend_block(p, &start);
}

/* Returns the label of the leaf. Writes the leaf once more when the last copy has become too far away for branches. */
static uint32_t prepend_leaf(struct program *p, struct search *s, enum leaf leaf) {
    if (s->shared[leaf] == 0 || p->len - s->shared[leaf] >= JUMP_MAX / 2) {
        const struct options *options = sp_seccomp_options(leaf);
        struct block block = {.len = 0};
        if (options == NULL) {
            sp_seccomp_write_leaf(&block, leaf, s->policy);
        }
        s->shared[leaf] = options != NULL ? prepend_choice(p, s, options) : prepend_block(p, &block);
    }
    return s->shared[leaf];
}

/* The root of the search becomes the first instruction, so that what is prepended falls through to it. */
static uint32_t prepend_search(struct program *p, struct search *s, const struct range *from, const struct range *to) {
    if (to - from == 1) {
        return prepend_leaf(p, s, from->leaf);
    }
    const struct range *middle = from + (to - from) / 2;
    uint32_t right = prepend_search(p, s, middle, to);
    uint32_t left = prepend_search(p, s, from, middle);
    return prepend_branch(p, middle->first, right, left);
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

static bool may_allow(const char *name) {
    for (size_t g = 0; g < LENGTH(sp_rules); g++) {
        bool may = sp_rules[g].rule >= SP_RULE_MAY_UNKNOWN && sp_rules[g].rule <= SP_RULE_MAY_LATER;
        for (size_t i = 0; may && i < LENGTH(sp_rules[g].names) && sp_rules[g].names[i] != NULL; i++) {
            if (strcmp(sp_rules[g].names[i], name) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Applies seccomp_allow. -EINVAL for a name that the table does not let a configuration allow. A name that this
 * architecture does not have changes nothing. */
static int apply_allow_list(enum sp_arch arch, const struct sp_seccomp_policy *policy, uint8_t rules[NR_END]) {
    for (size_t i = 0; i < policy->n_allow; i++) {
        if (!may_allow(policy->allow[i])) {
            return -EINVAL;
        }
        const struct sp_syscall *call = find_call(arch, policy->allow[i]);
        if (call != NULL && call->nr < NR_END) {
            rules[call->nr] = SP_RULE_ALLOW;
        }
    }
    return 0;
}

static bool is_of_modes(enum leaf leaf) { return leaf >= CHECK_MODE_1 && leaf <= REFUSE_OPENAT2; }

static enum leaf leaf_of(uint8_t rule, enum sp_layer layer, const struct sp_seccomp_policy *policy) {
    if (layer == SP_LAYER_ATTACH) {
        enum leaf in_template = leaves[rule][SP_LAYER_TEMPLATE];
        enum leaf in_init = leaves[rule][SP_LAYER_INIT];
        return is_of_modes(in_template) ? in_template : is_of_modes(in_init) ? in_init : ALLOW;
    }
    enum leaf leaf = leaves[rule][layer];
    bool only_threads = layer == SP_LAYER_EXEC && policy->allow_fork && (leaf == CHECK_THREAD || rule == SP_RULE_FORK);
    leaf = only_threads || (is_of_modes(leaf) && !policy->no_setid) ? ALLOW : leaf;
    return policy->shares_host ? sp_seccomp_leaf_in_tier(rule, layer, policy, leaf) : leaf;
}

/* The last range has no end: every number above the table is unknown, too. */
static int find_ranges(struct ranges *ranges, enum sp_arch arch, enum sp_layer layer,
                       const struct sp_seccomp_policy *policy) {
    uint8_t rules[NR_END];
    find_rules(arch, rules);
    int rc = apply_allow_list(arch, policy, rules);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t nr = 0; nr < NR_END; nr++) {
        add_range(ranges, nr, leaf_of(rules[nr], layer, policy));
    }
    return 0;
}

/*
 * In another architecture the numbers mean other calls, and no program that runs here has a reason to use them. Only
 * the template checks this, because its verdict is final, and because the other layers are installed once for each
 * sandbox or command.
 */
static void check_arch(struct block *b, enum sp_arch arch) {
    load(b, offsetof(struct seccomp_data, arch));
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, arches[arch].audit, 1, 0);
    emit_verdict(b, SECCOMP_RET_KILL_PROCESS);
    load(b, offsetof(struct seccomp_data, nr));
    if (arches[arch].has_x32) {
        emit(b, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 2);
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, NR_SKIPPED, 1, 0);
        emit_verdict(b, SECCOMP_RET_KILL_PROCESS);
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
    if ((layer == SP_LAYER_EXEC && !sp_seccomp_has_exec_layer(policy)) ||
        (layer == SP_LAYER_ATTACH && policy->no_setid)) {
        return 0;
    }
    struct program program = {.len = 0};
    struct search search = {.policy = policy};
    struct ranges ranges = {.n = 0};
    struct block start = {.len = 0};
    int rc = find_ranges(&ranges, arch, layer, policy);
    if (rc != 0) {
        return rc;
    }
    if (layer == SP_LAYER_TEMPLATE) {
        check_arch(&start, arch);
    } else {
        load(&start, offsetof(struct seccomp_data, nr));
    }
    prepend_search(&program, &search, ranges.at, ranges.at + ranges.n);
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

int sp_seccomp_attach(const struct sp_seccomp_policy *policy, struct sp_filter *filter) {
    return build_native(SP_LAYER_ATTACH, policy, filter);
}

int sp_seccomp_exec(const struct sp_seccomp_policy *policy, struct sp_filter *filter) {
    return build_native(SP_LAYER_EXEC, policy, filter);
}
