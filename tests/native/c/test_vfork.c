/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c */
/* A child that shares memory and descriptors with its parent, and that no signal and no wait() of the parent reports.
 */
#include "common/vfork.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "check.h"
#include "common/fd.h"
#include "machine.h"

static atomic_uint signals_heard;

static void on_signal(int signal) {
    (void)signal;
    atomic_fetch_add(&signals_heard, 1);
}

struct seen {
    pid_t pid;
    int null;
    bool blocked;
};

static int look_around(void *arg) {
    struct seen *seen = arg;
    sigset_t mask;
    struct rlimit none = {0, 0};
    (void)sigprocmask(SIG_BLOCK, NULL, &mask);
    seen->pid = getpid();
    seen->blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGCHLD) == 1;
    seen->null = dup(0);
    (void)setrlimit(RLIMIT_CORE, &none);
    return 0;
}

static void is_a_process_that_shares_memory(void) {
    struct seen seen = {0};
    struct rlimit before;
    struct rlimit after;
    sigset_t mask;
    CHECK(getrlimit(RLIMIT_CORE, &before) == 0);
    CHECK(sp_vfork_run(look_around, &seen) == 0);
    CHECK(seen.pid != 0 && seen.pid != getpid() && seen.blocked);
    CHECK(seen.null > 0 && close(seen.null) == 0);
    CHECK(getrlimit(RLIMIT_CORE, &after) == 0 && memcmp(&before, &after, sizeof after) == 0);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGTERM) == 0);
}

static void its_end_sends_no_signal(void) {
    struct seen seen = {0};
    CHECK(sp_vfork_run(look_around, &seen) == 0);
    sp_fd_close(&seen.null);
    CHECK(atomic_load(&signals_heard) == 0);
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

static int wait_for_any(void *arg) {
    *(int *)arg = waitpid(-1, NULL, 0) == -1 ? errno : 0;
    return 0;
}

static atomic_bool over;

/* Each wait() of this thread must fail with ECHILD: it never sees a child. */
static void *wait_in_a_thread(void *arg) {
    atomic_uint *met = arg;
    while (!atomic_load(&over)) {
        int err = 0;
        (void)wait_for_any(&err);
        atomic_fetch_add(met, err != ECHILD);
    }
    return NULL;
}

static void no_wait_returns_it(void) {
    pthread_t thread;
    static atomic_uint met;
    CHECK(pthread_create(&thread, NULL, wait_in_a_thread, &met) == 0);
    for (int i = 0; i < 200; i++) {
        struct seen seen = {0};
        CHECK(sp_vfork_run(look_around, &seen) == 0);
        sp_fd_close(&seen.null);
    }
    atomic_store(&over, true);
    CHECK(pthread_join(thread, NULL) == 0 && atomic_load(&met) == 0);
}

static void sends_at_the_hard_limit(void) {
    int pair[2];
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct rlimit before;
    struct rlimit after;
    make_pair(pair);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(sp_send_at_hard_limit(pair[0], &msg) == 1);
    CHECK(read(pair[1], &byte, 1) == 1);
    CHECK(getrlimit(RLIMIT_NOFILE, &after) == 0 && memcmp(&before, &after, sizeof after) == 0);
    sp_fd_close(&pair[1]);
    CHECK(sp_send_at_hard_limit(pair[0], &msg) == -1 && errno == EPIPE);
    sp_fd_close(&pair[0]);
}

/* The limit of processes does not apply to root. */
static void reports_why_there_is_no_child(void) {
    struct seen seen = {0};
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_NPROC, &before) == 0);
    struct rlimit none = {0, before.rlim_max};
    CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
    int rc = sp_vfork_run(look_around, &seen);
    CHECK(getuid() == 0 ? rc == 0 : rc == -EAGAIN && seen.pid == 0);
    CHECK(setrlimit(RLIMIT_NPROC, &before) == 0);
    if (rc == 0) {
        sp_fd_close(&seen.null);
    }
}

int main(void) {
    check_deadline(60);
    unsigned fds = count_fds();
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGCHLD, &action, NULL);
    RUN(is_a_process_that_shares_memory);
    RUN(its_end_sends_no_signal);
    RUN(no_wait_returns_it);
    RUN(sends_at_the_hard_limit);
    RUN(reports_why_there_is_no_child);
    CHECK(count_fds() == fds);
    return check_report();
}
