/*
 * How much memory the sockets of the sandbox's own network namespace may hold. The kernel counts all of them for the
 * namespace, including those that are in flight in the queue of another socket and so in no process's table.
 */
#ifndef SANDPOOL_INIT_SOCKETS_H
#define SANDPOOL_INIT_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"

/* What netlink sockets may take where a cgroup limits the memory: 40 of them that nobody reads from. */
#define SP_SOCKETS_NETLINK_MAX (UINT64_C(8) << 20)

#define SP_SOCKETS_FREE 64 /* sockets that are not counted: ordinary programs have as many */

struct sp_sockets {
    unsigned local; /* AF_UNIX; each counts as full */
    unsigned inet;  /* TCP and UDP; sp_sockets_queued() reads how much they hold */
};

/* Bytes that one end of a socket pair may hold; determined once. */
uint64_t sp_sockets_pair_bytes(void);
/* Counts the sockets in the network namespace of the caller. `proc`: a descriptor of /proc. */
struct sp_sockets sp_sockets_count(int proc);
/* Bytes that the queues of TCP and UDP sockets take. False when the budget did not suffice to count them all. */
bool sp_sockets_queued(int proc, const struct sp_budget *budget, uint64_t *bytes);
/*
 * Bytes that netlink sockets take, in queues and for themselves. No cgroup of Linux 5.10 is charged for either. False
 * when they are above SP_SOCKETS_NETLINK_MAX, which ends the count: no list of sockets takes long to read.
 */
bool sp_sockets_netlink(int proc, uint64_t *bytes);

/* Whether there is a unix connection that nobody has accepted yet: what waits in its queue is in no process's table.
 * Also true when the budget did not suffice to look at all sockets. */
bool sp_sockets_wait(int proc, const struct sp_budget *budget);

#endif
