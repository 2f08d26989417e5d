/* The exec of a command, in the process that becomes it. */
#ifndef SANDPOOL_INIT_EXEC_H
#define SANDPOOL_INIT_EXEC_H

#include "init/command.h"
#include "init/plan.h"

/* Makes the calling process the command. Returns only on failure, with `why` filled; async-signal-safe. */
void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why);

#endif
