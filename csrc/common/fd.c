#include "common/fd.h"

#include <errno.h>
#include <unistd.h>

void sp_fd_close(int *fd) {
    if (*fd != -1) {
        int saved = errno;
        (void)close(*fd);
        *fd = -1;
        errno = saved;
    }
}
