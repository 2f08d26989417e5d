/*
 * The memory watch: init limits the memory of the whole sandbox where no cgroup does it. Only memory that was touched
 * counts. The watch begins when a command is a few milliseconds old, and looks often enough that no sum above twice the
 * limit lasts longer than 100 ms. Each look is bounded, so that a KILL never waits long: what cannot be examined in
 * time counts as too much.
 *
 * A look adds up what processes have mapped (census.h), scratch, System V objects, sockets (sockets.h), and what the
 * last pass over descriptors and mappings has found (scan.h). The figures of the machine (machine.h) decide when a new
 * pass is due, and bound what can be hidden: their growth counts as the sandbox's where the sandbox can hide memory.
 * SECURITY.md has the list. The watch needs no privilege.
 */
#ifndef SANDPOOL_INIT_MEMORY_H
#define SANDPOOL_INIT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "init/machine.h"
#include "init/plan.h"
#include "init/scan.h"
#include "init/sockets.h"

/* The memory in use when the command began. */
struct sp_memory_base {
    uint64_t shared_by_all; /* shared memory of the whole machine */
    struct sp_machine_kernel kernel;
    uint64_t kept;           /* memory of this sandbox that needs no process: scratch and System V objects */
    uint64_t of_interpreter; /* what a command that is run by the interpreter has from it */
};

struct sp_memory_watch {
    uint64_t limit;     /* bytes; 0: no sum is watched */
    uint64_t image;     /* bytes of mapped shared memory that do not count: see stem.h */
    unsigned most;      /* processes and threads; 0: not counted */
    bool too_many;      /* there were more: the command is killed, but not for its memory */
    int64_t count_cost; /* the processor time of the last count */
    bool by_cgroup;     /* a cgroup limits the sum; init counts only what none is charged for */
    bool own_network;   /* all sockets of the network namespace are the sandbox's */
    bool no_inet;       /* every socket is a unix socket */
    bool exec_filter;   /* a command has a filter that init does not have */
    bool over;          /* the watch has killed the command, and does not begin again */
    unsigned processors;
    struct sp_starting starting; /* set by the caller before a look */
    int proc, meminfo;           /* open while the watch is on, else -1 */
    struct sp_memory_base base;
    uint64_t free_lists; /* of the machine, when the watch began */
    struct sp_scan scan;
    /* As of the last pass. */
    uint64_t sysv;   /* bytes of System V objects */
    uint64_t queued; /* bytes in the queues of inet sockets */
    struct sp_sockets sockets;
    uint64_t lowest;                    /* the lowest sum of the machine's figures since the last pass */
    bool sockets_seen;                  /* every socket of the sandbox is in the table of some process */
    unsigned in_flight;                 /* descriptors that were seen in flight, by the last passes */
    unsigned hidden_passes;             /* passes in a row with something that can hide kernel memory */
    int64_t young_until;                /* when the command is no longer young; 0: it is not */
    int64_t next_look;                  /* SP_NEVER: the watch is off */
    unsigned breaches;                  /* looks in a row that found too much */
    unsigned far_breaches;              /* looks in a row that found more than twice the limit */
    int64_t first_breach, first_judged; /* when the first of these began, and ended */
};

/* Measure what the watch needs to know about the time before the command. They take microseconds, because the first is
 * part of each creation, and the second on the way to the ACK. `is_first`: no command has run here, so that a reading
 * from before the creation serves as well. */
void sp_memory_base_early(struct sp_memory_base *base, const struct sp_plan *plan, bool is_first);
void sp_memory_base_late(struct sp_memory_base *base);

#define SP_MEMORY_NOT_WATCHED {.proc = -1, .meminfo = -1, .next_look = SP_NEVER}

/*
 * Begins the looks, unless there is nothing to watch. Where the kernel shares out the processors among sessions
 * (sched(7), autogroup), init gets a share of its own from here on, as each session of its tenants has one: until then
 * it is in the session of the zygote, because a session costs each sandbox about 25 us, and most commands are short.
 */
void sp_memory_watch_begin(struct sp_memory_watch *watch, const struct sp_plan *plan,
                           const struct sp_memory_base *base);
/* To be called at next_look. True when the command has to be killed. */
bool sp_memory_watch_look(struct sp_memory_watch *watch);
void sp_memory_watch_end(struct sp_memory_watch *watch);

#endif
