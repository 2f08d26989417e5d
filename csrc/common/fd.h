/* Descriptors: -1 is "none", and is compared with -1, never tested for truth. */
#ifndef SANDPOOL_COMMON_FD_H
#define SANDPOOL_COMMON_FD_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Closes once; safe on -1 and on repetition. */
void sp_fd_close(int *fd);
/* Release by leaving the scope: `sp_auto_fd int fd = -1;` */
#define sp_auto_fd __attribute__((cleanup(sp_fd_close)))

static inline int sp_fd_steal(int *fd) {
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* For systems that cannot set the flag on arrival; `done` tells that it was. */
void sp_fd_set_cloexec(int fd, bool done);

/* poll with an absolute deadline at full resolution: > 0 ready, 0 time-out, -errno. */
int sp_poll_until(struct pollfd *fds, unsigned n, int64_t deadline);

/* The platform's credentials message: fd_linux.c, fd_darwin.c. */
#define SP_CREDENTIALS_SIZE 64
/* From now on, each packet received on this socket tells who sent it. 0 or -errno. */
int sp_fd_show_sender(int sock);
/* The sender's pid when `c` carries credentials, else 0. */
pid_t sp_control_sender(struct cmsghdr *c);

#endif
