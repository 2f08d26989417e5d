#include "init/adopt.h"

#include <errno.h>
#include <limits.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_FOR_PIDFD 3 /* P_PIDFD, which older headers lack */

/* waitid(2) fails for a process that is no child of the caller, so init never reports on, or kills, one of those. */
static int is_child(int pidfd) {
    siginfo_t info;
    return syscall(SYS_waitid, WAIT_FOR_PIDFD, pidfd, &info, WEXITED | WNOHANG | WNOWAIT, NULL) == 0;
}

pid_t sp_adopt(int pidfd, uint32_t pid) { return is_child(pidfd) && pid > 1 && pid <= INT_MAX ? (pid_t)pid : -ESRCH; }
