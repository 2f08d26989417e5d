/*
 * Time: nanoseconds of CLOCK_MONOTONIC, as int64_t. A deadline is a point of this clock; SP_NEVER means no deadline.
 */
#ifndef SANDPOOL_COMMON_CLOCK_H
#define SANDPOOL_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SP_NEVER INT64_MAX
#define SP_MS(n) (INT64_C(1000000) * (n))
#define SP_SEC(n) (INT64_C(1000000000) * (n))

int64_t sp_now(void);

static inline int64_t sp_ns_of(struct timespec t) { return SP_SEC((int64_t)t.tv_sec) + t.tv_nsec; }

/* `ns` must not be negative. */
static inline struct timespec sp_timespec_of(int64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / SP_SEC(1)), .tv_nsec = (long)(ns % SP_SEC(1))};
}

/* Nanoseconds until the deadline, 0 once it has passed. */
static inline int64_t sp_left_until(int64_t deadline) {
    int64_t left = deadline - sp_now();
    return left > 0 ? left : 0;
}

/* Rounded up: a poll that returned shortly before the deadline would only have to wait again. */
static inline int64_t sp_ms_until(int64_t deadline) { return (sp_left_until(deadline) + SP_MS(1) - 1) / SP_MS(1); }

/* Waits until poll(2) reports one of `events` on fd: 0, -ETIMEDOUT, -EINTR or -errno. A hang-up counts as an event; the
 * next call on fd then reports it. */
int sp_wait_fd(int fd, short events, int64_t deadline);

#endif
