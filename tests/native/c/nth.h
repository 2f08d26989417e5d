/*
 * Each system call of an action refused in turn: the first of its kind, then the second, and so on, as
 * tests/faults/test_refused_calls.py does it with whole sandboxes. For programs of one translation unit.
 */
#ifndef SANDPOOL_TESTS_NTH_H
#define SANDPOOL_TESTS_NTH_H

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "machine.h"

#define NTH_NAMES 4

/* Which of the older calls a C library makes instead, where the machine has them. */
static inline unsigned names_of(long call, uint32_t names[NTH_NAMES]) {
    unsigned n = 0;
    names[n++] = (uint32_t)call;
    switch (call) {
    case SYS_newfstatat:
        names[n++] = SYS_fstat;
#ifdef SYS_stat
        names[n++] = SYS_stat;
        names[n++] = SYS_lstat;
#endif
        break;
#ifdef SYS_open
    case SYS_openat:
        names[n++] = SYS_open;
        break;
    case SYS_mkdirat:
        names[n++] = SYS_mkdir;
        break;
    case SYS_symlinkat:
        names[n++] = SYS_symlink;
        break;
    case SYS_readlinkat:
        names[n++] = SYS_readlink;
        break;
    case SYS_dup3:
        names[n++] = SYS_dup2;
        break;
    case SYS_prlimit64:
        names[n++] = SYS_getrlimit;
        names[n++] = SYS_setrlimit;
        break;
    case SYS_fchmodat:
        names[n++] = SYS_chmod;
        break;
#endif
    default:
        break;
    }
    return n;
}

struct nth {
    sem_t installed;
    int listener;
    unsigned n; /* which call is refused */
    int err;
    _Atomic unsigned calls; /* so far */
};

static struct nth *the_nth; /* shared with the process that answers */

/* A process that shares the descriptors, so that it has the listener, and nothing else: neither namespaces nor root. */
static inline void answer_calls(void) {
    struct nth *nth = the_nth;
    struct seccomp_notif call;
    while (sem_wait(&nth->installed) != 0) {
    }
    for (;;) {
        memset(&call, 0, sizeof call);
        if (ioctl(nth->listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
            if (errno == EINTR) {
                continue;
            }
            _exit(0); /* nobody is left */
        }
        const bool refused = atomic_fetch_add(&nth->calls, 1) + 1 == nth->n;
        struct seccomp_notif_resp answer = {
            .id = call.id,
            .error = refused ? -nth->err : 0,
            .flags = refused ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE,
        };
        (void)ioctl(nth->listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

/* From now on the n-th such call of this process, and of those that it starts, fails with `err`. */
static inline void refuse_nth(long call, int err, unsigned n) {
    uint32_t names[NTH_NAMES];
    const unsigned n_names = names_of(call, names);
    struct sock_filter filter[NTH_NAMES + 3];
    unsigned len = 0;
    filter[len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < n_names; i++) { /* a jump over those that follow, and over the ALLOW */
        filter[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, names[i], (uint8_t)(n_names - i), 0);
    }
    filter[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    const struct sock_fprog program = {.len = (unsigned short)len, .filter = filter};
    the_nth = mmap(NULL, sizeof *the_nth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(the_nth != MAP_FAILED && sem_init(&the_nth->installed, 1, 0) == 0);
    the_nth->n = n;
    the_nth->err = err;
    const pid_t parent = getpid();
    if (syscall(SYS_clone, CLONE_FILES, NULL, NULL, NULL, 0L) == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            answer_calls();
        }
        _exit(0);
    }
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    the_nth->listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    CHECK(the_nth->listener != -1 && sem_post(&the_nth->installed) == 0);
}

/* Without /proc, which an action may have left behind. */
static inline unsigned count_low_fds(void) {
    unsigned n = 0;
    for (int fd = 0; fd < 128; fd++) {
        n += fcntl(fd, F_GETFD) != -1;
    }
    return n;
}

struct sweep {
    void (*prepare)(void); /* what comes before the calls that are refused */
    int (*act)(void);      /* 0, or -errno; CHECKs that all is there if it succeeds, and what it reports if not */
    unsigned most;         /* so many calls of a kind are refused; 0: all */
    unsigned keeps;        /* descriptors that the action may leave open where it succeeds */
    int err;               /* what the calls fail with, and what the action returns then */
    int other[2];          /* other ones that it may return; 0: none */
    bool ends;             /* after a failure the process ends, and what it has open with it */
};

static const struct sweep *the_sweep;
static long the_call;
static unsigned the_number;
enum { NTH_FAILED, NTH_HARMLESS, NTH_NO_CALL, NTH_BROKEN };

static inline void act_once(void) {
    the_sweep->prepare();
    refuse_nth(the_call, the_sweep->err, the_number);
    const unsigned fds = count_low_fds();
    const int rc = the_sweep->act();
    const bool was_refused = atomic_load(&the_nth->calls) >= the_number;
    CHECK(rc == 0 || rc == -the_sweep->err || rc == -the_sweep->other[0] || rc == -the_sweep->other[1]);
    CHECK(rc == 0 || was_refused);
    CHECK((rc != 0 && the_sweep->ends) || count_low_fds() - fds <= (rc == 0 ? the_sweep->keeps : 0));
    _exit(atomic_load(&check_failures) != 0 ? NTH_BROKEN : !was_refused ? NTH_NO_CALL : rc == 0 ? NTH_HARMLESS : 0);
}

/* How many of these calls the action cannot do without. It must fail by each of them, or be as good without it. */
static inline unsigned count_fatal(const struct sweep *sweep, long call) {
    unsigned fatal = 0;
    int outcome = NTH_FAILED;
    the_sweep = sweep;
    the_call = call;
    const unsigned most = sweep->most != 0 ? sweep->most : 500;
    for (the_number = 1; the_number <= most && outcome != NTH_NO_CALL; the_number++) {
        const int status = in_child(act_once, 20);
        outcome = WIFEXITED(status) ? WEXITSTATUS(status) : NTH_BROKEN;
        fatal += outcome == NTH_FAILED;
        if (outcome == NTH_BROKEN) {
            (void)fprintf(stderr, "with call %ld refused for the %uth time: status %#x\n", call, the_number,
                          (unsigned)status);
            CHECK(!"the action is as it should be");
            break;
        }
    }
    CHECK(the_number > 2); /* control: there is such a call */
    return fatal;
}

#endif
