#include <errno.h>
#include <time.h>

#include "common/clock.h"
#include "host/sys/clock.h"

/* CLOCK_MONOTONIC_RAW_APPROX is cheaper, but runs apart from CLOCK_MONOTONIC, with which it is compared. */
int64_t sp_coarse_now(void) { return sp_now(); }

void sp_cond_init(pthread_cond_t *cond) { pthread_cond_init(cond, NULL); }

/* A condition variable cannot be bound to a clock here; a relative wait does not see the wall clock change. */
int sp_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline) {
    int64_t left = deadline - sp_now();
    if (left <= 0) {
        return ETIMEDOUT;
    }
    const struct timespec ts = sp_timespec_of(left);
    return pthread_cond_timedwait_relative_np(cond, lock, &ts);
}
