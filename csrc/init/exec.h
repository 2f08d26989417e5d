/* The last steps of the process that becomes a command. */
#ifndef SANDPOOL_INIT_EXEC_H
#define SANDPOOL_INIT_EXEC_H

#include "init/command.h"
#include "init/plan.h"

/* The steps before the exec: limits, session, streams, working directory, filter. 0, or -errno with *why filled.
 * Async-signal-safe. */
int sp_command_enter(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why);
/* Turns the calling process into the command. Returns only on failure, with *why filled. Async-signal-safe. */
void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why);

#endif
