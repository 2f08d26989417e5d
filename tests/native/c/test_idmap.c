/* sources: csrc/common/text.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/wire.c csrc/common/packet.c
 * csrc/common/clock.c csrc/common/vfork_linux.c */
/* The process that a user namespace with id maps needs for a moment ends with its parent, whenever that is killed. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "lacks.h"
#include "nth.h"

static int told = -1;    /* where a process says that it has come here */
static bool waits_there; /* in place of going on */

static void come_here(void) {
    if (told != -1) {
        (void)!write(told, "x", 1);
    }
    while (waits_there) {
        (void)pause();
    }
}

static int open_slowly(const char *path, int flags) {
    come_here();
    return open(path, flags);
}

#define open(path, flags) open_slowly(path, flags)
#include "common/idmap_linux.c" /* NOLINT(bugprone-suspicious-include): its parent is held up in the middle */
#undef open

static struct sp_idmap own_map(void) {
    return (struct sp_idmap){.uid = 1000, .gid = 1000, .shown_uid = getuid(), .shown_gid = getgid()};
}

static void a_namespace_is_made(void) {
    const struct sp_idmap map = own_map();
    int fd = sp_idmap_open(&map);
    CHECK(fd >= 0 || fd == -EPERM); /* an ordinary user may not write a gid map before setgroups was denied */
    sp_fd_close(&fd);
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

static void its_process_ends_with_a_parent_that_is_killed(void) {
    int pipe_of[2];
    char byte;
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 && pipe(pipe_of) == 0);
    pid_t parent = fork();
    if (parent == 0) {
        const struct sp_idmap map = own_map();
        told = pipe_of[1];
        waits_there = true;
        (void)sp_idmap_open(&map);
        _exit(1);
    }
    sp_fd_close(&pipe_of[1]);
    CHECK(read(pipe_of[0], &byte, 1) == 1);
    CHECK(kill(parent, SIGKILL) == 0 && waitpid(parent, NULL, 0) == parent);
    CHECK(read(pipe_of[0], &byte, 1) == 0); /* nobody has the other end open any more */
    while (waitpid(-1, NULL, __WALL) != -1) {
    }
    CHECK(errno == ECHILD);
    sp_fd_close(&pipe_of[0]);
}

/* A parent that was killed even before its child could ask for the signal. */
static void a_process_without_its_parent_ends_at_once(void) {
    pid_t someone_else = getppid();
    pid_t child = fork();
    if (child == 0) {
        _exit(wait_for_end(&someone_else));
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
}

static void become_root(void) {
    const unsigned uid = getuid();
    const unsigned gid = getgid();
    char map[64];
    int files[3];
    CHECK(unshare(CLONE_NEWUSER) == 0);
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/gid_map"};
        (void)(i == 0 ? snprintf(map, sizeof map, "deny") : snprintf(map, sizeof map, "0 %u 1", i == 1 ? uid : gid));
        files[i] = (open)(names[i], O_WRONLY | O_CLOEXEC);
        CHECK(write(files[i], map, strlen(map)) == (ssize_t)strlen(map));
        sp_fd_close(&files[i]);
    }
}

static int open_and_close(void) {
    const struct sp_idmap map = {.uid = 0, .shown_uid = 0, .gid = 0, .shown_gid = 0};
    int fd = sp_idmap_open(&map);
    CHECK(waitpid(-1, NULL, __WALL | WNOHANG) == 0); /* the only child is the one that refuses the calls */
    if (fd < 0) {
        return fd;
    }
    sp_fd_close(&fd);
    return 0;
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_mmap, SYS_clone, SYS_openat, SYS_write};
    const struct sweep sweep = {.prepare = become_root, .act = open_and_close, .err = ENOMEM};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(30);
    RUN_WITHOUT(lack, a_namespace_is_made);
    RUN_WITHOUT(lack, its_process_ends_with_a_parent_that_is_killed);
    RUN_WITHOUT(lack, each_refused_call_is_reported);
    RUN(a_process_without_its_parent_ends_at_once);
    return check_report();
}
