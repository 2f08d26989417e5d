/* What a tenant can do by filters of its own, and by stopping a process that it traces. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "hoard.h"

#define LISTENER 8 /* SECCOMP_FILTER_FLAG_NEW_LISTENER */

static struct sock_filter insns[4096];

/* A number of instructions that the kernel cannot shorten, then the verdict. */
static struct sock_fprog program(unsigned short n, unsigned verdict) {
    for (unsigned i = 0; i < n; i++) {
        insns[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    }
    insns[n - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (struct sock_fprog){n, insns};
}

static long install(unsigned short n, unsigned verdict, unsigned flags) {
    struct sock_fprog filter = program(n, verdict);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
}

/* A listener is a descriptor that keeps the filters below it; and LOG makes a record of each of their verdicts. */
static void flags(char **args) { JUDGE("a filter with flags", install(2, SECCOMP_RET_ALLOW, (unsigned)atoi(args[0]))); }

/* Every call is a record of the audit trail from here on. */
static void log_all(char **args) {
    (void)args;
    JUDGE("a filter that answers LOG", install(2, SECCOMP_RET_LOG, 0));
}

static void many(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    for (; n < wanted && install(1, SECCOMP_RET_ALLOW, 0) == 0; n++) {
    }
    count("filters of one task", n, wanted);
}

/* All that a process may have, in the name of one that is gone. */
static void of_the_dead(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    for (bool kept = true; kept && n < wanted; n += kept) {
        int status = -1;
        pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) {
            install(4096, SECCOMP_RET_ALLOW, 0);
            _exit(install(4096, SECCOMP_RET_ALLOW, LISTENER) == -1);
        }
        waitpid(pid, &status, 0);
        kept = status == 0;
    }
    count("filters of processes that are gone", n, wanted);
}

/* The same memory, for each end of a pair. */
static void on_sockets(char **args) {
    struct sock_fprog filter = program((unsigned short)atoi(args[0]), 0xffff);
    int pair[2];
    JUDGE("a filter on a socket", socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == -1
                                      ? -1
                                      : setsockopt(pair[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
}

/* Of a child only, which is let go when this ends: two that did it to each other would never end. */
static void stop_at_exit(char **args) {
    bool seize = strcmp(args[0], "seize") == 0;
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    long rc = ptrace(seize ? PTRACE_SEIZE : PTRACE_ATTACH, child, NULL, seize ? (void *)PTRACE_O_TRACEEXIT : NULL);
    if (rc == 0 && !seize) {
        waitpid(child, NULL, 0);
        rc = ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(strtoul(args[1], NULL, 0) | PTRACE_O_TRACEEXIT));
    }
    int why = errno;
    kill(child, SIGKILL);
    errno = why;
    JUDGE("PTRACE_O_TRACEEXIT", rc);
}

PROBES({"flags", flags}, {"log", log_all}, {"many", many}, {"of-the-dead", of_the_dead}, {"on-sockets", on_sockets},
       {"stop-at-exit", stop_at_exit})
