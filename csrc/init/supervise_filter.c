/* The three filters of the supervisor: what is handed over to it, what is refused without it, and what it may do. */
#include "init/supervise_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/kernel_linux.h"
#include "common/kill_mark.h"
#include "init/supervise_call.h"

/* The headers of the building machine may be older. */
#define NEW_LISTENER (1u << 3)
#define WAIT_KILLABLE_RECV (1u << 5) /* since 5.19: a signal does not interrupt a call that is being performed */
#define NR_SETXATTRAT 463
#define NR_REMOVEXATTRAT 466
#define NR_FILE_SETATTR 469

#define MAX 96

struct program {
    struct sock_filter insns[MAX];
    unsigned short len;
};

static void emit(struct program *p, struct sock_filter insn) {
    if (p->len < MAX) {
        p->insns[p->len] = insn;
    }
    p->len++;
}

static void begin(struct program *p) {
    p->len = 0;
    emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
}

static void answer(struct program *p, uint32_t nr, uint32_t verdict) {
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1));
    emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict));
}

static int install(struct program *p, uint32_t last, unsigned flags) {
    emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, last));
    const struct sock_fprog program = {p->len, p->insns};
    if (p->len > MAX) {
        return -E2BIG;
    }
    long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return rc >= 0 ? (int)rc : -errno;
}

/* The low half of an argument, which is an int. */
static void load_arg(struct program *p, unsigned arg) {
    const uint32_t offset = offsetof(struct seccomp_data, args) + 8 * arg;
    emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

/* Signals: kill(0, ...), which goes to the group of all tenants, and those that init sends pass at once. */
static void fill_signals(struct program *p, uint32_t verdict) {
    for (unsigned i = 1; i < SP_SIGNAL_CALLS; i++) {
        answer(p, sp_signal_calls[i], verdict);
    }
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sp_signal_calls[0], 0, 7));
    load_arg(p, 0);
    answer(p, 0, SECCOMP_RET_ALLOW);
    load_arg(p, 2);
    answer(p, SP_KILL_MARK, SECCOMP_RET_ALLOW);
    emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict));
}

/* What changes a file beside contents and names, with a verdict for the calls that the supervisor knows. Attributes are
 * refused as by a file system without them, and calls that are newer than these as by a kernel without them. */
static void fill(struct program *p, uint32_t verdict, bool signals) {
    static const uint16_t attributes[] = {SYS_setxattr,    SYS_lsetxattr,    SYS_fsetxattr,
                                          SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr};
    static const uint16_t unknown[] = {NR_SETXATTRAT, NR_REMOVEXATTRAT, NR_FILE_SETATTR};
    begin(p);
    for (unsigned i = 0; i < sp_call_forms_count; i++) {
        answer(p, sp_call_forms[i].nr, verdict);
    }
    for (unsigned i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        answer(p, attributes[i], SECCOMP_RET_ERRNO | EOPNOTSUPP);
    }
    for (unsigned i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        answer(p, unknown[i], SECCOMP_RET_ERRNO | ENOSYS);
    }
    if (signals) {
        fill_signals(p, verdict);
    }
}

int sp_supervised_filter(bool signals) {
    struct program p;
    fill(&p, SECCOMP_RET_USER_NOTIF, signals);
    int rc = install(&p, SECCOMP_RET_ALLOW, NEW_LISTENER | WAIT_KILLABLE_RECV);
    if (rc == -EINVAL) {
        p.len--;
        rc = install(&p, SECCOMP_RET_ALLOW, NEW_LISTENER);
    }
    return rc;
}

int sp_refused_filter(bool signals) {
    struct program p;
    fill(&p, SECCOMP_RET_ERRNO | EPERM, signals);
    return install(&p, SECCOMP_RET_ALLOW, 0);
}

int sp_supervisor_filter(void) {
    static const uint16_t needed[] = {
        SYS_ioctl,           SYS_openat,
        SYS_openat2,         SYS_readlinkat,
        SYS_pread64,         SYS_close,
        SYS_fcntl,           SYS_fstat,
        SYS_statx,           SYS_fchmodat,
        SYS_fchownat,        SYS_utimensat,
        SYS_geteuid,         SYS_getegid,
        SYS_futex,           SYS_exit,
        SYS_exit_group,      SYS_rt_sigreturn,
        SYS_restart_syscall, SYS_newfstatat,
        SYS_pidfd_open,      SYS_pidfd_send_signal,
        SYS_getpgid,         SYS_getpid,
    };
    struct program p;
    begin(&p);
    for (unsigned i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        answer(&p, needed[i], SECCOMP_RET_ALLOW);
    }
    return install(&p, SECCOMP_RET_ERRNO | EPERM, 0);
}
