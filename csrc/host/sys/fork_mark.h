/* A byte that is 1 in the process that created it and 0 in every child forked from it. It replaces getpid() on the hot
 * path. */
#ifndef SANDPOOL_HOST_SYS_FORK_MARK_H
#define SANDPOOL_HOST_SYS_FORK_MARK_H

#include <stdint.h>

/* NULL on ENOMEM. Freed by sp_fork_mark_free(), in the same process only. */
volatile const uint8_t *sp_fork_mark_new(void);
void sp_fork_mark_free(volatile const uint8_t *mark);

#endif
