#include "host/seccomp/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "host/seccomp/leaf.h"
#include "host/seccomp/program.h"
#include "sandpool.h"

/* Calls of x32 are x86_64 calls with this bit. A tracer sets the number -1 to skip a call. */
#define X32_BIT 0x40000000u
#define NR_SKIPPED 0xffffffffu

static const struct {
    uint32_t audit;
    bool has_x32;
} arches[SP_ARCH_COUNT] = {
    [SP_ARCH_X86_64] = {AUDIT_ARCH_X86_64, true},
    [SP_ARCH_AARCH64] = {AUDIT_ARCH_AARCH64, false},
};

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

/* The last range has no end: every number above the table is unknown, too. */
static int find_ranges(struct ranges *ranges, enum sp_arch arch, enum sp_layer layer,
                       const struct sp_seccomp_policy *policy) {
    enum leaf leaves[NR_END];
    int rc = sp_seccomp_leaves(arch, layer, policy, leaves);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t nr = 0; nr < NR_END; nr++) {
        add_range(ranges, nr, leaves[nr]);
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
