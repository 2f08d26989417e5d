#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "common/vfork.h"

int sp_poll_until(struct pollfd *fds, unsigned n, int64_t deadline) {
    struct timespec ts = {0};
    if (deadline != SP_NEVER) {
        ts = sp_timespec_of(sp_left_until(deadline));
    }
    int ready = ppoll(fds, n, deadline != SP_NEVER ? &ts : NULL, NULL);
    return ready < 0 ? -errno : ready;
}

int sp_pipe(int pair[2]) {
    pair[0] = pair[1] = -1;
    return pipe2(pair, O_CLOEXEC) == 0 ? 0 : -errno;
}

/* The kernel refuses when the user's budget for pipes is spent; the pipe then keeps its size. */
void sp_pipe_enlarge(int fd, int bytes) { (void)fcntl(fd, F_SETPIPE_SZ, bytes); }

/* preadv2(2) and pwritev2(2) with a current offset; older C libraries have no functions for them. */
static ssize_t transfer_now(long number, int fd, void *bytes, size_t len, short events) {
    const struct iovec part = {bytes, len};
    ssize_t n = syscall(number, fd, &part, 1L, -1L, -1L, RWF_NOWAIT);
    if (n != -1 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM)) {
        return n;
    }
    struct pollfd ready = {.fd = fd, .events = events};
    if (poll(&ready, 1, 0) != 1) {
        errno = EAGAIN;
        return -1;
    }
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    return number == __NR_preadv2 ? read(fd, bytes, len) : write(fd, bytes, len);
}

ssize_t sp_read_now(int fd, void *bytes, size_t len) { return transfer_now(__NR_preadv2, fd, bytes, len, POLLIN); }

ssize_t sp_write_now(int fd, const void *bytes, size_t len) {
    return transfer_now(__NR_pwritev2, fd, (void *)(uintptr_t)bytes, len, POLLOUT);
}

static int open_pair(int type, int pair[2]) {
    pair[0] = pair[1] = -1;
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) == 0 ? 0 : -errno;
}

int sp_packet_pair(int pair[2]) { return open_pair(SOCK_SEQPACKET, pair); }

int sp_stream_pair(int pair[2]) { return open_pair(SOCK_STREAM, pair); }

ssize_t sp_send_now(int sock, const struct msghdr *msg) { return sendmsg(sock, msg, MSG_NOSIGNAL | MSG_DONTWAIT); }

struct send {
    int sock;
    const struct msghdr *msg;
    ssize_t n;
    int err;
};

static int send_in_child(void *arg) {
    struct send *s = arg;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    s->n = sp_send_now(s->sock, s->msg);
    s->err = errno;
    return 0;
}

/*
 * unix(7): the kernel compares the number of descriptors that the user has in flight, over all processes, with the soft
 * limit of the sender. A tenant can have as many in flight as its own limit allows; confine.c keeps that limit below
 * the hard limit of the host.
 */
ssize_t sp_send_at_hard_limit(int sock, const struct msghdr *msg) {
    struct send s = {.sock = sock, .msg = msg, .n = -1, .err = ETOOMANYREFS};
    (void)sp_vfork_run(send_in_child, &s);
    errno = s.err;
    return s.n;
}

/*
 * Whether a receive has to be repeated, because it does not say what it seems to say:
 *  - When the peer closes its end while that end still holds unread data, the next receive here fails once with
 *    ECONNRESET, although data that the peer sent earlier may still wait.
 *  - A receive that may not wait looks for data and then, if there is none, whether the peer has closed (Linux,
 *    unix_dgram_recvmsg). A peer that sends and closes in between makes it return end of file before the data.
 * The second try receives the data, or end of file. An empty packet, which looks like end of file, may bring
 * descriptors; it is not repeated then.
 */
static bool is_to_be_repeated(ssize_t n, size_t control_len) {
    return n < 0 ? errno == ECONNRESET : n == 0 && control_len == 0;
}

ssize_t sp_recv_now(int sock, struct msghdr *msg) {
    const struct msghdr untouched = *msg;
    ssize_t n = recvmsg(sock, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (is_to_be_repeated(n, msg->msg_controllen)) {
        const ssize_t first = n;
        *msg = untouched;
        n = recvmsg(sock, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (first == 0 && n < 0 && errno == EAGAIN) { /* the end of file would have stayed: it was an empty packet */
            msg->msg_controllen = 0;
            n = 0;
        }
    }
    return n;
}

ssize_t sp_recv_rest(int sock, void *bytes, size_t len) {
    ssize_t n = recv(sock, bytes, len, MSG_DONTWAIT | MSG_TRUNC);
    return is_to_be_repeated(n, 0) ? recv(sock, bytes, len, MSG_DONTWAIT | MSG_TRUNC) : n;
}

static bool shows_kernel_data(const struct statfs *fs) {
    static const unsigned long types[] = {PROC_SUPER_MAGIC,   SYSFS_MAGIC,         NSFS_MAGIC,
                                          CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,
                                          SECURITYFS_MAGIC,   TRACEFS_MAGIC,       BPF_FS_MAGIC};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if ((unsigned long)fs->f_type == types[i]) {
            return true;
        }
    }
    return false;
}

int sp_fd_check_file(int fd, struct stat *st) {
    struct statfs fs;
    if (fstat(fd, st) != 0) {
        return -errno;
    }
    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)) {
        return -EINVAL;
    }
    if (fstatfs(fd, &fs) != 0) {
        return -errno;
    }
    return shows_kernel_data(&fs) ? -EACCES : 0;
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
