/*
 * The standby: the process that will become the next command. init starts it before the request arrives. It waits on
 * the control socket, reads the request itself, and execs, so that a request waits for no clone and no hand-over.
 *
 * Until its exec it shares init's memory (CLONE_VM) and runs only our code. The two never work at the same time: init
 * sleeps in sigwait from the clone to the end of the standby, so that neither of them changes the other's errno.
 */
#ifndef SANDPOOL_INIT_STANDBY_H
#define SANDPOOL_INIT_STANDBY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "init/memory.h"
#include "init/plan.h"

struct sp_standby {
    const struct sp_plan *plan;
    int control;
    pid_t pid;
    /* Written by the standby or, where it says so, by the kernel; read by init. */
    _Atomic uint32_t id;         /* of the EXEC that it has acknowledged; 0: none yet */
    _Atomic uint32_t not_execed; /* the kernel clears it when a standby that has acknowledged has execed or ended */
    struct sp_memory_base base;
    int control_error;        /* -errno: the host is gone or has sent something malformed */
    bool restricts;           /* it has received NAMESPACES: the next commands are restricted, see workspace.h */
    bool yielded;             /* it has received SERVE: init has to read the request that follows */
    struct sp_rec_failed why; /* stage != 0: the command could not be started */
};

/* Starts the standby. 0 or -errno. */
int sp_standby_start(struct sp_standby *standby, const struct sp_plan *plan, int control);

#endif
