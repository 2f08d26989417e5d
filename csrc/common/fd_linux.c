#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"

int sp_poll_until(struct pollfd *fds, unsigned n, int64_t deadline) {
    struct timespec ts = {0};
    if (deadline != SP_NEVER) {
        int64_t left = deadline - sp_now();
        left = left > 0 ? left : 0;
        ts.tv_sec = (time_t)(left / 1000000000);
        ts.tv_nsec = (long)(left % 1000000000);
    }
    int ready = ppoll(fds, n, deadline != SP_NEVER ? &ts : NULL, NULL);
    return ready < 0 ? -errno : ready;
}

int sp_pipe(int pair[2]) {
    pair[0] = pair[1] = -1;
    return pipe2(pair, O_CLOEXEC) == 0 ? 0 : -errno;
}

/* Refused when the user's budget for pipes is spent: fine. */
void sp_pipe_enlarge(int fd, int bytes) { (void)fcntl(fd, F_SETPIPE_SZ, bytes); }

static int open_pair(int type, int pair[2]) {
    pair[0] = pair[1] = -1;
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) == 0 ? 0 : -errno;
}

int sp_packet_pair(int pair[2]) { return open_pair(SOCK_SEQPACKET, pair); }

int sp_stream_pair(int pair[2]) { return open_pair(SOCK_STREAM, pair); }

ssize_t sp_send_now(int sock, const struct msghdr *msg) { return sendmsg(sock, msg, MSG_NOSIGNAL | MSG_DONTWAIT); }

ssize_t sp_recv_now(int sock, struct msghdr *msg) { return recvmsg(sock, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); }

ssize_t sp_recv_rest(int sock, void *bytes, size_t len) { return recv(sock, bytes, len, MSG_DONTWAIT | MSG_TRUNC); }

int sp_fd_show_sender(int sock) {
    const int on = 1;
    return setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 ? 0 : -errno;
}

pid_t sp_control_sender(struct cmsghdr *c) {
    struct ucred cred;
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS || c->cmsg_len < CMSG_LEN(sizeof cred)) {
        return 0;
    }
    memcpy(&cred, CMSG_DATA(c), sizeof cred);
    return cred.pid;
}
