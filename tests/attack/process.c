/* Processes: init, other sandboxes and the host's, by signal, trace, memory, limit and priority. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
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

static char state_of(const char *pid) {
    char name[64];
    char text[512] = "";
    snprintf(name, sizeof name, "/proc/%s/stat", pid);
    int fd = open(name, O_RDONLY);
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

static void set_limit(char **args) {
    struct rlimit limit;
    pid_t pid = atoi(args[0]);
    if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) != 0) {
        held("prlimit: %s", strerror(errno));
    }
    limit.rlim_cur = limit.rlim_cur / 2;
    JUDGE("another limit", prlimit(pid, RLIMIT_NOFILE, &limit, NULL));
}

static void renice(char **args) { JUDGE("nice 19", setpriority(PRIO_PROCESS, (id_t)atoi(args[0]), 19)); }

static void idle_class(char **args) {
    struct sched_param none = {0};
    JUDGE("SCHED_IDLE", sched_setscheduler(atoi(args[0]), SCHED_IDLE, &none));
}

/* Leaves a child in a session of its own that writes a byte every 20 ms for 3 s. */
static void leave_daemon(char **args) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            int fd = open(args[0], O_CREAT | O_WRONLY | O_APPEND, 0666);
            for (int i = 0; i < 150; i++) {
                (void)!write(fd, "x", 1);
                usleep(20000);
            }
        }
        _exit(0);
    }
    wait(NULL);
    usleep(100000);
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

PROBES({"bystander", bystander}, {"attach", attach}, {"read-memory", read_memory}, {"mem", memory_file},
       {"exe", executable}, {"fd", descriptors}, {"oom-score", oom_score}, {"maps", maps}, {"steal-fd", steal_fd},
       {"signals", send_signals}, {"exists", exists}, {"prlimit", set_limit}, {"renice", renice},
       {"idle-class", idle_class}, {"daemon", leave_daemon}, {"trace-me", trace_me})
