/* A pipe to which nobody writes. When its other end is closed, it is at its end of file, and so readable. */
#include <errno.h>

#include "common/fd.h"
#include "host/sys/bell.h"

int sp_bell_open(struct sp_bell *bell) {
    int pair[2];
    *bell = SP_BELL_NONE;
    int rc = sp_pipe(pair);
    if (rc != 0) {
        sp_fd_close(&pair[0]);
        sp_fd_close(&pair[1]);
        return rc;
    }
    bell->fd = pair[0];
    bell->identity = sp_identity_of(pair[0]);
    bell->rope = pair[1];
    bell->rope_identity = sp_identity_of(pair[1]);
    return 0;
}

void sp_bell_ring(struct sp_bell *bell) {
    if (!bell->rung && bell->fd != -1) {
        sp_close_own(&bell->rope, &bell->rope_identity);
        bell->rung = true;
    }
}

void sp_bell_close(struct sp_bell *bell) {
    sp_close_own(&bell->rope, &bell->rope_identity);
    sp_close_own(&bell->fd, &bell->identity);
    *bell = SP_BELL_NONE;
}
