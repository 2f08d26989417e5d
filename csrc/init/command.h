/* One command: from the payload of the request to the exec. Shared by init and the agent. */
#ifndef SANDPOOL_INIT_COMMAND_H
#define SANDPOOL_INIT_COMMAND_H

#include <stdbool.h>

#include "common/wire.h"

struct sp_command {
    const char *cwd;
    char **argv; /* NULL-terminated */
    char **env;
    int fds[3];  /* become 0, 1 and 2; owned by the caller */
    int channel; /* of a request to run code: where the interpreter writes its results; -1: to be executed instead */
    bool for_runtime;     /* a runtime takes argv, which is not executed */
    bool has_terminal;    /* they are its terminal */
    uint32_t cpu_seconds; /* see struct sp_rec_exec */
};

/*
 * Splits the payload into the command. `vector` has room for argc + envc + 2 pointers. 0 or -EBADMSG.
 */
int sp_command_parse(const struct sp_rec_exec *exec, char *payload, char **vector, struct sp_command *command);

/* Limits the CPU time of the calling process and of each of its descendants. 0 or -errno. Async-signal-safe. */
int sp_command_limit_cpu(const struct sp_command *command);

/*
 * Like execvp(3), but with the PATH of the command's own environment and without the fall-back to a shell. Returns only
 * on failure, with EACCES rather than ENOENT if any directory of PATH gave EACCES. Async-signal-safe.
 */
int sp_command_search(const struct sp_command *command);

#endif
