/* Adds up the memory that the processes of a sandbox have mapped, from /proc/PID/status, or more exactly where that
 * matters. */
#ifndef SANDPOOL_INIT_CENSUS_H
#define SANDPOOL_INIT_CENSUS_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"

struct sp_census {
    uint64_t own;     /* bytes of anonymous and swapped pages */
    uint64_t largest; /* the same of one process, the one with the most of them */
    uint64_t mapped;  /* bytes of mapped shared memory */
    uint64_t tables;  /* bytes of page tables */
    uint64_t shown;   /* of these sums, the pages of processes whose share was not asked for: they may count twice */
    unsigned threads;
    unsigned processes; /* with memory of their own */
    bool out_of_time;   /* there are more processes than the budget sufficed for */
};

/*
 * Adds up all processes but init. `proc`: a descriptor of /proc. A page that several processes share counts once for
 * each of them; with `exact` it counts once in all, as far as the budget reaches. For an exact share the kernel walks
 * all pages of a process in one call, so this does not ask for it where the walk would take too long. `shared_by_all`:
 * the shared memory of the whole machine, which bounds the sum over the processes whose share was not asked for.
 */
void sp_census_take(struct sp_census *census, int proc, bool exact, uint64_t shared_by_all,
                    const struct sp_budget *budget);

#endif
