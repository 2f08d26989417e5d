/* Descriptors: -1 is "none", and is compared with -1, never tested for truth. */
#ifndef SANDPOOL_COMMON_FD_H
#define SANDPOOL_COMMON_FD_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Closes once; safe on -1, on repetition, and on the -errno that a function gave in the place of a descriptor. */
void sp_fd_close(int *fd);
/* Release by leaving the scope: `sp_auto_fd int fd = -1;` */
#define sp_auto_fd __attribute__((cleanup(sp_fd_close)))

static inline int sp_fd_steal(int *fd) {
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* ---- what each system does in its own way: fd_linux.c, fd_darwin.c ---- */

/* poll with an absolute deadline at full resolution: > 0 ready, 0 time-out, -errno. */
int sp_poll_until(struct pollfd *fds, unsigned n, int64_t deadline);

/* Two ends, close-on-exec. 0 or -errno: then each end is -1 or open. */
int sp_pipe(int pair[2]);
/* Makes room in a pipe, where the system lets a user do so. */
void sp_pipe_enlarge(int fd, int bytes);
/* The same for a pair of sockets that carries whole packets where AF_UNIX can, and a stream of bytes. */
int sp_packet_pair(int pair[2]);
int sp_stream_pair(int pair[2]);

/*
 * sendmsg and recvmsg that never sleep and never raise SIGPIPE; what arrives is close-on-exec. sp_recv_rest() yields
 * the true length of a packet that is longer than `len`.
 */
ssize_t sp_send_now(int sock, const struct msghdr *msg);
/*
 * The same after ETOOMANYREFS: too many descriptors of this user are under way in sockets for the soft limit of this
 * process. Its hard limit counts instead, and the process's own limits stay as they are.
 */
ssize_t sp_send_at_hard_limit(int sock, const struct msghdr *msg);
ssize_t sp_recv_now(int sock, struct msghdr *msg);
ssize_t sp_recv_rest(int sock, void *bytes, size_t len);

/* Room for the system's credentials message. */
#define SP_CREDENTIALS_SIZE 64
/* From now on, each packet received on this socket tells who sent it, where the system can tell. 0 or -errno. */
int sp_fd_show_sender(int sock);
/* The sender's pid when `c` carries credentials, else 0. */
pid_t sp_control_sender(struct cmsghdr *c);

#endif
