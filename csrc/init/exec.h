/* One command: from the request's payload to a running child. */
#ifndef SANDPOOL_INIT_EXEC_H
#define SANDPOOL_INIT_EXEC_H

#include <sys/types.h>

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

/* Starts it as a child. Its pid, or -errno with `why` filled: then nothing of it runs. */
pid_t sp_command_spawn(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why);

#endif
