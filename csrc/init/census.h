/* The memory that the tenants' processes have mapped, by /proc/PID/status, and where it matters more exactly. */
#ifndef SANDPOOL_INIT_CENSUS_H
#define SANDPOOL_INIT_CENSUS_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"

struct sp_census {
    uint64_t own;    /* bytes of anonymous and swapped pages */
    uint64_t mapped; /* bytes of shared memory that is mapped */
    uint64_t tables; /* bytes of page tables */
    unsigned threads;
    bool out_of_time; /* there are more processes than the budget is for */
};

/*
 * Adds up all processes but init. `proc`: a descriptor of /proc. Pages that several processes share count once in each
 * of them, and with `exact` once in all, as far as the budget reaches: to find that out the kernel walks all pages of a
 * process in one call, so a process that would take too long is not asked. `shared_by_all`: shared memory of the whole
 * machine, which those that were not asked cannot exceed together.
 */
void sp_census_take(struct sp_census *census, int proc, bool exact, uint64_t shared_by_all,
                    const struct sp_budget *budget);

#endif
