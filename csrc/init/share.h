/*
 * Finds the share of a process in pages that several processes have mapped, from smaps_rollup of proc_pid_smaps(5). For
 * that the kernel walks all pages of the process in one call that cannot be interrupted. So the file is read only when
 * the walk can be expected to fit into the budget, and the result is kept for a while if the process does not change.
 * On a slow machine a number of pages is walked all the same, because a share that is not read makes the sum too large.
 */
#ifndef SANDPOOL_INIT_SHARE_H
#define SANDPOOL_INIT_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"

/* In bytes, from /proc/PID/status. */
struct sp_process {
    int pid;
    uint64_t anon, shared, file, swap, tables;
};

/*
 * Replaces p->anon and p->shared by the process's share of them. `dir`: its directory in /proc. False when the share
 * was not read: then shared pages still count in full. `walked`: what the walks of this census take on the machine that
 * their cost was measured on, in nanoseconds; 0 before the first one.
 */
bool sp_share_find(struct sp_process *p, int dir, const struct sp_budget *budget, int64_t *walked);

/* Makes the next call for each process read its share again: a share that was kept is too large when another process
 * has begun to share the pages since. True when there was one. */
bool sp_share_forget(void);

/* Whether two processes have the very same memory, as between vfork and exec. False when the kernel does not say. */
bool sp_share_is_same(int pid, int other);
/* Whether the kernel does say it. */
bool sp_share_is_known(void);

#endif
