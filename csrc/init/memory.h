/*
 * init's watch over the memory of the whole sandbox, for where no cgroup does it: RLIMIT_DATA bounds one process, and
 * none of what is shared. It looks often enough that no sum above twice the limit lasts longer than 100 ms, and each
 * look is bounded: what cannot be looked through in time counts as too much, and a KILL never waits long.
 *
 * A look adds up what processes have mapped (census.h), scratch, System V objects, sockets (sockets.h), and what the
 * last pass over descriptors and mappings has found (scan.h). The figures of the machine (machine.h) tell when a new
 * pass is due, and bound what can be hidden: they count as the sandbox's own where it hides something. SECURITY.md has
 * the list. No privilege is needed.
 */
#ifndef SANDPOOL_INIT_MEMORY_H
#define SANDPOOL_INIT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "init/plan.h"
#include "init/scan.h"
#include "init/sockets.h"

/* What was there when the command began. */
struct sp_memory_base {
    uint64_t shared_by_all; /* shared memory of the whole machine */
    uint64_t kernel;        /* what the kernel of the machine holds for itself */
    uint64_t kept;          /* of this sandbox, by no process */
};

struct sp_memory_watch {
    uint64_t limit;   /* bytes; 0: no sum is watched */
    bool by_cgroup;   /* that has the sum, and leaves locks to init */
    bool own_network; /* all sockets of the network namespace are the sandbox's */
    bool only_pairs;  /* no socket can be other than half of a pair, whose buffers' size is known */
    bool over;        /* the command has been ended for it: the watch does not begin again */
    unsigned processors;
    int proc, meminfo; /* open while it is on, else -1 */
    struct sp_memory_base base;
    uint64_t free_lists; /* of the machine, when the watch began */
    struct sp_scan scan;
    /* As of the last pass. */
    uint64_t sysv;   /* bytes of System V objects */
    uint64_t queued; /* bytes that waited in inet sockets */
    struct sp_sockets sockets;
    uint64_t lowest;                    /* of the machine's figures since the last pass */
    unsigned hidden_passes;             /* passes in a row with something that can hide memory of the kernel's */
    int64_t next_look;                  /* SP_NEVER: nothing is watched */
    unsigned breaches;                  /* looks in a row that found too much */
    int64_t first_breach, first_judged; /* when the first of these began, and ended */
};

/* What the watch needs to know of before the command begins; in microseconds, for the path to READY and to the ACK. */
void sp_memory_base_early(struct sp_memory_base *base, const struct sp_plan *plan);
void sp_memory_base_late(struct sp_memory_base *base);

#define SP_MEMORY_NOT_WATCHED {.proc = -1, .meminfo = -1, .next_look = SP_NEVER}

/* The looks begin now, unless there is nothing to be watched. */
void sp_memory_watch_begin(struct sp_memory_watch *watch, const struct sp_plan *plan,
                           const struct sp_memory_base *base);
/* To be called when next_look has come. True when the command is to be ended. */
bool sp_memory_watch_look(struct sp_memory_watch *watch);
void sp_memory_watch_end(struct sp_memory_watch *watch);

#endif
