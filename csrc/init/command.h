/* One command: from the request's payload to its exec. The same for every system. */
#ifndef SANDPOOL_INIT_COMMAND_H
#define SANDPOOL_INIT_COMMAND_H

#include "common/wire.h"

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

/*
 * As execvp(3) by the command's own PATH, without its fall-back to a shell: the errno that tells most is kept. Returns
 * only on failure; async-signal-safe.
 */
int sp_command_search(const struct sp_command *command);

#endif
