/* A descriptor that a sandbox has sent as the master of its terminal. Only Linux has such sandboxes. */
#ifndef SANDPOOL_HOST_EXECUTE_TERMINAL_H
#define SANDPOOL_HOST_EXECUTE_TERMINAL_H

#include <stdbool.h>

/* Whether it is the master of a pseudo-terminal, open for reading and writing, and nothing else. */
bool sp_is_terminal_master(int fd);

#endif
