/* Clocks and waits on CLOCK_MONOTONIC, in ns as sp_now(). One file for each system: clock_linux.c, clock_darwin.c. */
#ifndef SANDPOOL_HOST_SYS_CLOCK_H
#define SANDPOOL_HOST_SYS_CLOCK_H

#include <pthread.h>
#include <stdint.h>

#include "common/clock.h"

/* A call that waits returns to its caller at least this often, so that the caller's runtime can handle signals. */
#define SP_SLICE_NS SP_MS(50)

/* The cheapest clock of the system. It may lag by a few ms, which is exact enough for an expiry in seconds. It makes no
 * system call. */
int64_t sp_coarse_now(void);

void sp_cond_init(pthread_cond_t *cond);
/* 0 when woken, perhaps without a reason; ETIMEDOUT at the deadline. */
int sp_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline);

#endif
