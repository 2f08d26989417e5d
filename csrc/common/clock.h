/*
 * Time: nanoseconds of CLOCK_MONOTONIC, as int64_t. A deadline is a point of this clock; SP_NEVER is none.
 */
#ifndef SANDPOOL_COMMON_CLOCK_H
#define SANDPOOL_COMMON_CLOCK_H

#include <stdint.h>

#define SP_NEVER INT64_MAX
#define SP_MS(n) (INT64_C(1000000) * (n))
#define SP_SEC(n) (INT64_C(1000000000) * (n))

int64_t sp_now(void);
/* Waits until `events` of poll(2) come on fd: 0, -ETIMEDOUT, -EINTR or -errno. A hang-up counts as an event, and the
 * next call on fd reports it. */
int sp_wait_fd(int fd, short events, int64_t deadline);

#endif
