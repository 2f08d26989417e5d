/*
 * The number of processes of a sandbox where RLIMIT_NPROC cannot limit it: before Linux 5.14 the kernel counts all
 * processes of a user of the host together, those of other sandboxes included. There the memory watch counts them, too.
 */
#ifndef SANDPOOL_INIT_PROCESSES_H
#define SANDPOOL_INIT_PROCESSES_H

#include <stdbool.h>

struct sp_plan;

/* Whether this kernel counts the processes of a user, and not of a user namespace. */
bool sp_processes_are_of_user(void);
/* Whether init has to count: the kernel's count is another one, and the configuration has a limit. */
bool sp_processes_are_watched(const struct sp_plan *plan);
/* The threads of all tenants in this /proc; the count ends when it is above `most`. */
unsigned sp_processes_count(int proc, unsigned most);

#endif
