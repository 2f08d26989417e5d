#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void sp_fd_close(int *fd) {
    if (*fd != -1) {
        int saved = errno;
        (void)close(*fd);
        *fd = -1;
        errno = saved;
    }
}

void sp_fd_set_cloexec(int fd, bool done) {
    if (!done) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}
