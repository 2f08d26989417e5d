/*
 * What the sockets of the sandbox's own network namespace may hold. The kernel counts all of them there, also those
 * that are under way in the queue of another one and so in no process's table.
 */
#ifndef SANDPOOL_INIT_SOCKETS_H
#define SANDPOOL_INIT_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"

#define SP_SOCKETS_FREE 64 /* that many count as empty: it is what programs have */

struct sp_sockets {
    unsigned local; /* AF_UNIX; each may be full */
    unsigned inet;  /* TCP and UDP; what waits in them is asked for by sp_sockets_queued() */
};

/* Bytes that one end of a socket pair may hold; asked once. */
uint64_t sp_sockets_pair_bytes(void);
/* Of the network namespace of the caller. `proc`: a descriptor of /proc. */
struct sp_sockets sp_sockets_count(int proc);
/*
 * Bytes of the buffers of TCP and UDP sockets that are in use, as far as the budget lets them be counted. False when it
 * does not reach.
 */
bool sp_sockets_queued(int proc, const struct sp_budget *budget, uint64_t *bytes);

#endif
