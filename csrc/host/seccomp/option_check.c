/* Checks of the arguments beside an option, where only some of them make an option of option.c safe. */
#include <errno.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <string.h>

#include "host/seccomp/leaf.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

/* PTRACE_O_: TRACESYSGOOD, FORK, VFORK, CLONE, EXEC, VFORKDONE, SECCOMP, EXITKILL; neither EXIT nor SUSPEND_SECCOMP */
#define SP_TRACE_OPTIONS 0x1000bfu

/* SECCOMP_FILTER_FLAG_: TSYNC, SPEC_ALLOW, TSYNC_ESRCH */
#define SP_FILTER_FLAGS 0x15u

/* SECCOMP_FILTER_FLAG_: NEW_LISTENER, WAIT_KILLABLE_RECV */
#define SP_LISTENER_FLAGS 0x28u

/*
 * Whether this layer refuses the tenant's own filters. Only the last layer that we install can refuse them: the layer
 * `exec`, if there is one, else the layer `init`. `last` says which of the two this is. EINVAL is what a kernel without
 * filters answers.
 */
static bool refuses_filters(const struct sp_seccomp_policy *policy, bool last) {
    bool by_name = false;
    for (size_t i = 0; i < policy->n_allow; i++) {
        by_name |= strcmp(policy->allow[i], "seccomp") == 0;
    }
    return policy->no_filters && !by_name && sp_seccomp_has_exec_layer(policy) == last;
}

/* Refuses prctl(PR_SET_SECCOMP), except for strict mode. */
static void refuse_filter_mode(struct block *b) {
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 3);
    load_low(b, 1);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_MODE_STRICT, 1, 0);
    refuse(b, EINVAL);
}

/* An undumpable process would hide its descriptors from init, too. No other process in the sandbox could read them
 * anyway, so PR_SET_DUMPABLE returns success without any effect. */
static void check_late_prctl(struct block *b, const struct sp_seccomp_policy *policy) {
    load_low(b, 0);
    if (policy->interpreter) {
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, PR_SET_DUMPABLE, 0, 3);
        load_low(b, 1);
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0);
        refuse(b, 0);
        load_low(b, 0);
    } else {
        refuse_if_equal(b, PR_SET_DUMPABLE, 0);
    }
    if (refuses_filters(policy, false)) {
        refuse_filter_mode(b);
    }
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_last_prctl(struct block *b, const struct sp_seccomp_policy *policy) {
    if (refuses_filters(policy, true)) {
        load_low(b, 0);
        refuse_filter_mode(b);
    }
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_own_filter(struct block *b, bool refused) {
    if (refused) {
        load_low(b, 0);
        refuse_if_equal(b, SECCOMP_SET_MODE_FILTER, EINVAL);
    }
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* Where init installs a filter with a listener itself, the template allows that. This layer refuses it to tenants. */
static void check_late_filter(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->supervised) {
        load_low(b, 0);
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_SET_MODE_FILTER, 0, 3);
        load_low(b, 1);
        refuse_if_set(b, ~SP_FILTER_FLAGS, EINVAL);
    }
    check_own_filter(b, refuses_filters(policy, false));
}

static void check_last_filter(struct block *b, const struct sp_seccomp_policy *policy) {
    check_own_filter(b, refuses_filters(policy, true));
}

/*
 * F_SETOWN: the kernel itself sends signals of any number (F_SETSIG) to the process or group that is named. That must
 * not be init or its process group (-1). The kernel reads an int.
 */
static void check_owner(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->shares_host) { /* any number may be a process of the host */
        sp_seccomp_write_own(b, 2);
        emit_verdict(b, SECCOMP_RET_ALLOW);
        return;
    }
    load_low(b, 2);
    refuse_if_equal(b, INIT_PID, EPERM);
    refuse_if_equal(b, (uint32_t)-INIT_PID, EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/*
 * A filter of the tenant's own. A listener (NEW_LISTENER and WAIT_KILLABLE_RECV) is refused, because its descriptor
 * would keep a chain of filters after their process has ended. LOG is refused, because each verdict would add a line to
 * the host's audit log.
 */
static void check_filter_flags(struct block *b, const struct sp_seccomp_policy *policy) {
    load_low(b, 1);
    refuse_if_set(b, policy->supervised ? ~(SP_FILTER_FLAGS | SP_LISTENER_FLAGS) : ~SP_FILTER_FLAGS, EINVAL);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/*
 * PTRACE_O_TRACEEXIT is the only option that stops a process which is already dying: it has consumed its SIGKILL, a
 * second one is dropped, and only its tracer can end the stop. If two processes trace each other with it and both are
 * killed, they wait for each other for ever, and the sandbox never ends. Other stops do not have this problem: a
 * process with a pending SIGKILL skips group stops and stops at signals and system calls, and leaves one that it is in.
 * A tracer whose own end is not stopped releases its tracees when it dies, so refusing this one option breaks every
 * circle.
 *
 * The kernel reads all 64 bits, and returns a different error for SEIZE.
 */
static void check_traced(struct block *b, int err) {
    load_high(b, 3);
    refuse_unless_zero(b, err);
    load_low(b, 3);
    refuse_if_set(b, ~SP_TRACE_OPTIONS, err);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_trace_options(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_traced(b, EINVAL);
}

static void check_seize(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_traced(b, EIO);
}

/* PTRACE_ARCH_PRCTL: of the options that it sets in another process, a debugger needs only the bases of FS and GS. */
static void check_traced_base(struct block *b, const struct sp_seccomp_policy *policy) {
    static const uint32_t bases[] = {0x1001, 0x1002, 0x1003, 0x1004};
    (void)policy;
    load_low(b, 3);
    require_one_of(b, bases, LENGTH(bases), EINVAL);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/*
 * PR_SET_THP_DISABLE: init and zygote have it where nothing but init counts the memory (zygote/limits.c). A tenant can
 * have it everywhere, and give it up nowhere: that succeeds without any effect. The kernel reads all 64 bits.
 */
static void check_huge_pages(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 1);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0);
    refuse(b, 0);
    load_low(b, 2);
    refuse_unless_zero(b, 0);
    load_high(b, 2);
    refuse_unless_zero(b, 0);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void (*const write_option[])(struct block *, const struct sp_seccomp_policy *) = {
    [CHECK_LATE_PRCTL - CHECK_LATE_PRCTL] = check_late_prctl,
    [CHECK_LAST_PRCTL - CHECK_LATE_PRCTL] = check_last_prctl,
    [CHECK_LATE_FILTER - CHECK_LATE_PRCTL] = check_late_filter,
    [CHECK_LAST_FILTER - CHECK_LATE_PRCTL] = check_last_filter,
    [CHECK_OWNER - CHECK_LATE_PRCTL] = check_owner,
    [CHECK_FILTER_FLAGS - CHECK_LATE_PRCTL] = check_filter_flags,
    [CHECK_TRACE_OPTIONS - CHECK_LATE_PRCTL] = check_trace_options,
    [CHECK_SEIZE - CHECK_LATE_PRCTL] = check_seize,
    [CHECK_TRACED_BASE - CHECK_LATE_PRCTL] = check_traced_base,
    [CHECK_HUGE_PAGES - CHECK_LATE_PRCTL] = check_huge_pages,
};

void sp_seccomp_write_option(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy) {
    write_option[leaf - CHECK_LATE_PRCTL](b, policy);
}
