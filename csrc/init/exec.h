/* One command: from the request's payload to its exec. */
#ifndef SANDPOOL_INIT_EXEC_H
#define SANDPOOL_INIT_EXEC_H

#include "init/plan.h"

struct sp_command {
    const char *cwd;
    char **argv; /* NULL-terminated */
    char **env;
    int fds[3]; /* what becomes 0, 1 and 2; owned by the caller */
};

/*
 * Splits the payload into the command. `vector` has room for argc + envc + 2 pointers. 0 or -EBADMSG.
 */
int sp_command_parse(const struct sp_rec_exec *exec, char *payload, char **vector, struct sp_command *command);

/* Makes the calling process the command. Returns only on failure, with `why` filled; async-signal-safe. */
void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why);

#endif
