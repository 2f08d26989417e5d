/*
 * The policy of a sandbox without namespaces, where it differs. What such a sandbox shares with the host are process
 * numbers, System V objects and, unless each lease has an id of its own, the user. Landlock keeps it from files, from
 * signals (ABI 6) and from tracing. What Landlock does not check is refused here or, for mode, owner and times of files
 * and for signals, by the filter of init's supervisor: init/supervise.h.
 */
#include <errno.h>
#include <fcntl.h>

#include "host/seccomp/leaf.h"
#include "host/seccomp/table.h"

bool sp_seccomp_has_exec_layer(const struct sp_seccomp_policy *policy) {
    return !policy->allow_fork || policy->one_group;
}

static enum leaf in_template(uint8_t rule, const struct sp_seccomp_policy *policy, enum leaf leaf) {
    switch (rule) {
    case SP_RULE_TRUNCATE:
        return policy->old_truncate ? DENY : leaf;
    case SP_RULE_SYSV:
    case SP_RULE_SEGMENT:
        return UNKNOWN;
    case SP_RULE_ATTRIBUTE:
        return REFUSE_EOPNOTSUPP;
    case SP_RULE_MAY_PTRACE:
        return DENY;
    case SP_RULE_OPEN:
        return policy->old_truncate ? CHECK_OPEN : leaf;
    case SP_RULE_OPENAT:
        return policy->old_truncate ? CHECK_OPENAT : leaf;
    default:
        return leaf;
    }
}

/* The last layer: init itself still has to put its children into a group, and to kill them. */
static enum leaf in_exec(uint8_t rule, const struct sp_seccomp_policy *policy, enum leaf leaf) {
    if (!policy->one_group) {
        return leaf;
    }
    return rule == SP_RULE_SESSION  ? PRETEND
           : rule == SP_RULE_SIGNAL ? DENY
           : rule == SP_RULE_KILL   ? CHECK_UNMARKED
                                    : leaf;
}

enum leaf sp_seccomp_leaf_in_tier(uint8_t rule, enum sp_layer layer, const struct sp_seccomp_policy *policy,
                                  enum leaf leaf) {
    if (layer == SP_LAYER_TEMPLATE) {
        return in_template(rule, policy, leaf);
    }
    if (layer == SP_LAYER_EXEC) {
        return in_exec(rule, policy, leaf);
    }
    /* A tenant can create no rules to enter. */
    return layer == SP_LAYER_INIT && rule == SP_RULE_MAY_RESTRICT ? ALLOW : leaf;
}

void sp_seccomp_write_truncation(struct block *b) {
    emit(b, BPF_JMP | BPF_JSET | BPF_K, O_TRUNC, 0, 2);
    emit(b, BPF_JMP | BPF_JSET | BPF_K, O_ACCMODE, 1, 0);
    refuse(b, EPERM);
}

void sp_seccomp_write_own(struct block *b, unsigned arg) {
    load_low(b, arg);
    refuse_unless_zero(b, EPERM);
}
