/*
 * The standby: the process that will become the next command. init starts it before the request arrives. It waits on
 * the control socket, reads the request itself, and execs, so that a request waits for no clone and no hand-over.
 *
 * Until its exec it shares init's memory (CLONE_VM) and runs only our code. The two never work at the same time: init
 * sleeps in sigwait from the clone to the end of the standby, so that neither of them changes the other's errno.
 *
 * Where the zygote is an interpreter (stem.h), the standby is a plain fork. It shares only the struct below with init,
 * and not with a tenant: it executes a program, or unmaps the struct before it runs a tenant's code itself; and other
 * processes of init, which may run such code, too, do not get it.
 */
#ifndef SANDPOOL_INIT_STANDBY_H
#define SANDPOOL_INIT_STANDBY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "init/memory.h"
#include "init/plan.h"
#include "init/runtime.h"

struct sp_standby {
    const struct sp_plan *plan;
    int control;
    pid_t pid;
    pid_t keeper; /* see keeper.h; 0: it has none */
    /* Written by the standby or, where it says so, by the kernel; read by init. */
    _Atomic uint32_t id;         /* of the EXEC that it has acknowledged; 0: none yet */
    _Atomic uint32_t not_execed; /* the kernel clears it when a standby that has acknowledged has execed or ended */
    struct sp_memory_base base;
    int control_error;           /* -errno: the host is gone or has sent something malformed */
    uint64_t user_us, system_us; /* of a forked one, up to its ACK: the time that the interpreter took to prepare */
    uint64_t max_rss_bytes;      /* its memory at that time, if the command is for the interpreter */
    bool restricts;              /* it has received NAMESPACES: the next commands are restricted, see workspace.h */
    struct sp_runtime *runtime;  /* what waits for code; NULL: nothing of the kind is configured */
    bool hands_over;             /* it has received an EXEC for the runtime, which is the command from now on */
    bool yielded;                /* it has received SERVE: init has to read the request that follows */
    bool is_first;               /* of its sandbox, which is not ready before it */
    bool is_last;                /* the host expects no request after this one */
    struct sp_rec_failed why;    /* stage != 0: the command could not be started */
};

/* The standby of this sandbox, in memory that a forked one shares with init. NULL when there is no memory for it. */
struct sp_standby *sp_standby_memory(const struct sp_plan *plan);
/* The processes that init forks from now on do not get this memory, until it starts the next standby. */
void sp_standby_hide(struct sp_standby *standby);
/* Starts the standby. 0 or -errno; standby->why has the reason if its interpreter could not be prepared. */
int sp_standby_start(struct sp_standby *standby, const struct sp_plan *plan, int control, struct sp_runtime *runtime);

#endif
