#include "common/clock.h"

#include <errno.h>
#include <poll.h>

#include "common/fd.h"

int64_t sp_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return sp_ns_of(ts);
}

int sp_wait_fd(int fd, short events, int64_t deadline) {
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        int n = sp_poll_until(&p, 1, deadline);
        if (n != 0) {
            return n < 0 ? n : 0;
        }
        if (deadline != SP_NEVER && sp_now() >= deadline) {
            return -ETIMEDOUT;
        }
    }
}
