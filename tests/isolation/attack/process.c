/* Processes: init, other sandboxes and the host's, by signal, trace, memory, limit and priority. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "probe.h"

/* The control's victim: as open to its owner as a process can be. */
static void bystander(char **args) {
    (void)args;
    alarm(120);
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    for (;;) {
        pause();
    }
}

static void attach(char **args) {
    pid_t pid = atoi(args[0]);
    long rc = ptrace(PTRACE_SEIZE, pid, 0, 0);
    JUDGE("traced", rc);
}

static void read_memory(char **args) {
    char byte;
    struct iovec local = {&byte, 1};
    struct iovec remote = {(void *)0x400000, 1}; /* where static programs start; a wrong place is EFAULT, not EPERM */
    ssize_t n = process_vm_readv(atoi(args[0]), &local, 1, &remote, 1, 0);
    if (n == 1 || errno == EFAULT) {
        reached("process_vm_readv");
    }
    held("process_vm_readv: %s", strerror(errno));
}

/* Of the other end of a connection, whoever that is: SO_PEERPIDFD. */
static void peer(char **args) {
    int pair[2];
    int found = -1;
    socklen_t len = sizeof found;
    (void)args;
    JUDGE("a pidfd of the peer",
          socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 ? -1 : getsockopt(pair[0], SOL_SOCKET, 77, &found, &len));
}

/* Of each sender of a message: SO_PASSPIDFD. */
static void sender(char **args) {
    int pair[2];
    int one = 1;
    (void)args;
    JUDGE("pidfds of senders",
          socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 ? -1 : setsockopt(pair[0], SOL_SOCKET, 76, &one, sizeof one));
}

/* KCMP_VM is 1. */
static void compare_memory(char **args) {
    JUDGE("an order of addresses", syscall(SYS_kcmp, getpid(), atoi(args[0]), 1, 0, 0));
}

static void open_of(const char *pid, const char *what, int flags) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%s/%s", pid, what);
    JUDGE(name, open(name, flags));
}
static void memory_file(char **args) { open_of(args[0], "mem", O_RDWR); }
static void executable(char **args) { open_of(args[0], "exe", O_RDONLY); }
static void descriptors(char **args) { open_of(args[0], "fd", O_RDONLY | O_DIRECTORY); }
static void oom_score(char **args) { open_of(args[0], "oom_score_adj", O_WRONLY); }
static void maps(char **args) { open_of(args[0], "maps", O_RDONLY); }

static void steal_fd(char **args) {
    int pidfd = (int)syscall(SYS_pidfd_open, atoi(args[0]), 0);
    for (int fd = 0; pidfd != -1 && fd < 8; fd++) {
        if (syscall(SYS_pidfd_getfd, pidfd, fd, 0) != -1) {
            reached("fd %d", fd);
        }
    }
    held("pidfd_getfd: %s", strerror(errno));
}

/* Without a /proc: 'X' for a process that has ended, '?' for one that has not. */
static char state_unseen(const char *pid) {
    struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, atoi(pid), 0), .events = POLLIN};
    char state = p.fd == -1 || poll(&p, 1, 0) > 0 ? 'X' : '?';
    close(p.fd);
    return state;
}

static char state_of(const char *pid) {
    char name[64];
    char text[512] = "";
    snprintf(name, sizeof name, "/proc/%s/stat", pid);
    int fd = open(name, O_RDONLY);
    if (fd == -1 && errno == EACCES) {
        return state_unseen(pid);
    }
    ssize_t n = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
    char *end = n > 0 ? strrchr(text, ')') : NULL;
    close(fd);
    return end != NULL ? end[2] : '-';
}

/* Stops it and looks; ends it and looks. */
static void send_signals(char **args) {
    static const int signals[] = {SIGSTOP, SIGTSTP, SIGHUP, SIGTERM, SIGSEGV, SIGKILL};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        if (kill(atoi(args[0]), signals[i]) == -1) {
            held("kill: %s", strerror(errno));
        }
        usleep(20000);
        char state = state_of(args[0]);
        if (state == 'T' || state == 'Z' || state == '-' || state == 'X') {
            reached("signal %d: state %c", signals[i], state);
        }
    }
    held("alive and running after all of them");
}

static void exists(char **args) { JUDGE("a process with that number", kill(atoi(args[0]), 0)); }

static void number_used(char **args) { JUDGE("a process with that number", syscall(SYS_pidfd_open, atoi(args[0]), 0)); }

static void session_of(char **args) { JUDGE("its session", getsid(atoi(args[0]))); }

static void set_limit(char **args) {
    struct rlimit limit;
    pid_t pid = atoi(args[0]);
    if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) != 0) {
        held("prlimit: %s", strerror(errno));
    }
    limit.rlim_cur = limit.rlim_cur / 2;
    JUDGE("another limit", prlimit(pid, RLIMIT_NOFILE, &limit, NULL));
}

/* As init's child that has not execed is one of this user. */
static void set_limit_of_child(char **args) {
    (void)args;
    const struct rlimit none = {0, 0};
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    int rc = prlimit(pid, RLIMIT_NOFILE, &none, NULL);
    int why = errno;
    kill(pid, SIGKILL);
    errno = why;
    JUDGE("no descriptors for another process", rc);
}

static void write_of(char **args) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%s/%s", args[0], args[1]);
    int fd = open(name, O_WRONLY);
    JUDGE(name, fd == -1 ? -1 : write(fd, args[2], strlen(args[2])));
}

static void renice(char **args) { JUDGE("nice 19", setpriority(PRIO_PROCESS, (id_t)atoi(args[0]), 19)); }
static void renice_group(char **args) { JUDGE("nice 19", setpriority(PRIO_PGRP, (id_t)atoi(args[0]), 19)); }

/* Of every process of this user that it sees: pid 1 is the probe itself on the control, alone in a pid namespace. */
static void renice_user(char **args) {
    pid_t pid = atoi(args[0]);
    int before = getpriority(PRIO_PROCESS, (id_t)pid);
    int rc = setpriority(PRIO_USER, 0, before + 1);
    int why = errno;
    if (getpriority(PRIO_PROCESS, (id_t)pid) != before) {
        reached("nice %d", before + 1);
    }
    held("setpriority: %d, %s", rc, strerror(why));
}

enum { IO_OF_PROCESS = 1, IO_OF_GROUP, IO_OF_USER, IO_IDLE = 3 << 13 };
static void io_idle(char **args) {
    JUDGE("idle class", syscall(SYS_ioprio_set, IO_OF_PROCESS, atoi(args[0]), IO_IDLE));
}
static void io_idle_user(char **args) {
    pid_t pid = atoi(args[0]);
    long before = syscall(SYS_ioprio_get, IO_OF_PROCESS, pid);
    int rc = (int)syscall(SYS_ioprio_set, IO_OF_USER, getuid(), IO_IDLE);
    int why = errno;
    if (syscall(SYS_ioprio_get, IO_OF_PROCESS, pid) != before) {
        reached("idle class");
    }
    held("ioprio_set: %d, %s", rc, strerror(why));
}

static void idle_class(char **args) {
    struct sched_param none = {0};
    JUDGE("SCHED_IDLE", sched_setscheduler(atoi(args[0]), SCHED_IDLE, &none));
}
static void idle_class_attr(char **args) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t deadline[3];
    } attr = {.size = 48, .policy = SCHED_IDLE};
    JUDGE("SCHED_IDLE", syscall(SYS_sched_setattr, atoi(args[0]), &attr, 0));
}
static void parameter(char **args) {
    struct sched_param none = {0};
    JUDGE("parameters", sched_setparam(atoi(args[0]), &none));
}

/* The kernel reads the pid as an int: what lies above it must not hide it. */
static void one_cpu(char **args) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    long pid = atol(args[0]) | (long)0xdead00000000;
    JUDGE("bound to one cpu", syscall(SYS_sched_setaffinity, pid, sizeof one, &one));
}

/* The kernel itself sends SIGIO, or whatever F_SETSIG names, to the owner of a file. */
static void sigio(char **args) {
    static const int signals[] = {SIGSTOP, SIGKILL};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        int fds[2];
        if (pipe(fds) != 0 || fcntl(fds[0], F_SETOWN, atoi(args[0])) != 0 || fcntl(fds[0], F_SETSIG, signals[i]) != 0 ||
            fcntl(fds[0], F_SETFL, O_ASYNC) != 0 || write(fds[1], "x", 1) != 1) {
            held("no signal from a pipe: %s", strerror(errno));
        }
        usleep(20000);
        char state = state_of(args[0]);
        if (state == 'T' || state == 'Z' || state == '-' || state == 'X') {
            reached("signal %d: state %c", signals[i], state);
        }
    }
    held("alive and running after all of them");
}

/*
 * Keeps one signal of each kind pending that is stale: of a standard signal the kernel drops a second one. With the
 * code and the sender that the host's have inside.
 */
static void drown_signals(char **args) {
    pid_t pid = atoi(args[0]);
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGCHLD};
    (void)fork();
    (void)fork();
    for (unsigned i = 0;; i++) {
        siginfo_t info = {.si_signo = signals[i % 3], .si_code = SI_QUEUE};
        info.si_value.sival_int = 0x7ffffff0;
        syscall(SYS_rt_sigqueueinfo, pid, info.si_signo, &info);
    }
}

/* By every call that sends one, and with the codes of the kernel's own signals. */
static void forged_signals(char **args) {
    pid_t pid = atoi(args[0]);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    static const int codes[] = {SI_QUEUE, SI_KERNEL, SI_TKILL, SI_USER};
    static const int signals[] = {SIGSTOP, SIGKILL};
    for (int i = 0; i < 8; i++) {
        siginfo_t info = {.si_signo = signals[i % 2], .si_code = codes[i / 2]};
        bool sent = syscall(SYS_rt_sigqueueinfo, pid, info.si_signo, &info) == 0;
        sent = syscall(SYS_rt_tgsigqueueinfo, pid, pid, info.si_signo, &info) == 0 || sent;
        sent = syscall(SYS_pidfd_send_signal, pidfd, info.si_signo, &info, 0) == 0 || sent;
        sent = syscall(SYS_pidfd_send_signal, pidfd, info.si_signo, NULL, 0) == 0 || sent;
        sent = syscall(SYS_tgkill, pid, pid, info.si_signo) == 0 || sent;
        sent = syscall(SYS_tkill, pid, info.si_signo) == 0 || sent;
        usleep(10000);
        char state = state_of(args[0]);
        if ((state == '?' && sent) || state == 'T' || state == 'Z' || state == '-' || state == 'X') {
            reached("signal %d: state %c", info.si_signo, state);
        }
    }
    held("alive and running after all of them");
}

/* Leaves a child in a session of its own that writes a byte every 20 ms for 10 s, and has begun with it. */
static void leave_daemon(char **args) {
    int begun[2];
    char byte;
    if (pipe(begun) == 0 && fork() == 0) {
        setsid();
        if (fork() == 0) {
            int fd = open(args[0], O_CREAT | O_WRONLY | O_APPEND, 0666);
            for (int i = 0; i < 500; i++) {
                (void)!write(i == 1 ? begun[1] : fd, "x", 1);
                usleep(20000);
            }
        }
        _exit(0);
    }
    close(begun[1]);
    (void)!read(begun[0], &byte, 1);
    wait(NULL);
    _exit(0);
}

/* The parent becomes the tracer unasked; then a wait() of its own hears of stops that are no exits. */
static void trace_me(char **args) {
    (void)args;
    pid_t parent = getppid();
    if (fork() == 0) {
        usleep(50000);
        kill(parent, SIGCHLD);
        usleep(50000);
        kill(parent, SIGCHLD);
        _exit(0);
    }
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) {
        _exit(1);
    }
    raise(SIGUSR1);
    _exit(0);
}

PROBES({"bystander", bystander}, {"peer", peer}, {"sender", sender}, {"attach", attach}, {"read-memory", read_memory},
       {"compare-memory", compare_memory}, {"mem", memory_file}, {"exe", executable}, {"fd", descriptors},
       {"oom-score", oom_score}, {"maps", maps}, {"steal-fd", steal_fd}, {"signals", send_signals}, {"exists", exists},
       {"number-used", number_used}, {"session-of", session_of}, {"prlimit", set_limit},
       {"prlimit-child", set_limit_of_child}, {"write-of", write_of}, {"renice", renice},
       {"renice-group", renice_group}, {"renice-user", renice_user}, {"io-idle", io_idle},
       {"io-idle-user", io_idle_user}, {"idle-class", idle_class}, {"idle-class-attr", idle_class_attr},
       {"parameter", parameter}, {"one-cpu", one_cpu}, {"sigio", sigio}, {"forged-signals", forged_signals},
       {"drown-signals", drown_signals}, {"daemon", leave_daemon}, {"trace-me", trace_me})
