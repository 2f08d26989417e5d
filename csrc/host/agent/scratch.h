/* Private directories of sandboxes, where they are not mounts that vanish by themselves. */
#ifndef SANDPOOL_HOST_AGENT_SCRATCH_H
#define SANDPOOL_HOST_AGENT_SCRATCH_H

#include <stdbool.h>

/*
 * Removes up to `budget` entries of what is below `name` in the directory `root`, and in the end `name` itself. The
 * tree is a tenant's: no link is followed, no depth is too deep, and what cannot be removed is left. True while there
 * is more to do.
 */
bool sp_scratch_remove(int root, const char *name, unsigned budget);

#endif
