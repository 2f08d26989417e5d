#include "common/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/text.h"

#define STACK_SIZE (16 * 1024)

/* "/proc/<pid>/" + name */
static char *proc_file(char text[64], pid_t pid, const char *name) {
    char *end = text + 64;
    char *at = sp_append_number(sp_append(text, end, "/proc/"), end, (uint64_t)pid);
    (void)sp_append(sp_append(at, end, "/"), end, name);
    return text;
}

static int write_map(pid_t pid, const char *name, uint64_t id, uint64_t shown) {
    char path[64];
    char text[64];
    const char *end = text + sizeof text;
    char *at = sp_append_number(text, end, id);
    at = sp_append_number(sp_append(at, end, " "), end, shown);
    (void)sp_append(at, end, " 1\n");
    sp_auto_fd int file = open(proc_file(path, pid, name), O_WRONLY | O_CLOEXEC);
    return file != -1 && write(file, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
}

/* Runs beside its parent and on its memory, and so makes nothing but system calls that cannot fail. It ends with the
 * thread that waits for it, also when that is killed. */
static int wait_for_end(void *arg) {
    const pid_t *parent = arg;
    (void)syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (syscall(SYS_getppid) == *parent) { /* it was not killed before */
        (void)syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
    }
    return 0;
}

static int open_mapped(pid_t pid, const struct sp_idmap *map) {
    char path[64];
    int rc = write_map(pid, "uid_map", map->uid, map->shown_uid);
    rc = rc != 0 ? rc : write_map(pid, "gid_map", map->gid, map->shown_gid);
    if (rc != 0) {
        return rc;
    }
    int fd = open(proc_file(path, pid, "ns/user"), O_RDONLY | O_CLOEXEC);
    return fd != -1 ? fd : -errno;
}

/* A process is needed only to create the namespace and to write its maps; the descriptor keeps the namespace alive. The
 * process shares this memory, so that nothing is copied, and has no exit signal (see vfork.h). All signals are blocked
 * in it: a handler would run on the thread data of its parent. */
int sp_idmap_open(const struct sp_idmap *map) {
    const uint64_t all = UINT64_MAX;
    const pid_t self = getpid();
    uint64_t before = 0;
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        return -errno;
    }
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    pid_t pid = clone(wait_for_end, stack + STACK_SIZE, CLONE_VM | CLONE_NEWUSER, (void *)(uintptr_t)&self);
    int rc = pid == -1 ? -errno : 0;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    if (rc == 0) {
        rc = open_mapped(pid, map);
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, __WCLONE) == -1 && errno == EINTR) {
        }
    }
    (void)munmap(stack, STACK_SIZE);
    return rc;
}
