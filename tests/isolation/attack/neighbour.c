/* A process of the tenant that lives while init starts another one: it looks for that one before its exec. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "probe.h"

#define STARTING "sandpool-init\n" /* the name that a child of init has until its exec */
#define BEHIND 8
#define AHEAD 2
#define HUNT_SECONDS 3

/* The control's init: its children are as open to their owner as a process can be, and hesitate before their exec. */
static void starter(char **args) {
    (void)args;
    const struct timespec pause = {.tv_nsec = 300000};
    (void)signal(SIGCHLD, SIG_IGN);
    (void)prctl(PR_SET_NAME, "sandpool-init", 0, 0, 0);
    (void)fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3); /* to be found; init has its control socket */
    for (;;) {
        if (fork() == 0) {
            (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
            (void)nanosleep(&pause, NULL);
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        (void)nanosleep(&pause, NULL);
    }
}

static bool is_starting(pid_t pid) {
    char name[64];
    char comm[32] = "";
    snprintf(name, sizeof name, "/proc/%d/comm", pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, comm, sizeof comm - 1);
    close(fd);
    return n > 0 && strcmp(comm, STARTING) == 0;
}

static int open_of(pid_t pid, const char *what, int flags) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/%s", pid, what);
    return open(name, flags | O_CLOEXEC);
}

/* Those that an exec closes. Within the exec, between that and the new name, the process may be looked into. */
static long take_descriptors(pid_t pid) {
    int fd = open_of(pid, "fd", O_RDONLY | O_DIRECTORY);
    DIR *dir = fd != -1 ? fdopendir(dup(fd)) : NULL;
    bool found = false;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        found = found || atoi(entry->d_name) > 2;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    if (!found) {
        close(fd);
    }
    return found ? fd : -1;
}
static long take_memory(pid_t pid) { return open_of(pid, "mem", O_RDWR); }
static long trace(pid_t pid) {
    long rc = ptrace(PTRACE_SEIZE, pid, 0, 0);
    (void)ptrace(PTRACE_DETACH, pid, 0,
                 0); /* it has not stopped, and this fails; the end of this process detaches it */
    return rc;
}

/* The number that was given out last, in the pid namespace of the reader: proc_loadavg(5). Where a sandbox shows no
 * such file, the numbers of those that the hunter starts itself. */
static pid_t newest(int loadavg) {
    char text[128] = "";
    if (loadavg != -1 && pread(loadavg, text, sizeof text - 1, 0) > 0 && strrchr(text, ' ') != NULL) {
        return atoi(strrchr(text, ' '));
    }
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
    return pid;
}

static void hunt(pid_t parent, const char *what, long (*attack)(pid_t)) {
    time_t until = time(NULL) + HUNT_SECONDS;
    int loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    int met = 0;
    while (time(NULL) < until) {
        pid_t last = newest(loadavg);
        for (pid_t pid = last - BEHIND; pid <= last + AHEAD; pid++) {
            bool was = pid != parent && pid != getpid() && is_starting(pid);
            long got = was ? attack(pid) : -1;
            met += was;
            if (got != -1 && is_starting(pid)) {
                reached("%s of a process that has not execed", what);
            }
            if (got > 2) {
                close((int)got);
            }
        }
    }
    if (met == 0) {
        printf("ERROR no process was met before its exec\n");
        fflush(stdout);
        _exit(1);
    }
    held("%s of %d that had not execed", what, met);
}

/* Its standard input is a file that was opened for reading. */
static void reopen(char **args) {
    (void)args;
    JUDGE("opened for writing", open("/proc/self/fd/0", O_WRONLY));
}

/* The file may be written by whoever opens it, but was opened for reading. */
static void empty(char **args) {
    (void)args;
    JUDGE("emptied", truncate("/proc/self/fd/0", 0));
}

/* Its standard input is a file of the host's user, and an ordinary user's tenants have the user's id. */
static void set_bits(char **args) {
    (void)args;
    if (fchmod(STDIN_FILENO, 04755) == 0 || chmod("/proc/self/fd/0", 04755) == 0) {
        reached("a setuid program of the host's user");
    }
    held("fchmod: %s", strerror(errno));
}

static void hunt_descriptors(char **args) { hunt(atoi(args[0]), "the descriptors", take_descriptors); }
static void hunt_memory(char **args) { hunt(atoi(args[0]), "the memory", take_memory); }
static void hunt_trace(char **args) { hunt(atoi(args[0]), "a trace", trace); }

PROBES({"starter", starter}, {"descriptors", hunt_descriptors}, {"memory", hunt_memory}, {"trace", hunt_trace},
       {"reopen", reopen}, {"set-bits", set_bits}, {"empty", empty})
