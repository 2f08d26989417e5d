/* sources: csrc/host/linux/reaper.c csrc/host/linux/late.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/common/packet.c csrc/common/clock.c csrc/common/wire.c csrc/host/sys/own.c */
/* The reaper starts a program and reaps it; no other code of the host sees either process. */
#include "host/linux/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "machine.h"
#include "refused.h"

#define SOCKET 3
#define WAITS "waits"

static atomic_uint signals_heard;

static void on_signal(int signal) {
    (void)signal;
    atomic_fetch_add(&signals_heard, 1);
}

static struct sp_start what = {.name = "test", .number = SOCKET};

static bool has_ended(struct sp_reaper *reaper) {
    int64_t deadline = sp_now() + 10000 * MS;
    while (!sp_reaper_reap(reaper) && sp_now() < deadline) {
        (void)sp_wait_fd(sp_reaper_fd(reaper), POLLIN, deadline);
    }
    return sp_reaper_reap(reaper);
}

/* /bin/cat ends at once: its stdin is the pidfd of this process, which cannot be read. */
static void starts_and_reaps(void) {
    struct sp_reaper *reaper = NULL;
    pid_t child = 0;
    int pair[2];
    make_pair(pair);
    what.path = "/bin/cat";
    what.fd = pair[1];
    CHECK(sp_reaper_start(&what, &reaper, &child) == 0 && child > 0);
    sp_fd_close(&pair[1]);
    /* It is not reaped before the reaper is released. */
    CHECK(kill(child, 0) == 0);
    int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK(pidfd != -1 && sp_wait_fd(pidfd, POLLIN, sp_now() + 10000 * MS) == 0);
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    sp_reaper_release(reaper);
    CHECK(has_ended(reaper) && sp_reaper_fd(reaper) == -1 && sp_reaper_reap(reaper));
    CHECK(kill(child, 0) == -1 && errno == ESRCH);
    CHECK(sp_wait_fd(pair[0], POLLIN, sp_now() + 10000 * MS) ==
          0); /* end of file: no other process holds the far end */
    sp_reaper_free(reaper);
    sp_fd_close(&pidfd);
    sp_fd_close(&pair[0]);
    CHECK(atomic_load(&signals_heard) == 0);
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

static struct sp_reaper *started(void) {
    struct sp_reaper *reaper = NULL;
    pid_t child = 0;
    what.path = "/bin/cat";
    what.fd = 2;
    CHECK(sp_reaper_start(&what, &reaper, &child) == 0);
    return reaper;
}

static void continues_without_a_release(void) {
    struct sp_reaper *reaper = started();
    CHECK(has_ended(reaper));
    sp_reaper_free(reaper);
}

static void reports_why_nothing_was_started(void) {
    static const char *const paths[] = {"/nowhere", "/", "/etc/passwd"};
    static const int errors[] = {-ENOENT, -EACCES, -EACCES};
    for (int i = 0; i < 3; i++) {
        struct sp_reaper *reaper = NULL;
        pid_t child = 0;
        what.path = paths[i];
        what.fd = i; /* also with the descriptors 0 to 2 of the host */
        CHECK(sp_reaper_start(&what, &reaper, &child) == errors[i] && reaper == NULL);
    }
    what.fd = 1000000;
    CHECK(sp_reaper_start(&what, &(struct sp_reaper *){NULL}, &(pid_t){0}) == -EBADF);
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

static void fails_without_free_descriptors(void) {
    struct rlimit before;
    struct rlimit none;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    what.path = "/bin/cat";
    what.fd = 2;
    for (rlim_t n = 0; n < 6; n++) {
        struct sp_reaper *reaper = NULL;
        pid_t child = 0;
        none = (struct rlimit){n, before.rlim_max};
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        int rc = sp_reaper_start(&what, &reaper, &child);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        CHECK(rc == 0 || rc == -EMFILE || rc == -EINVAL || rc == -EBADF);
        if (rc == 0) {
            sp_reaper_release(reaper);
            CHECK(has_ended(reaper));
        }
        sp_reaper_free(reaper);
    }
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

static void without_a_process(void) {
    struct sp_reaper *reaper = NULL;
    pid_t child = 0;
    what.path = "/bin/cat";
    what.fd = 2;
    refuse_flagged(SYS_clone, EAGAIN, 0, CLONE_VFORK); /* the reaper's own has another flag */
    CHECK(sp_reaper_start(&what, &reaper, &child) == -EAGAIN && reaper == NULL && child == 0);
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

static void reports_that_no_process_can_be_made(void) { CHECK(in_child(without_a_process, 20) == 0); }

/* The reaper lives, and has a copy of the descriptor table of this process as it was: what of it is left keeps the pipe
 * open. */
static void start_and_look_at_a_pipe(int call, int err) {
    struct sp_reaper *reaper = NULL;
    pid_t child = 0;
    int pair[2];
    int ends[2];
    make_pair(pair);
    CHECK(pipe(ends) == 0);
    for (int fd = 100; fd < 300; fd++) {
        CHECK(dup2(ends[1], fd) == fd);
    }
    if (call != 0) {
        refuse(call, err);
    }
    what.path = "/bin/cat";
    what.fd = pair[1];
    CHECK(sp_reaper_start(&what, &reaper, &child) == 0 && child > 0);
    for (int fd = 100; fd < 300; fd++) {
        (void)close(fd);
    }
    (void)close(ends[1]);
    CHECK(sp_wait_fd(ends[0], POLLIN, sp_now() + 10000 * MS) == 0); /* its end */
    sp_reaper_release(reaper);
    CHECK(has_ended(reaper));
    sp_reaper_free(reaper);
}

static void with_close_range(void) { start_and_look_at_a_pipe(0, 0); }
static void without_close_range(void) { start_and_look_at_a_pipe(SYS_close_range, ENOSYS); }
static void where_close_range_is_refused(void) { start_and_look_at_a_pipe(SYS_close_range, EPERM); }

static void fail_without_close_range(int call, int err) {
    struct sp_reaper *reaper = NULL;
    pid_t child = 0;
    int pair[2];
    make_pair(pair);
    what.path = "/bin/cat";
    what.fd = pair[1];
    refuse(SYS_close_range, ENOSYS);
    refuse(call, err);
    CHECK(sp_reaper_start(&what, &reaper, &child) == -err && reaper == NULL);
}

static void without_a_directory(void) { fail_without_close_range(SYS_openat, EACCES); }
static void without_entries(void) { fail_without_close_range(SYS_getdents64, EIO); }

static void keeps_no_descriptor_of_the_host(void) {
    CHECK(in_child(with_close_range, 20) == 0);
    CHECK(in_child(without_close_range, 20) == 0);
    CHECK(in_child(where_close_range_is_refused, 20) == 0);
    CHECK(in_child(without_a_directory, 20) == 0);
    CHECK(in_child(without_entries, 20) == 0);
}

/* ---- the end of this process ---- */

static int ends_of_waiting[2];

static void start_and_end(void) {
    struct sp_reaper *reaper = NULL;
    pid_t child = 0;
    what.path = "/proc/self/exe"; /* this program, see main() */
    what.name = WAITS;
    what.fd = ends_of_waiting[1];
    CHECK(sp_reaper_start(&what, &reaper, &child) == 0);
    sp_reaper_release(reaper);
}

/* What it has started lives on, without a reaper. */
static void ends_with_the_host(void) {
    make_pair(ends_of_waiting);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    CHECK(in_child(start_and_end, 20) == 0);
    sp_fd_close(&ends_of_waiting[1]);
    CHECK(waitpid(-1, NULL, 0) > 0); /* the reaper */
    CHECK(waitpid(-1, NULL, WNOHANG) == 0);
    sp_fd_close(&ends_of_waiting[0]);
    CHECK(waitpid(-1, NULL, 0) > 0);
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0);
}

/* ---- what other code of this process does to it ---- */

/* A fork has the descriptor, but not the child. */
static void in_a_fork(void) {
    struct sp_reaper *reaper = started(); /* it is not released, and so does not end */
    const pid_t fork_of_this = fork();
    if (fork_of_this == 0) {
        _exit(sp_reaper_reap(reaper) ? 1 : 0);
    }
    int status = -1;
    CHECK(waitpid(fork_of_this, &status, 0) == fork_of_this && status == 0);
    sp_reaper_release(reaper);
    CHECK(has_ended(reaper));
    sp_reaper_free(reaper);
}

static void where_it_cannot_be_asked_for(void) {
    struct sp_reaper *reaper = started();
    sp_reaper_release(reaper);
    CHECK(sp_wait_fd(sp_reaper_fd(reaper), POLLIN, sp_now() + 10000 * MS) == 0);
    refuse(SYS_waitid, EPERM);
    CHECK(!sp_reaper_reap(reaper) && sp_reaper_fd(reaper) != -1);
}

/* Nothing is done to the file that has got the number since. */
static void its_descriptor_was_closed_by_others(void) {
    struct sp_reaper *reaper = started();
    const int number = sp_reaper_fd(reaper);
    CHECK(dup2(2, number) == number);
    sp_reaper_release(reaper);
    CHECK(sp_reaper_reap(reaper) && sp_reaper_fd(reaper) == -1 && fcntl(number, F_GETFD) != -1);
    sp_reaper_free(reaper);
    CHECK(waitpid(-1, NULL, __WCLONE) > 0); /* it has ended, and used its memory until then */
}

static void is_reaped_by_nobody_else(void) {
    CHECK(in_child(in_a_fork, 20) == 0);
    CHECK(in_child(where_it_cannot_be_asked_for, 20) == 0);
    CHECK(in_child(its_descriptor_was_closed_by_others, 20) == 0);
}

/* The stack and the data of this thread are freed when it ends. */
static void *start_one(void *arg) {
    pid_t child = 0;
    what.path = "/bin/sleep"; /* without an argument it ends with an error */
    what.fd = 2;
    CHECK(sp_reaper_start(&what, arg, &child) == 0);
    return NULL;
}

static void outlives_the_thread(void) {
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        struct sp_reaper *reaper = NULL;
        CHECK(pthread_create(&thread, NULL, start_one, (void *)&reaper) == 0 && pthread_join(thread, NULL) == 0);
        sp_reaper_release(reaper);
        CHECK(has_ended(reaper));
        sp_reaper_free(reaper);
    }
}

static void a_wait_for_all_kinds_of_children_may_reap_it(void) {
    struct sp_reaper *reaper = started();
    sp_reaper_release(reaper);
    CHECK(waitpid(-1, NULL, __WALL) > 0);
    CHECK(has_ended(reaper));
    sp_reaper_free(reaper);
}

/* Two that are not released wait for a second, and are freed meanwhile. */
static void one_that_is_freed_too_early_is_reaped_later(void) {
    struct sp_reaper *reaper = NULL;
    siginfo_t ended = {0};
    pid_t child = 0;
    what.path = "/bin/cat";
    what.fd = 2;
    for (int i = 0; i < 2; i++) {
        CHECK(sp_reaper_start(&what, &reaper, &child) == 0);
        sp_reaper_free(reaper);
    }
    CHECK(waitid(P_ALL, 0, &ended, WEXITED | WNOWAIT | __WALL) == 0 && ended.si_pid != 0);
    do {
        CHECK(sp_reaper_start(&what, &reaper, &child) == 0);
        sp_reaper_release(reaper);
        CHECK(has_ended(reaper));
        sp_reaper_free(reaper);
    } while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0); /* does not reap it itself */
    CHECK(errno == ECHILD);
}

int main(int argc, char **argv) {
    char end;
    (void)argc;
    if (strcmp(argv[0], WAITS) == 0) {
        return read(SOCKET, &end, 1) == 0 ? 0 : 1;
    }
    check_deadline(120);
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGCHLD, &action, NULL);
    unsigned fds = count_fds();
    RUN(starts_and_reaps);
    RUN(continues_without_a_release);
    RUN(reports_why_nothing_was_started);
    RUN(fails_without_free_descriptors);
    RUN(keeps_no_descriptor_of_the_host);
    RUN(reports_that_no_process_can_be_made);
    RUN(ends_with_the_host);
    RUN(is_reaped_by_nobody_else);
    RUN(outlives_the_thread);
    RUN(a_wait_for_all_kinds_of_children_may_reap_it);
    RUN(one_that_is_freed_too_early_is_reaped_later);
    if (count_fds() != fds) {
        (void)fprintf(stderr, "descriptors are left open\n");
        return EXIT_FAILURE;
    }
    return check_report();
}
