/* What a machine may lack for a test: for RUN_WITHOUT. For programs of one translation unit. */
#ifndef SANDPOOL_TESTS_LACKS_H
#define SANDPOOL_TESTS_LACKS_H

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int refusal_of_kcmp(void) { return syscall(SYS_kcmp, getpid(), getpid(), 1, 0, 0) == 0 ? 0 : 1; }

/* Tried in a child. */
static inline const char *lack_of(int (*is_refused)(void), const char *what) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(is_refused());
    }
    return waitpid(pid, &status, 0) == pid && status == 0 ? NULL : what;
}

/* By clone(2): unshare(2) refuses a process with several threads, and the thread sanitizer adds one to each child. */
static inline const char *lack_of_namespaces(void) {
    int status = -1;
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, NULL, NULL, NULL, 0);
    if (pid == 0) {
        (void)syscall(SYS_exit_group, 0);
    }
    return pid != -1 && waitpid(pid, &status, 0) == pid && status == 0 ? NULL : "this machine refuses user namespaces";
}

static inline const char *lack_of_kcmp(void) { return lack_of(refusal_of_kcmp, "this machine refuses kcmp"); }

#endif
