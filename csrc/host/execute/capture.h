/* One output stream of a command: read to its end, kept up to a bound, the rest dropped or not read. */
#ifndef SANDPOOL_HOST_EXECUTE_CAPTURE_H
#define SANDPOOL_HOST_EXECUTE_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/sys/own.h"
#include "host/sys/watch.h"

struct sp_capture {
    int fd; /* the host's end of the pipe, non-blocking; -1 at end of file */
    char *bytes;
    size_t len, cap;
    uint64_t max;
    bool truncated;
    bool is_shared; /* the sandbox has fd, too, and can change the flags of the open file */
    bool waits;     /* at the bound nothing is read, so that the command waits; false: the rest is read and dropped */
    struct sp_identity identity; /* of fd, see own.h */
    struct sp_watch *watch;      /* fd may be a member of this one; NULL: of none */
};

/* Makes the pipe: `*far_end` is the tenant's, owned by the caller. 0 or -errno. */
int sp_capture_open(struct sp_capture *capture, uint64_t max, int *far_end);
/* Captures from this end of a pipe or socket, which the capture owns from now on. 0 or -errno. */
int sp_capture_adopt(struct sp_capture *capture, uint64_t max, int fd);
/* One turn of reading, so that a command that writes without end does not keep its reader from the deadline. */
#define SP_CAPTURE_TURN (1024 * 1024)
/* Whether there is no room for what could be read. */
static inline bool sp_capture_is_full(const struct sp_capture *capture) {
    return capture->waits && capture->len >= capture->max;
}
/* Reads what is there without waiting, up to a turn; closes at end of file. 0, -ENOMEM, or -EBADF: closed by another
 * part of the process. */
int sp_capture_read(struct sp_capture *capture);
void sp_capture_close(struct sp_capture *capture);

#endif
