#include "host/sys/clock.h"

#include "common/clock.h"

int64_t sp_coarse_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts); /* by vDSO: no system call */
    return sp_ns_of(ts);
}

void sp_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int sp_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline) {
    const struct timespec at = sp_timespec_of(deadline);
    return pthread_cond_timedwait(cond, lock, &at);
}
