/* sources: csrc/init/adopt.c */
/* Whether a pidfd is that of a child of the calling process: the kernel says so. */
#include "init/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static pid_t start_child(void) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    return pid;
}

static void only_a_child_that_is_not_reaped_is_adopted(void) {
    pid_t pid = start_child();
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK(pidfd != -1 && sp_adopt(pidfd, (uint32_t)pid) == pid);
    CHECK(kill(pid, SIGKILL) == 0 && waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOWAIT) == 0);
    CHECK(sp_adopt(pidfd, (uint32_t)pid) == pid); /* dead, and its end is still to be reported */
    CHECK(waitpid(pid, NULL, 0) == pid && sp_adopt(pidfd, (uint32_t)pid) == -ESRCH);
    (void)close(pidfd);
}

/* 0 is the caller's own group for kill(2), 1 is init itself, and more than INT_MAX would be a group or all. */
static void no_number_that_is_not_a_tenants_is_taken(void) {
    static const uint32_t numbers[] = {0, 1, (uint32_t)INT_MAX + 1, UINT32_MAX};
    pid_t pid = start_child();
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        CHECK(sp_adopt(pidfd, numbers[i]) == -ESRCH);
    }
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    (void)close(pidfd);
}

static void no_other_process_is_adopted(void) {
    int parent = (int)syscall(SYS_pidfd_open, getppid(), 0);
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int none = open("/dev/null", O_RDONLY);
    CHECK(sp_adopt(parent, 2) == -ESRCH && sp_adopt(self, 2) == -ESRCH);
    CHECK(sp_adopt(none, 2) == -ESRCH && sp_adopt(-1, 2) == -ESRCH);
    (void)close(parent);
    (void)close(self);
    (void)close(none);
}

static void a_child_of_a_child_is_not_adopted(void) {
    int pair[2];
    pid_t inner = 0;
    CHECK(pipe(pair) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        inner = start_child();
        (void)!write(pair[1], &inner, sizeof inner);
        (void)pause();
        _exit(0);
    }
    CHECK(read(pair[0], &inner, sizeof inner) == (ssize_t)sizeof inner);
    int pidfd = (int)syscall(SYS_pidfd_open, inner, 0);
    CHECK(pidfd != -1 && sp_adopt(pidfd, (uint32_t)inner) == -ESRCH);
    CHECK(kill(inner, SIGKILL) == 0 && kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    (void)close(pidfd);
}

int main(void) {
    check_deadline(30);
    RUN(only_a_child_that_is_not_reaped_is_adopted);
    RUN(no_number_that_is_not_a_tenants_is_taken);
    RUN(no_other_process_is_adopted);
    RUN(a_child_of_a_child_is_not_adopted);
    return check_report();
}
