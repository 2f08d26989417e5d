/*
 * macOS has no flags that create a descriptor as close-on-exec, no ppoll, and no SOCK_SEQPACKET. Between the creation
 * of a descriptor and the setting of its flag, another thread's fork + exec could inherit it. This library spawns its
 * own programs with POSIX_SPAWN_CLOEXEC_DEFAULT, and Python's subprocess closes every descriptor that it was not given.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"

/* The poll of macOS has a resolution of milliseconds. */
int sp_poll_until(struct pollfd *fds, unsigned n, int64_t deadline) {
    int timeout = -1;
    if (deadline != SP_NEVER) {
        int64_t ms = sp_ms_until(deadline);
        timeout = ms < INT_MAX ? (int)ms : INT_MAX;
    }
    int ready = poll(fds, n, timeout);
    return ready < 0 ? -errno : ready;
}

static void set_cloexec(const int pair[2]) {
    (void)fcntl(pair[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(pair[1], F_SETFD, FD_CLOEXEC);
}

int sp_pipe(int pair[2]) {
    pair[0] = pair[1] = -1;
    if (pipe(pair) != 0) {
        return -errno;
    }
    set_cloexec(pair);
    return 0;
}

/* macOS enlarges a pipe by itself. */
void sp_pipe_enlarge(int fd, int bytes) {
    (void)fd;
    (void)bytes;
}

/* No open file is shared there with what runs a tenant's code. */
ssize_t sp_read_now(int fd, void *bytes, size_t len) { return read(fd, bytes, len); }

ssize_t sp_write_now(int fd, const void *bytes, size_t len) { return write(fd, bytes, len); }

/* A stream can carry records too: each has a fixed size and contains the length of the payload that follows it. */
int sp_packet_pair(int pair[2]) { return sp_stream_pair(pair); }

int sp_stream_pair(int pair[2]) {
    const int on = 1;
    pair[0] = pair[1] = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        return -errno;
    }
    set_cloexec(pair);
    for (int i = 0; i < 2; i++) {
        if (setsockopt(pair[i], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) != 0) {
            return -errno;
        }
    }
    return 0;
}

ssize_t sp_send_now(int sock, const struct msghdr *msg) { return sendmsg(sock, msg, MSG_DONTWAIT); }

/* macOS does not count the descriptors that a user has in flight. */
ssize_t sp_send_at_hard_limit(int sock, const struct msghdr *msg) { return sp_send_now(sock, msg); }

static void set_cloexec_on_arrived(struct msghdr *msg) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && i < n; i++) {
            int fd = -1;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
    }
}

ssize_t sp_recv_now(int sock, struct msghdr *msg) {
    ssize_t n = recvmsg(sock, msg, MSG_DONTWAIT);
    if (n >= 0) {
        set_cloexec_on_arrived(msg);
    }
    return n;
}

ssize_t sp_recv_rest(int sock, void *bytes, size_t len) { return recv(sock, bytes, len, MSG_DONTWAIT); }

/* macOS does not report who sent a packet. The launcher does not need it, for it spawned the agent itself. */
int sp_fd_show_sender(int sock) {
    (void)sock;
    return 0;
}

pid_t sp_control_sender(struct cmsghdr *c) {
    (void)c;
    return 0;
}

/* macOS has no /proc. */
int sp_fd_check_file(int fd, struct stat *st) {
    if (fstat(fd, st) != 0) {
        return -errno;
    }
    return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) ? 0 : -EINVAL;
}
