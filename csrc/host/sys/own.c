#include "host/sys/own.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/fd.h"

struct sp_identity sp_identity_of(int fd) {
    struct stat st;
    return fd != -1 && fstat(fd, &st) == 0 ? (struct sp_identity){st.st_dev, st.st_ino} : (struct sp_identity){0};
}

bool sp_is_own(int fd, const struct sp_identity *identity) {
    struct stat st;
    return fd != -1 &&
           (identity->ino == 0 || (fstat(fd, &st) == 0 && st.st_ino == identity->ino && st.st_dev == identity->dev));
}

void sp_close_own(int *fd, const struct sp_identity *identity) {
    int saved = errno;
    if (!sp_is_own(*fd, identity)) {
        *fd = -1;
    }
    errno = saved;
    sp_fd_close(fd);
}
