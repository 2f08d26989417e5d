/* init: pid 1 of one sandbox, from the clone to its end. */
#ifndef SANDPOOL_INIT_INIT_H
#define SANDPOOL_INIT_INIT_H

#include "init/plan.h"

/* The zygote calls this in the cloned child, with the sandbox's end of the control socket. It never returns. */
_Noreturn void sp_init_main(const struct sp_plan *plan, int control);

/* serve.c: sends READY and serves EXEC requests; returns when the host has closed its end of the control socket or
 * sends something malformed. */
void sp_init_serve(const struct sp_plan *plan, int control, const struct sp_record *ready);

#endif
