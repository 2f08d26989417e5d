/* Which rule of table.h applies to each system call of an architecture, and which leaf that is in each layer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/seccomp/leaf.h"
#include "host/seccomp/syscalls_aarch64.h"
#include "host/seccomp/syscalls_x86_64.h"
#include "host/seccomp/table.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

static const struct {
    const struct sp_syscall *calls;
    size_t n_calls;
} tables[SP_ARCH_COUNT] = {
    [SP_ARCH_X86_64] = {sp_syscalls_x86_64, LENGTH(sp_syscalls_x86_64)},
    [SP_ARCH_AARCH64] = {sp_syscalls_aarch64, LENGTH(sp_syscalls_aarch64)},
};

/* What each rule does in the layers template, init and exec. Arguments are checked in the first layer after whose
 * installation neither zygote nor init needs a value that the check refuses. */
static const enum leaf leaf_of_rule[SP_RULE_COUNT][SP_LAYER_COUNT] = {
    [SP_RULE_UNKNOWN] = {UNKNOWN, ALLOW, ALLOW},
    [SP_RULE_ALLOW] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_DENY] = {DENY, ALLOW, ALLOW},
    [SP_RULE_MAY_UNKNOWN] = {UNKNOWN, ALLOW, ALLOW},
    [SP_RULE_MAY_DENY] = {DENY, ALLOW, ALLOW},
    [SP_RULE_MAY_XATTR] = {REFUSE_EOPNOTSUPP, ALLOW, ALLOW},
    [SP_RULE_MAY_ATTRIBUTE] = {UNKNOWN, ALLOW, ALLOW},
    [SP_RULE_MAY_SPLICE] = {REFUSE_EINVAL, ALLOW, ALLOW},
    [SP_RULE_MAY_PTRACE] = {CHOOSE_PTRACE, ALLOW, ALLOW},
    [SP_RULE_MAY_KCMP] = {CHOOSE_KCMP, ALLOW, ALLOW},
    [SP_RULE_MAY_SECCOMP] = {CHOOSE_SECCOMP, CHECK_LATE_FILTER, CHECK_LAST_FILTER},
    [SP_RULE_MAY_RESTRICT] = {ALLOW, UNKNOWN, ALLOW},
    [SP_RULE_MAY_LATER] = {ALLOW, UNKNOWN, ALLOW},
    [SP_RULE_TRUNCATE] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_ATTRIBUTE] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_SYSV] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_SEGMENT] = {CHECK_SEGMENT, ALLOW, ALLOW},
    [SP_RULE_SESSION] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_SIGNAL] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_KILL] = {ALLOW, ALLOW, ALLOW},
    [SP_RULE_MODE_1] = {CHECK_MODE_1, ALLOW, ALLOW},
    [SP_RULE_MODE_2] = {CHECK_MODE_2, ALLOW, ALLOW},
    [SP_RULE_CREAT] = {CHECK_MODE_1, ALLOW, ALLOW},
    [SP_RULE_OPEN] = {CHECK_OPEN, ALLOW, ALLOW},
    [SP_RULE_OPENAT] = {CHECK_OPENAT, ALLOW, ALLOW},
    [SP_RULE_OPENAT2] = {ALLOW, REFUSE_OPENAT2, ALLOW}, /* the zygote opens binds with it */
    [SP_RULE_NODE_1] = {CHECK_NODE_1, ALLOW, ALLOW},
    [SP_RULE_NODE_2] = {CHECK_NODE_2, ALLOW, ALLOW},
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
    [SP_RULE_RENAME] = {CHOOSE_RENAME, ALLOW, ALLOW},
    [SP_RULE_CLOSE_RANGE] = {CHECK_CLOSE_RANGE, ALLOW, ALLOW},
    [SP_RULE_MMAP] = {CHECK_MMAP, ALLOW, ALLOW},
    [SP_RULE_MEMFD] = {CHECK_MEMFD, ALLOW, ALLOW},
    [SP_RULE_GETSOCKOPT] = {CHECK_GETSOCKOPT, ALLOW, ALLOW},
    [SP_RULE_SETSOCKOPT] = {CHOOSE_LEVEL, ALLOW, ALLOW},
    [SP_RULE_SOCKET] = {CHECK_SOCKET, ALLOW, ALLOW},
    [SP_RULE_SOCKETPAIR] = {CHECK_SOCKETPAIR, ALLOW, ALLOW},
    [SP_RULE_SYNC] = {CHECK_SYNC, ALLOW, ALLOW},
    [SP_RULE_ADVICE] = {CHECK_ADVICE, ALLOW, ALLOW},
    [SP_RULE_NAMED] = {CHECK_NAMED, ALLOW, ALLOW},
};

static int by_name(const void *key, const void *row) { return strcmp(key, ((const struct sp_syscall *)row)->name); }

static const struct sp_syscall *find_call(enum sp_arch arch, const char *name) {
    return bsearch(name, tables[arch].calls, tables[arch].n_calls, sizeof(struct sp_syscall), by_name);
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
            const bool reads = rules[call->nr] == SP_RULE_MAY_ATTRIBUTE;
            rules[call->nr] = reads ? SP_RULE_ATTRIBUTE : SP_RULE_ALLOW;
        }
    }
    return 0;
}

/* Whether the leaf depends on no_setid. */
static bool is_of_modes(uint8_t rule, enum leaf leaf) {
    const bool changes = rule == SP_RULE_MODE_1 || rule == SP_RULE_MODE_2;
    return !changes && leaf >= CHECK_MODE_1 && leaf <= REFUSE_OPENAT2;
}

/* What no_setid would have refused in the layers template and init. */
static enum leaf leaf_in_attach(uint8_t rule) {
    if (rule == SP_RULE_NODE_1 || rule == SP_RULE_NODE_2) {
        return rule == SP_RULE_NODE_1 ? CHECK_MODE_1 : CHECK_MODE_2;
    }
    enum leaf in_template = leaf_of_rule[rule][SP_LAYER_TEMPLATE];
    enum leaf in_init = leaf_of_rule[rule][SP_LAYER_INIT];
    return is_of_modes(rule, in_template) ? in_template : is_of_modes(rule, in_init) ? in_init : ALLOW;
}

static enum leaf leaf_of(uint8_t rule, enum sp_layer layer, const struct sp_seccomp_policy *policy) {
    if (layer == SP_LAYER_ATTACH) {
        return leaf_in_attach(rule);
    }
    enum leaf leaf = leaf_of_rule[rule][layer];
    bool only_threads = layer == SP_LAYER_EXEC && policy->allow_fork && (leaf == CHECK_THREAD || rule == SP_RULE_FORK);
    leaf = only_threads || (is_of_modes(rule, leaf) && !policy->no_setid) ? ALLOW : leaf;
    return policy->shares_host ? sp_seccomp_leaf_in_tier(rule, layer, policy, leaf) : leaf;
}

int sp_seccomp_leaves(enum sp_arch arch, enum sp_layer layer, const struct sp_seccomp_policy *policy,
                      enum leaf leaves[NR_END]) {
    uint8_t rules[NR_END];
    find_rules(arch, rules);
    int rc = apply_allow_list(arch, policy, rules);
    for (uint32_t nr = 0; rc == 0 && nr < NR_END; nr++) {
        leaves[nr] = leaf_of(rules[nr], layer, policy);
    }
    return rc;
}

const struct sp_syscall *sp_seccomp_syscalls(enum sp_arch arch, size_t *count) {
    *count = tables[arch].n_calls;
    return tables[arch].calls;
}

void sp_seccomp_each_name(void (*each)(const char *name, void *arg), void *arg) {
    for (size_t g = 0; g < LENGTH(sp_rules); g++) {
        for (size_t i = 0; i < LENGTH(sp_rules[g].names) && sp_rules[g].names[i] != NULL; i++) {
            each(sp_rules[g].names[i], arg);
        }
    }
}
