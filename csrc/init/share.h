/*
 * How much of a process's memory is its own share, when several processes have the same pages: smaps_rollup of
 * proc_pid_smaps(5). The kernel walks all pages of the process for it, in one call that nothing can cut short. So it is
 * asked only when the walk can be expected to fit into the budget, and what it said stands while the process has not
 * changed, for a while.
 */
#ifndef SANDPOOL_INIT_SHARE_H
#define SANDPOOL_INIT_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"

/* Bytes, as /proc/PID/status has them. */
struct sp_process {
    int pid;
    uint64_t anon, shared, file, swap, tables;
};

/*
 * Replaces p->anon and p->shared by the process's share of them. `dir`: of the process. False when it was not asked:
 * both still count what others have, too.
 */
bool sp_share_find(struct sp_process *p, int dir, const struct sp_budget *budget);

#endif
