/* Removes the private directories of sandboxes, where these are not mounts that end with their namespace. */
#ifndef SANDPOOL_HOST_SANDBOX_SCRATCH_H
#define SANDPOOL_HOST_SANDBOX_SCRATCH_H

#include <stdbool.h>

/*
 * Removes up to `budget` entries below `name` in the directory `root`, and finally `name` itself. A tenant has written
 * the tree, so this follows no link, copes with any depth, and leaves what cannot be removed. True while there is more
 * to do.
 */
bool sp_scratch_remove(int root, const char *name, unsigned budget);

#endif
