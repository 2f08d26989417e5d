#include "common/vfork.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child gets a stack of its own, because that of the calling thread may be small. */
#define STACK_SIZE (64 * 1024)

/* Makes the system call directly: sigprocmask() leaves out the signals that the C library uses itself, and their
 * handlers must not run in the child, on the thread data of the parent. */
static void set_mask(const uint64_t *mask, uint64_t *before) {
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, before, sizeof *mask);
}

static void reap(pid_t pid) {
    while (waitpid(pid, NULL, __WCLONE) == -1 && errno == EINTR) {
    }
}

int sp_vfork_run(int (*run)(void *), void *arg) {
    const uint64_t all = UINT64_MAX;
    uint64_t before = 0;
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        return -errno;
    }
    set_mask(&all, &before);
    pid_t pid = clone(run, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | CLONE_FILES, arg);
    int rc = pid == -1 ? -errno : 0;
    if (rc == 0) {
        reap(pid);
    }
    set_mask(&before, NULL);
    (void)munmap(stack, STACK_SIZE);
    return rc;
}
