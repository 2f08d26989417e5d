#include "init/keeper.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "init/proc.h"
#include "init/share.h"

/* ---- the keeper ---- */

#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* The filters that it has inherited end what calls as another architecture. */
static const struct sock_filter only_sleeps[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ALLOW(SYS_ppoll),
    ALLOW(SYS_close_range),
    ALLOW(SYS_exit),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};

/*
 * Not among the variables that read as zeros at first: a tenant begins by overwriting those (stem/process.c), perhaps
 * while the keeper is on its way from one call to the next, and it would return to nowhere. Before Linux 5.16 a
 * process that crashes takes all with it that have the same memory.
 */
static char stack[8192] __attribute__((aligned(16), section(".data")));

/* It shares errno with the standby, which waits until the descriptors are closed. Nothing is there to wake it but
 * SIGKILL; a stop lets it go on with the same system call. */
static int sleep_for_ever(void *unused) {
    const struct rlimit second = {1, 1};
    const struct sock_fprog program = {sizeof only_sleeps / sizeof only_sleeps[0],
                                       (struct sock_filter *)(uintptr_t)only_sleeps};
    (void)unused;
    (void)prctl(PR_SET_NAME, "sandpool-keeper", 0, 0, 0);
    if (setrlimit(RLIMIT_CPU, &second) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0 &&
        syscall(SYS_close_range, 0u, ~0u, 0u) == 0) {
        for (;;) {
            (void)syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
        }
    }
    return 1;
}

pid_t sp_keeper_start(void) {
    char byte;
    int pair[2];
    if (sp_pipe(pair) != 0) {
        return 0;
    }
    sp_auto_fd int mine = pair[0];
    const pid_t pid = clone(sleep_for_ever, stack + sizeof stack, CLONE_VM | CLONE_PARENT | SIGCHLD, NULL);
    sp_fd_close(&pair[1]);
    (void)!read(mine, &byte, 1); /* the end of file: it has closed its descriptors, or has ended */
    return pid != -1 ? pid : 0;
}

/* ---- in init ---- */

static pid_t keeper;

void sp_keeper_take(pid_t pid) {
    keeper = pid;
    sp_proc_hide(pid);
}

void sp_keeper_reaped(pid_t pid) {
    if (pid == keeper) {
        sp_keeper_take(0);
    }
}

bool sp_keeper_lives(void) { return keeper != 0; }

void sp_keeper_stop(void) {
    if (keeper != 0) {
        (void)kill(keeper, SIGSTOP);
    }
}

void sp_keeper_kill(void) {
    if (keeper != 0) {
        (void)kill(keeper, SIGKILL);
        sp_proc_hide(0);
    }
}

void sp_keeper_look(pid_t command) {
    if (keeper != 0 && !sp_share_is_same(keeper, command)) {
        sp_keeper_kill();
    }
}

bool sp_keeper_is_alone(void) {
    struct sp_listing list;
    const char *name;
    sp_auto_fd int proc = keeper != 0 ? sp_listing_open(&list, -1, "/proc") : -1;
    if (proc == -1) {
        return false;
    }
    while ((name = sp_listing_next(&list)) != NULL) {
        const long pid = strtol(name, NULL, 10);
        if (pid > 1 && pid != keeper) {
            return false;
        }
    }
    return list.filled == 0; /* and not where the list broke off */
}

void sp_keeper_end(void) {
    if (keeper != 0) {
        sp_keeper_kill();
        (void)waitpid(keeper, NULL, 0);
        sp_keeper_take(0);
    }
}
