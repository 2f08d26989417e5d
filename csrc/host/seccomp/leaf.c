#include "host/seccomp/leaf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/kill_mark.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

/* Constants that some supported headers do not have yet. */
#define SP_IOPRIO_WHO_USER 3
#define SP_CLONE_NEWCGROUP 0x02000000u
#define SP_CLOSE_RANGE_UNSHARE 2u
#define SP_MFD_HUGETLB 4u
#define SP_SHM_HUGETLB 04000u

#define SP_CLONE_NAMESPACES                                                                                     \
    ((uint32_t)(CLONE_NEWNS | SP_CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
                CLONE_NEWNET))
/* Without CLONE_FILES: init counts the descriptors of a thread in the table of its process, so they must be there. */
#define SP_UNSHARE_HARMLESS ((uint32_t)(CLONE_FS | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD | CLONE_VM))

/* Functions that write one leaf each. Most do not use the policy. */

static void allow(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void deny(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, EPERM);
}

static void unknown(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, ENOSYS);
}

static void pretend(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, 0);
}

static void refuse_einval(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, EINVAL);
}

static void refuse_eio(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, EIO);
}

static void refuse_enotty(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, ENOTTY);
}

static void refuse_eopnotsupp(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, EOPNOTSUPP);
}

static void refuse_enoprotoopt(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    refuse(b, ENOPROTOOPT);
}

/* The kernel uses only the low 16 bits of a mode. */
static void check_mode(struct block *b, unsigned arg) {
    load_low(b, arg);
    refuse_if_set(b, S_ISUID | S_ISGID, EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_mode_1(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_mode(b, 1);
}

static void check_mode_2(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    check_mode(b, 2);
}

/*
 * Since Linux 5.8 the device (0, 0), an overlay's whiteout, needs no capability. The answer is the kernel's for other
 * devices. Landlock, where there is one, refuses all of them; init proves it by a block device, which passes here.
 */
static void check_node(struct block *b, unsigned arg, const struct sp_seccomp_policy *policy) {
    load_low(b, arg);
    if (policy->no_setid) {
        refuse_if_set(b, S_ISUID | S_ISGID, EPERM);
    }
    emit(b, BPF_ALU | BPF_AND | BPF_K, S_IFMT, 0, 0);
    refuse_if_equal(b, S_IFCHR, EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_node_1(struct block *b, const struct sp_seccomp_policy *policy) { check_node(b, 1, policy); }

static void check_node_2(struct block *b, const struct sp_seccomp_policy *policy) { check_node(b, 2, policy); }

/* Without one of these flags the mode is whatever the register holds. O_TMPFILE consists of its own bit and
 * O_DIRECTORY.
 */
static void check_mode_if_created(struct block *b, unsigned flags_arg, const struct sp_seccomp_policy *policy) {
    load_low(b, flags_arg);
    if (policy->old_truncate) {
        sp_seccomp_write_truncation(b);
    }
    emit(b, BPF_JMP | BPF_JSET | BPF_K, O_CREAT | (O_TMPFILE & ~O_DIRECTORY), 1, 0);
    emit_verdict(b, SECCOMP_RET_ALLOW);
    check_mode(b, flags_arg + 1);
}

static void check_open(struct block *b, const struct sp_seccomp_policy *policy) { check_mode_if_created(b, 1, policy); }

static void check_openat(struct block *b, const struct sp_seccomp_policy *policy) {
    check_mode_if_created(b, 2, policy);
}

/* Refuses new namespaces, and threads with a descriptor table of their own. */
static void check_namespaces(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 0);
    refuse_if_set(b, SP_CLONE_NAMESPACES, EPERM);
    emit(b, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 2);
    emit(b, BPF_JMP | BPF_JSET | BPF_K, CLONE_FILES, 1, 0);
    refuse(b, EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_thread(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 0);
    emit(b, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
    refuse(b, EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* Allows only flags that are known not to be namespaces. The kernel reads all 64 bits of the flags. */
static void check_unshare(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 0);
    refuse_if_set(b, ~SP_UNSHARE_HARMLESS, EPERM);
    load_high(b, 0);
    refuse_unless_zero(b, EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/*
 * init sets RLIMIT_CORE to 1. Only this value keeps the kernel from starting the host's core_pattern helper (core(5));
 * 0 would not. A tenant's call that sets it, usually to 0, returns success without any effect.
 */
static void pretend_core(struct block *b, unsigned argument) {
    load_low(b, argument);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_CORE, 0, 1);
    refuse(b, 0);
}

static void check_setrlimit(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    pretend_core(b, 0);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/*
 * The kernel lets processes of the same uid set each other's limits, so a tenant could starve init, and what init has
 * started beside it and has not execed. So a process sets its own, as 0; reading limits is allowed.
 */
static void check_prlimit(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 2);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load_high(b, 2);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    emit_verdict(b, SECCOMP_RET_ALLOW);
    sp_seccomp_write_own(b, 0);
    pretend_core(b, 1);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/*
 * The same for scheduling: a tenant could make init late with every report and every kill. "All processes of this user"
 * includes init. The kernel reads each of these numbers as an int.
 */
static void check_pid(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->shares_host) {
        sp_seccomp_write_own(b, 0);
    } else {
        load_low(b, 0);
        refuse_if_equal(b, INIT_PID, EPERM);
    }
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_not_init(struct block *b, const struct sp_seccomp_policy *policy, uint32_t all_of_a_user) {
    load_low(b, 0);
    refuse_if_equal(b, all_of_a_user, EPERM);
    if (policy->shares_host) {
        sp_seccomp_write_own(b, 1);
    } else {
        load_low(b, 1);
        refuse_if_equal(b, INIT_PID, EPERM);
    }
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_priority(struct block *b, const struct sp_seccomp_policy *policy) {
    check_not_init(b, policy, PRIO_USER);
}

static void check_ioprio(struct block *b, const struct sp_seccomp_policy *policy) {
    check_not_init(b, policy, SP_IOPRIO_WHO_USER);
}

/* PER_LINUX, PER_LINUX32, each also with UNAME26, and the query 0xffffffff. Neither READ_IMPLIES_EXEC nor
 * ADDR_NO_RANDOMIZE. */
static void check_personality(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    static const uint32_t allowed[] = {0, 0x8, 0x20000, 0x20008, 0xffffffff};
    load_low(b, 0);
    require_one_of(b, allowed, LENGTH(allowed), EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* Answers like a kernel that does not know the flag. */
static void check_close_range(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 2);
    refuse_if_set(b, SP_CLOSE_RANGE_UNSHARE, EINVAL);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* No limit, not even memory.max, counts the host's pool of huge pages. So the pool looks empty. */
static void check_mmap(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 3);
    refuse_if_set(b, MAP_HUGETLB, ENOMEM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_memfd(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 1);
    refuse_if_set(b, SP_MFD_HUGETLB, ENOMEM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* The kernel lets processes of one group of the host (vm.hugetlb_shm_group, which is root's by default) make them. */
static void check_segment(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 2);
    refuse_if_set(b, SP_SHM_HUGETLB, ENOMEM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* sync() flushes all disks of the host, and a tenant could call it all the time. So does fsync() of a file that is only
 * shown: the kernel tells the disk to empty its cache, even if nothing was written. */
static void check_sync(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->pretend_sync) {
        refuse(b, 0);
    } else {
        emit_verdict(b, SECCOMP_RET_ALLOW);
    }
}

/* POSIX_FADV_DONTNEED would remove the host's programs and libraries from the page cache. Advice may be ignored. */
static void check_advice(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 3);
    refuse_if_equal(b, POSIX_FADV_DONTNEED, 0);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* The mark of init's own signals: the filter of its supervisor lets these pass. */
static void check_unmarked(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 2);
    refuse_if_equal(b, SP_KILL_MARK, EPERM);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void (*const write_leaf[])(struct block *, const struct sp_seccomp_policy *) = {
    [ALLOW] = allow,
    [DENY] = deny,
    [UNKNOWN] = unknown,
    [PRETEND] = pretend,
    [REFUSE_EINVAL] = refuse_einval,
    [REFUSE_EIO] = refuse_eio,
    [REFUSE_ENOTTY] = refuse_enotty,
    [REFUSE_EOPNOTSUPP] = refuse_eopnotsupp,
    [REFUSE_ENOPROTOOPT] = refuse_enoprotoopt,
    [CHECK_MODE_1] = check_mode_1,
    [CHECK_MODE_2] = check_mode_2,
    [CHECK_OPEN] = check_open,
    [CHECK_OPENAT] = check_openat,
    [REFUSE_OPENAT2] = unknown,
    [CHECK_NODE_1] = check_node_1,
    [CHECK_NODE_2] = check_node_2,
    [CHECK_NAMESPACES] = check_namespaces,
    [CHECK_THREAD] = check_thread,
    [CHECK_UNSHARE] = check_unshare,
    [CHECK_PRLIMIT] = check_prlimit,
    [CHECK_PID] = check_pid,
    [CHECK_PRIORITY] = check_priority,
    [CHECK_IOPRIO] = check_ioprio,
    [CHECK_PERSONALITY] = check_personality,
    [CHECK_SETRLIMIT] = check_setrlimit,
    [CHECK_CLOSE_RANGE] = check_close_range,
    [CHECK_MMAP] = check_mmap,
    [CHECK_MEMFD] = check_memfd,
    [CHECK_SEGMENT] = check_segment,
    [CHECK_SYNC] = check_sync,
    [CHECK_ADVICE] = check_advice,
    [CHECK_UNMARKED] = check_unmarked,
};

void sp_seccomp_write_leaf(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy) {
    if (leaf >= CHECK_LATE_PRCTL && leaf <= CHECK_HUGE_PAGES) {
        sp_seccomp_write_option(b, leaf, policy);
    } else if (leaf >= CHECK_SNDBUF && leaf <= CHECK_NAMED) {
        sp_seccomp_write_socket(b, leaf, policy);
    } else {
        write_leaf[leaf](b, policy);
    }
}
