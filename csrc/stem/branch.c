#include "stem/branch.h"

#include <errno.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A process between the two forks and ends, so that the kernel makes init the parent of the copy. It shares the memory
 * of the caller, which sleeps meanwhile, so that the memory is copied once only. The second one is the fork of libc:
 * handlers of libraries run, and libc knows the copy's own thread. The copy goes on in this function, on a copy of its
 * stack.
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
    /* A thread of the tenant may have reaped it. */
    while (waitpid(between, NULL, 0) == -1 && errno == EINTR) {
    }
    return failed != 0 ? -failed : 1;
}
