#include "init/adopt.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/proc.h"

#define WAIT_FOR_PIDFD 3 /* P_PIDFD, which older headers lack */

/* waitid(2) fails for a process that is no child of the caller, so init never reports on, or kills, one of those. */
static int is_child(int pidfd) {
    siginfo_t info;
    return syscall(SYS_waitid, WAIT_FOR_PIDFD, pidfd, &info, WEXITED | WNOHANG | WNOWAIT, NULL) == 0;
}

pid_t sp_adopt(int pidfd) {
    char name[64];
    char text[1024];
    uint64_t pid = 0;
    (void)snprintf(name, sizeof name, "/proc/self/fdinfo/%d", pidfd);
    if (!is_child(pidfd) || !sp_read_text(-1, name, text, sizeof text) || !sp_find_number(text, "\nPid:", &pid) ||
        pid <= 1 || pid > INT_MAX) {
        return -ESRCH;
    }
    return (pid_t)pid;
}
