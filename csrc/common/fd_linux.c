#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

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
