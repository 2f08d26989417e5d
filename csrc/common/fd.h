/* Descriptors: -1 means "none". Code compares a descriptor with -1 and never tests it for truth. */
#ifndef SANDPOOL_COMMON_FD_H
#define SANDPOOL_COMMON_FD_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Closes *fd and sets it to -1. Safe on -1, and on the -errno that a function returned in place of a descriptor. */
void sp_fd_close(int *fd);
/* A descriptor that is closed when its scope ends: `sp_auto_fd int fd = -1;` */
#define sp_auto_fd __attribute__((cleanup(sp_fd_close)))

static inline int sp_fd_steal(int *fd) {
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* ---- implemented for each system: fd_linux.c, fd_darwin.c ---- */

/* poll with an absolute deadline, as precise as the system can: > 0 ready, 0 time-out, -errno. */
int sp_poll_until(struct pollfd *fds, unsigned n, int64_t deadline);

/* Opens a pipe; both ends are close-on-exec. 0 or -errno; after an error each end is -1 or open, for the caller to
 * close. */
int sp_pipe(int pair[2]);
/* Enlarges the buffer of a pipe, where the system lets a user do so. */
void sp_pipe_enlarge(int fd, int bytes);
/*
 * read(2) and write(2) that do not wait, whatever another process that shares the open file has made of its flags: -1
 * with EAGAIN. Where the kernel cannot do this for pipes (before Linux 6.4), they do not wait unless such a process
 * takes at this moment what was there.
 */
ssize_t sp_read_now(int fd, void *bytes, size_t len);
ssize_t sp_write_now(int fd, const void *bytes, size_t len);
/* Like sp_pipe() for a pair of AF_UNIX sockets: one that keeps packets whole (a stream where the system cannot), and a
 * stream. */
int sp_packet_pair(int pair[2]);
int sp_stream_pair(int pair[2]);

/*
 * sendmsg and recvmsg that never sleep and never raise SIGPIPE. Received descriptors are close-on-exec. sp_recv_rest()
 * returns the true length of a packet that is longer than `len`.
 */
ssize_t sp_send_now(int sock, const struct msghdr *msg);
/*
 * For use after sp_send_now() failed with ETOOMANYREFS: this user has more descriptors in flight in sockets than the
 * soft limit of this process allows. This call sends under the hard limit instead, without changing the limits of the
 * process.
 */
ssize_t sp_send_at_hard_limit(int sock, const struct msghdr *msg);
ssize_t sp_recv_now(int sock, struct msghdr *msg);
ssize_t sp_recv_rest(int sock, void *bytes, size_t len);

/*
 * Whether fd is a file that a file call may work on, with *st filled: 0 for a regular file or a directory; -EINVAL for
 * anything else, whose reads and writes could wait or act on something; -EACCES for files that show the kernel's data,
 * such as those of /proc, where the files of init's own process are; or -errno.
 */
int sp_fd_check_file(int fd, struct stat *st);

/* Bytes to reserve for the system's credentials message. */
#define SP_CREDENTIALS_SIZE 64
/* From now on each packet received on this socket carries the credentials of its sender, where the system has that. 0
 * or -errno. */
int sp_fd_show_sender(int sock);
/* The pid of the sender if `c` carries credentials, else 0. */
pid_t sp_control_sender(struct cmsghdr *c);

#endif
