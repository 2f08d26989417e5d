/*
 * The life of a reaper has two parts. While the thread that started it waits, the reaper may use the C library, which
 * uses that thread's own data (errno, the stack's canary). When the reaper has reported the result of the start, that
 * thread continues and may end. From then on the reaper must not touch such data, and makes only bare system calls.
 */
#include "host/linux/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "host/linux/late.h"
#include "host/sys/own.h"

#define MEMORY_SIZE (64 * 1024)
#define CHILD_STACK (MEMORY_SIZE / 2)
#define CHECK_NS SP_MS(100)
/* How often a reaper looks whether the host lives that has not released it yet, and how many times. */
#define LOOK_NS SP_MS(50)
#define LOOKS 20
/* P_PIDFD, which glibc's headers have only since 2.36. */
#define BY_PIDFD ((idtype_t)3)

/* The reaper's own descriptors. */
enum { HOST = 0, CHILDREN = 1 };

enum { STARTING, REPORTED, RELEASED };

/* At the start of a mapping of MEMORY_SIZE. The rest of it are two stacks: the reaper's at the end, and below it the
 * one that its child uses until the exec. */
struct sp_reaper {
    int pidfd; /* -1: reaped, or another part of this process has closed it */
    struct sp_identity identity;
    bool reaped;
    struct sp_late late; /* of a reaper that was freed before its end */
    /* A futex. The writer of a phase has written the other fields before, and a reader of the phase reads them after it
     * (seq_cst). */
    _Atomic uint32_t phase;
    const struct sp_start *what; /* while STARTING */
    int host;                    /* pidfd of this process, while STARTING */
    pid_t child;
    int err; /* why there is no child */
    struct pollfd polled[2];
    struct timespec look_after, no_wait;
    char signal_info[sizeof(struct signalfd_siginfo)];
};

/* For functions that must not touch a thread's data: the stack's canary is part of it, and sanitizers use it, too. */
#ifndef __has_attribute
#define __has_attribute(name) 0
#endif
#if __has_attribute(no_stack_protector)
#define NO_CANARY no_stack_protector,
#else
#define NO_CANARY
#endif
#define NO_THREAD_DATA __attribute__((NO_CANARY noinline, no_sanitize("address", "thread", "undefined")))

/* ---- the child, until its exec ---- */

/* Signals that the application ignores would stay ignored after the exec. This makes the system call itself, because a
 * sanitizer would record sigaction() as a call of this process. */
NO_THREAD_DATA static void reset_signals(void) {
    static const uint64_t by_default[4]; /* as the kernel has it: handler, flags, restorer, mask */
    const uint64_t none = 0;
    for (int signal = 1; signal <= 64; signal++) {
        (void)syscall(SYS_rt_sigaction, signal, by_default, NULL, sizeof none);
    }
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

NO_THREAD_DATA static int run_child(void *arg) {
    struct sp_reaper *r = arg;
    char *argv[] = {(char *)(uintptr_t)r->what->name, NULL};
    char *env[] = {NULL};
    reset_signals();
    (void)syscall(SYS_setsid);
    (void)syscall(SYS_execve, r->what->path, argv, env);
    r->err = errno;
    return 1;
}

/* ---- the reaper, while the thread that started it waits ---- */

/* An entry of getdents64(2). */
struct entry {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};

NO_THREAD_DATA static void close_listed(const char *entries, long size, unsigned dir, unsigned first, unsigned last) {
    for (long at = 0; at < size;) {
        const struct entry *e = (const struct entry *)(const void *)(entries + at);
        unsigned fd = 0;
        for (const char *digit = e->name; *digit >= '0' && *digit <= '9'; digit++) {
            fd = fd * 10 + (unsigned)(*digit - '0');
        }
        if (e->name[0] != '.' && fd >= first && fd <= last && fd != dir) {
            (void)syscall(SYS_close, fd);
        }
        at += e->len;
    }
}

/* Linux before 5.9 has no close_range(2), and some seccomp filters refuse it. */
NO_THREAD_DATA static bool close_between(unsigned first, unsigned last) {
    char entries[2048] __attribute__((aligned(8)));
    long size = 0;
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0) {
        return true;
    }
    (void)syscall(SYS_close, first); /* the table may be full, and the directory needs a descriptor */
    long dir = syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY, 0);
    if (dir == -1) {
        return false;
    }
    while ((size = syscall(SYS_getdents64, dir, entries, sizeof entries)) > 0) {
        close_listed(entries, size, (unsigned)dir, first, last);
    }
    (void)syscall(SYS_close, dir);
    return size == 0;
}

NO_THREAD_DATA static bool close_all_but(unsigned one, unsigned other) {
    unsigned low = one < other ? one : other;
    unsigned high = one < other ? other : one;
    return (low == 0 || close_between(0, low - 1)) && close_between(low + 1, high - 1) && close_between(high + 1, ~0u);
}

NO_THREAD_DATA static int move_to(int fd, int number) {
    return fd == number ? 0 : (int)syscall(SYS_dup3, fd, number, 0);
}

/* The reaper's descriptor table is a copy of this process's. Closes all but the reaper's own and the program's. */
NO_THREAD_DATA static bool take_descriptors(const struct sp_reaper *r) {
    const uint64_t child_signal = UINT64_C(1) << (SIGCHLD - 1);
    if (!close_all_but((unsigned)r->what->fd, (unsigned)r->host)) {
        return false;
    }
    /* First copy them to high numbers, so that none of them is overwritten below. */
    int sock = (int)syscall(SYS_fcntl, r->what->fd, F_DUPFD, r->what->number + 1);
    int host = (int)syscall(SYS_fcntl, r->host, F_DUPFD, r->what->number + 1);
    int children = (int)syscall(SYS_signalfd4, -1, &child_signal, sizeof child_signal, SFD_NONBLOCK);
    if (sock == -1 || host == -1 || children == -1 || move_to(children, CHILDREN) == -1 || move_to(host, HOST) == -1 ||
        move_to(sock, r->what->number) == -1) {
        return false;
    }
    const unsigned number = (unsigned)r->what->number;
    return close_between(CHILDREN + 1, number - 1) && close_between(number + 1, ~0u);
}

#ifdef __GLIBC__
/* Sanitizers replace clone(), but not __clone(). They would take a process that shares memory for a thread. */
extern int __clone(int (*run)(void *), void *stack, int flags, void *arg,
                   ...); /* NOLINT(bugprone-reserved-identifier) */
#define CLONE __clone
#else
#define CLONE clone
#endif

_Noreturn static void run_alone(struct sp_reaper *r);

NO_THREAD_DATA static int run_reaper(void *arg) {
    struct sp_reaper *r = arg;
    static const uint64_t by_default[4];
    (void)syscall(SYS_prctl, PR_SET_NAME, "sandpool-reaper", 0, 0, 0);
    (void)syscall(SYS_setsid);
    /* In the Landlock tier no namespace of pids ends with the zygote: what it leaves would come to the host. */
    (void)syscall(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    /* If SIGCHLD stayed ignored, the kernel would reap the children without notifying the reaper. */
    (void)syscall(SYS_rt_sigaction, SIGCHLD, by_default, NULL, sizeof by_default[0]);
    if (!take_descriptors(r)) {
        r->err = errno;
    } else {
        r->child = CLONE(run_child, (char *)r + CHILD_STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, r);
        r->err = r->child == -1 ? errno : r->err;
    }
    (void)syscall(SYS_close, r->what->number);
    run_alone(r);
}

/* ---- the reaper, with bare system calls only ---- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
static inline __attribute__((always_inline)) long bare_syscall(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result = number;
    __asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
static inline __attribute__((always_inline)) long bare_syscall(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#endif

/*
 * The reaper shares memory with a process that may give up privileges later, while the reaper keeps those that it was
 * created with. This filter takes away everything that it could do with them.
 */
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
static const struct sock_filter filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ALLOW(SYS_futex),
    ALLOW(SYS_ppoll),
    ALLOW(SYS_read),
    ALLOW(SYS_wait4),
    ALLOW(SYS_restart_syscall),
    ALLOW(SYS_exit),
    /* Another call fails, and does not kill the reaper: on some kernels a core dump ends all that share its memory. */
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};
static const struct sock_fprog filter_program = {.len = sizeof filter / sizeof filter[0],
                                                 .filter = (struct sock_filter *)(uintptr_t)filter};

/* Reaps all children that have ended. False once no child is left. */
static inline __attribute__((always_inline)) bool reap_children(void) {
    long pid = 0;
    do {
        pid = bare_syscall(SYS_wait4, -1, 0, WNOHANG | __WALL, 0, 0);
    } while (pid > 0);
    return pid == 0;
}

NO_THREAD_DATA _Noreturn static void run_alone(struct sp_reaper *r) {
    bool alive = r->err == 0;
    bool confined = bare_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                    bare_syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&filter_program, 0, 0) == 0;
    r->err = alive && !confined ? EPERM : r->err;
    r->phase = REPORTED;
    (void)bare_syscall(SYS_futex, (long)&r->phase, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0);
    for (int look = 0; alive && r->phase == REPORTED && look < LOOKS;) {
        if (bare_syscall(SYS_futex, (long)&r->phase, FUTEX_WAIT_PRIVATE, REPORTED, (long)&r->look_after, 0) ==
            -ETIMEDOUT) {
            look++;
            /* The host may have been killed before it released the reaper. */
            (void)bare_syscall(SYS_ppoll, (long)r->polled, 1, (long)&r->no_wait, 0, sizeof(uint64_t));
            look = r->polled[HOST].revents != 0 ? LOOKS : look;
        }
    }
    while (reap_children()) {
        (void)bare_syscall(SYS_ppoll, (long)r->polled, 2, 0, 0, sizeof(uint64_t));
        if (r->polled[HOST].revents != 0) {
            break;
        }
        (void)bare_syscall(SYS_read, CHILDREN, (long)r->signal_info, sizeof r->signal_info, 0, 0);
    }
    for (;;) {
        (void)bare_syscall(SYS_exit, 0, 0, 0, 0, 0);
    }
}

/* ---- this process ---- */

static bool is_dead(int pidfd) {
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Waits for the reaper's report. A reaper that is killed meanwhile sends none, so its pidfd is checked at intervals. */
static void await_report(struct sp_reaper *r) {
    const struct timespec interval = {.tv_nsec = CHECK_NS};
    while (r->phase == STARTING && !is_dead(r->pidfd)) {
        (void)syscall(SYS_futex, &r->phase, FUTEX_WAIT_PRIVATE, STARTING, &interval, NULL, 0);
    }
    if (r->phase == STARTING) {
        r->err = ECHILD;
    }
}

static int start(struct sp_reaper *r) {
    const int flags = CLONE_VM | CLONE_PIDFD; /* and no exit signal */
    const uint64_t all = UINT64_MAX;
    uint64_t before = 0;
    /* Blocks all signals, even those that the C library reserves: the reaper inherits this mask. A handler must not run
     * in the reaper, which has no thread data of its own. */
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    int rc = CLONE(run_reaper, (char *)r + MEMORY_SIZE, flags, r, &r->pidfd, NULL, NULL) == -1 ? -errno : 0;
    if (rc == 0) {
        r->identity = sp_identity_of(r->pidfd);
        await_report(r);
        rc = -r->err;
    }
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    return rc;
}

int sp_reaper_start(const struct sp_start *what, struct sp_reaper **reaper, pid_t *child) {
    sp_late_reap();
    sp_auto_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self == -1) {
        return -errno;
    }
    struct sp_reaper *r =
        mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (r == MAP_FAILED) {
        return -errno;
    }
    r->pidfd = -1;
    r->what = what;
    r->host = self;
    r->polled[HOST] = (struct pollfd){.fd = HOST, .events = POLLIN};
    r->polled[CHILDREN] = (struct pollfd){.fd = CHILDREN, .events = POLLIN};
    r->look_after.tv_nsec = LOOK_NS;
    int rc = start(r);
    r->reaped = r->pidfd == -1; /* clone failed: there is nothing to reap */
    if (rc != 0) {
        while (r->pidfd != -1 && !sp_reaper_reap(r)) {
            (void)poll(&(struct pollfd){.fd = r->pidfd, .events = POLLIN}, 1, -1);
        }
        sp_reaper_free(r);
        return rc;
    }
    *child = r->child;
    *reaper = r;
    return 0;
}

void sp_reaper_release(struct sp_reaper *r) {
    r->phase = RELEASED;
    (void)syscall(SYS_futex, &r->phase, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int sp_reaper_fd(const struct sp_reaper *r) { return r->pidfd; }

bool sp_reaper_reap(struct sp_reaper *r) {
    siginfo_t info = {0};
    if (r == NULL || r->pidfd == -1) {
        return true;
    }
    if (!sp_is_own(r->pidfd, &r->identity)) { /* the host can learn no more about the reaper */
        r->pidfd = -1;
        return true;
    }
    int rc = waitid(BY_PIDFD, (id_t)r->pidfd, &info, WEXITED | WNOHANG | __WCLONE);
    if ((rc == 0 && info.si_pid != 0) || (rc == -1 && errno == ECHILD && is_dead(r->pidfd))) {
        sp_fd_close(&r->pidfd); /* ECHILD: other code that waits with __WALL has reaped it */
        r->reaped = true;
        return true;
    }
    return false;
}

/* Frees the reaper if it has ended. */
static bool reap_late(struct sp_late *late) {
    struct sp_reaper *r = (struct sp_reaper *)(void *)((char *)late - offsetof(struct sp_reaper, late));
    if (!sp_reaper_reap(r)) {
        return false;
    }
    if (r->reaped) { /* else it may live, and use the memory */
        (void)munmap(r, MEMORY_SIZE);
    }
    return true;
}

void sp_reaper_free(struct sp_reaper *r) {
    sp_late_reap();
    if (r != NULL && !reap_late(&r->late)) {
        r->late.reap = reap_late;
        sp_late_keep(&r->late);
    }
}
