/*
 * A bound on the work of one look of the memory watch, in processor time of the calling thread. On a machine that is
 * busy with other work a look takes longer by the clock, but that alone must not make a look exceed its budget.
 */
#ifndef SANDPOOL_INIT_BUDGET_H
#define SANDPOOL_INIT_BUDGET_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "common/clock.h"

struct sp_budget {
    int64_t end;
};

static inline int64_t sp_cpu_now(void) {
    struct timespec ts = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return sp_ns_of(ts);
}

static inline struct sp_budget sp_budget_of(int64_t ns) { return (struct sp_budget){sp_cpu_now() + ns}; }

static inline bool sp_budget_is_spent(const struct sp_budget *budget) { return sp_cpu_now() >= budget->end; }

static inline int64_t sp_budget_left(const struct sp_budget *budget) { return budget->end - sp_cpu_now(); }

#endif
