/*
 * A socket without a peer. When its receiving side is shut down, it is at its end of file, and so readable. This writes
 * nothing to any descriptor, and unlike an eventfd the socket has an inode of its own, which shows that it is ours.
 */
#include <errno.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "host/sys/bell.h"

int sp_bell_open(struct sp_bell *bell) {
    *bell = SP_BELL_NONE;
    bell->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bell->identity = sp_identity_of(bell->fd);
    return bell->fd == -1 ? -errno : 0;
}

void sp_bell_ring(struct sp_bell *bell) {
    if (!bell->rung && sp_is_own(bell->fd, &bell->identity)) {
        bell->rung = shutdown(bell->fd, SHUT_RD) == 0;
    }
}

void sp_bell_close(struct sp_bell *bell) {
    sp_close_own(&bell->fd, &bell->identity);
    *bell = SP_BELL_NONE;
}
