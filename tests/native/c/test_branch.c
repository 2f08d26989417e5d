/* sources: csrc/stem/branch.c */
/* The copy of a session: a child of init that begins with a byte for the host. And what comes back where there is none.
 */
#include "stem/branch.h"

#include <signal.h>

#include "refused.h"

static int pair[2];
static pid_t init; /* the child of the test that acts as init */

/* The tenant's process: 0 where all is well. */
static int branch(void) {
    const int rc = sp_stem_branch(pair[1]);
    if (rc == 0) { /* the copy */
        (void)alarm(20);
        while (getppid() != init) {
            sleep_ns(10 * MS);
        }
        return 7;
    }
    return rc == 1 && waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 1; /* the one in between is reaped */
}

static void act_as_init(void) {
    char byte = 0;
    int status = -1;
    init = getpid();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    const pid_t tenant = fork();
    if (tenant == 0) {
        _exit(branch());
    }
    CHECK(read(pair[0], &byte, 1) == 1 && byte == 'A');
    CHECK(waitpid(tenant, &status, 0) == tenant && status == 0);
    CHECK(waitpid(-1, &status, 0) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(waitpid(-1, NULL, 0) == -1);
}

static void a_copy_becomes_a_child_of_init(void) { CHECK(in_child(act_as_init, 20) == 0); }

static void without_a_second_fork(void) {
    refuse(SYS_clone, EAGAIN);
    CHECK(sp_stem_branch(pair[1]) == -EAGAIN && waitpid(-1, NULL, 0) == -1);
}

static void without_a_first_fork(void) {
#ifdef SYS_vfork
    refuse(SYS_vfork, ENOMEM);
    CHECK(sp_stem_branch(pair[1]) == -ENOMEM);
#endif
}

static void what_cannot_be_copied_is_told(void) {
    CHECK(in_child(without_a_second_fork, 20) == 0 && in_child(without_a_first_fork, 20) == 0);
    char byte;
    CHECK(recv(pair[0], &byte, 1, MSG_DONTWAIT) == -1);
}

int main(void) {
    check_deadline(100);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    RUN(a_copy_becomes_a_child_of_init);
    RUN(what_cannot_be_copied_is_told);
    return check_report();
}
