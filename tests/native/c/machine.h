/* What several C test programs do with the machine: count descriptors, send raw packets, run a child. */
#ifndef SANDPOOL_TESTS_MACHINE_H
#define SANDPOOL_TESTS_MACHINE_H

#include <dirent.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

#define MS INT64_C(1000000)

/* The number of open descriptors of this process. Each count includes the descriptor that is used to count. */
static inline unsigned count_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    if (dir == NULL) {
        abort();
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

static inline void make_pair(int pair[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        abort();
    }
}

static inline void sleep_ns(int64_t ns) {
    const struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    (void)nanosleep(&ts, NULL);
}

/* xorshift: a seed gives the same run again */
static inline uint32_t draw(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

#define RAW_FDS 16

/* Sends a packet that our own functions would not send: any bytes, with any number of copies of `fd`. */
static inline void send_raw(int sock, const void *bytes, size_t len, int fd, unsigned n_fds) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * RAW_FDS)];
    } control;
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds != 0) {
        int fds[RAW_FDS];

        for (unsigned i = 0; i < n_fds; i++) {
            fds[i] = fd;
        }
        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = (size_t)CMSG_SPACE(sizeof(int) * n_fds);
        CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, sizeof(int) * n_fds);
    }
    CHECK(sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len);
}

/* Runs `body` in a child, for `seconds` at most. Returns the wait status: exit code 1 after a failed CHECK, SIGALRM
 * after a hang. */
static inline int in_child(void (*body)(void), unsigned seconds) {
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        (void)alarm(seconds);
        atomic_store(&check_failures, 0);
        body();
        _exit(atomic_load(&check_failures) == 0 ? 0 : 1);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

/* The mount point of cgroup v2 if this process may write there, or NULL. */
static inline const char *find_cgroup_mount(void) {
    static const char *const usual[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    struct statfs fs;
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        if (statfs(usual[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC && access(usual[i], W_OK) == 0) {
            return usual[i];
        }
    }
    return NULL;
}

#endif
