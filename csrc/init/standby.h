/*
 * The standby: the process that will be the next command, made before the request for it comes. It waits on the control
 * socket, reads the request itself, and execs: no clone and no hand-over on the request's path.
 *
 * Until it execs it shares init's memory (CLONE_VM) and runs our code only. The two never work at the same time: init
 * sleeps in sigwait from the clone to the standby's end, and so neither of them sees the other's errno.
 */
#ifndef SANDPOOL_INIT_STANDBY_H
#define SANDPOOL_INIT_STANDBY_H

#include <stdatomic.h>
#include <sys/types.h>

#include "init/memory.h"
#include "init/plan.h"

struct sp_standby {
    const struct sp_plan *plan;
    int control;
    pid_t pid;
    /* What the standby leaves for init. */
    _Atomic uint32_t id;         /* of the EXEC it has acknowledged; 0: none yet */
    _Atomic uint32_t not_execed; /* 0, by the kernel's hand, once it has execed or ended */
    struct sp_memory_base base;
    int control_error;        /* -errno: the host is gone or not to be understood */
    struct sp_rec_failed why; /* stage != 0: the command could not be started */
};

/* Starts the standby. 0 or -errno. */
int sp_standby_start(struct sp_standby *standby, const struct sp_plan *plan, int control);

#endif
