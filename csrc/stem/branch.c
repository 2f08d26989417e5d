#include "stem/branch.h"

#include <errno.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Forks twice. The process in between ends at once, so that the kernel makes init the parent of the copy. The first
 * fork is a vfork(): the process in between uses the caller's memory, and the caller sleeps meanwhile, so that the
 * memory is copied only once. The second is libc's fork(), which runs the fork handlers of libraries and knows the
 * thread of the copy. The copy returns from this function, on its own copy of the stack.
 */
int sp_stem_branch(int control) {
    volatile int failed = EAGAIN;
    /* NOLINTBEGIN(*vfork,*Vfork,bugprone-unsafe-functions): what is done is said above */
    pid_t between = vfork();
    if (between == -1) {
        return -errno;
    }
    if (between == 0) {
        pid_t copy = fork();
        if (copy == 0) {
            (void)!write(control, "A", 1);
            return 0;
        }
        failed = copy == -1 ? errno : 0;
        _exit(0);
    }
    /* NOLINTEND(*vfork,*Vfork,bugprone-unsafe-functions) */
    /* ECHILD: another thread of the tenant has reaped it already. */
    while (waitpid(between, NULL, 0) == -1 && errno == EINTR) {
    }
    return failed != 0 ? -failed : 1;
}
