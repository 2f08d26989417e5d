#include "host/execute/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/fd.h"

/* Most outputs are smaller than this. */
#define FIRST_CAPACITY 4096
/* A stream that fills its pipe gets a larger one, once: fewer wake-ups for the same bytes. */
#define LARGE_PIPE SP_CAPTURE_TURN

int sp_capture_adopt(struct sp_capture *capture, uint64_t max, int fd) {
    *capture = (struct sp_capture){.fd = fd, .max = max, .is_shared = true, .identity = sp_identity_of(fd)};
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
}

int sp_capture_open(struct sp_capture *capture, uint64_t max, int *far_end) {
    int pair[2];
    *capture = (struct sp_capture){.fd = -1, .max = max};
    int rc = sp_pipe(pair);
    if (rc != 0) {
        return rc;
    }
    *far_end = pair[1];
    rc = sp_capture_adopt(capture, max, pair[0]);
    capture->is_shared = false; /* the tenant's end is another open file */
    return rc;
}

/* Room for at least one more byte, never beyond max. False when the bound is reached. -ENOMEM through *rc. */
static bool make_room(struct sp_capture *c, int *rc) {
    if (c->len < c->cap) {
        return true;
    }
    if (c->len >= c->max) {
        return false;
    }
    size_t wanted = c->cap == 0 ? FIRST_CAPACITY : c->cap * 2;
    wanted = wanted > c->max ? (size_t)c->max : wanted;
    char *grown = realloc(c->bytes, wanted);
    if (grown == NULL) {
        *rc = -ENOMEM;
        return false;
    }
    c->bytes = grown;
    c->cap = wanted;
    return true;
}

static ssize_t take(const struct sp_capture *c, void *bytes, size_t len) {
    return c->is_shared ? sp_read_now(c->fd, bytes, len) : read(c->fd, bytes, len);
}

/* Bytes beyond the bound are read and dropped, so that the command can go on writing. */
static ssize_t drop(struct sp_capture *c) {
    char waste[16384];
    ssize_t n = take(c, waste, sizeof waste);
    c->truncated = c->truncated || n > 0;
    return n;
}

int sp_capture_read(struct sp_capture *c) {
    if (c->fd != -1 && !sp_is_own(c->fd, &c->identity)) {
        c->fd = -1;
        return -EBADF;
    }
    for (size_t taken = 0; c->fd != -1 && taken < SP_CAPTURE_TURN && !sp_capture_is_full(c);) {
        int rc = 0;
        bool room = make_room(c, &rc);
        if (rc != 0) {
            return rc;
        }
        size_t before = c->cap;
        ssize_t n = room ? take(c, c->bytes + c->len, c->cap - c->len) : drop(c);
        taken += n > 0 ? (size_t)n : 0;
        if (n > 0 && room) {
            c->len += (size_t)n;
            if (before == 16 * FIRST_CAPACITY && c->len == c->cap) {
                sp_pipe_enlarge(c->fd, LARGE_PIPE);
            }
        } else if (n == 0) {
            sp_watch_close_member(c->watch, &c->fd);
        } else if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return 0;
            }
            sp_watch_close_member(c->watch, &c->fd);
        }
    }
    return 0;
}

void sp_capture_close(struct sp_capture *c) {
    sp_close_own(&c->fd, &c->identity);
    free(c->bytes);
    c->bytes = NULL;
}
