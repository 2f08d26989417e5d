#include <errno.h>
#include <time.h>

#include "common/clock.h"
#include "host/sys/clock.h"

/* CLOCK_MONOTONIC_RAW_APPROX is cheaper, but drifts against CLOCK_MONOTONIC, with which callers compare the result. */
int64_t sp_coarse_now(void) { return sp_now(); }

void sp_cond_init(pthread_cond_t *cond) { pthread_cond_init(cond, NULL); }

/* macOS cannot bind a condition variable to a clock. A relative wait does not depend on changes of the wall clock. */
int sp_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline) {
    int64_t left = deadline - sp_now();
    if (left <= 0) {
        return ETIMEDOUT;
    }
    const struct timespec ts = sp_timespec_of(left);
    return pthread_cond_timedwait_relative_np(cond, lock, &ts);
}
