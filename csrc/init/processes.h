/*
 * The number of processes of a sandbox where RLIMIT_NPROC cannot limit it: the kernel counts all processes of a user of
 * the host together, those of other sandboxes included. Before Linux 5.14 it does so everywhere, and in the Landlock
 * tier always, unless each lease has an id of its own. There the memory watch counts them, too.
 */
#ifndef SANDPOOL_INIT_PROCESSES_H
#define SANDPOOL_INIT_PROCESSES_H

#include <stdbool.h>

struct sp_plan;

/* Whether this kernel counts the processes of a user, and not of a user namespace. */
bool sp_processes_are_of_user(void);
/* Whether init has to count: the kernel's count is another one, and the configuration has a limit. */
bool sp_processes_are_watched(const struct sp_plan *plan);
/* Whether tenants have an RLIMIT_NPROC. In the Landlock tier it may bound all processes of the user (landlock_tier.h),
 * so that init counts besides. */
bool sp_processes_have_limit(const struct sp_plan *plan);
/* The threads of all tenants in this /proc; the count ends when it is above `most`. */
unsigned sp_processes_count(int proc, unsigned most);

#endif
