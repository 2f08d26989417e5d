/*
 * A bound on the work of one look of the memory watch, in processor time of the calling thread. On a machine that is
 * busy with other work a look takes longer by the clock, but that alone must not make a look exceed its budget.
 *
 * Nor must a machine that is slow. In a virtual machine that waits for a processor of its host, processor time goes by,
 * too. So each examination has a number of parts (processes, files, lines) for which no time is too long, and the time
 * decides only about the parts after them.
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

#define SP_BUDGET_UNTIMED 256

/* To be asked at each of the parts 1, 2, 3 and so on. The clock is read at every `interval`th of them. */
static inline bool sp_budget_ends(const struct sp_budget *budget, unsigned part, unsigned interval) {
    return part > SP_BUDGET_UNTIMED && part % interval == 0 && sp_budget_is_spent(budget);
}

static inline int64_t sp_budget_left(const struct sp_budget *budget) { return budget->end - sp_cpu_now(); }

#endif
