/* Flags of mounts, where mount_setattr(2) is there and where it is not. */
#ifndef SANDPOOL_INIT_MOUNT_FLAGS_H
#define SANDPOOL_INIT_MOUNT_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Adds these MOUNT_ATTR_* (of RDONLY, NOSUID, NODEV and NOEXEC) to the mount whose root the descriptor `mount` is, and
 * if `whole`, to every mount below it; all other flags of each stay as they are. 0 or -errno; after an error some
 * mounts may have the flags and others not.
 */
int sp_mount_flags_add(int mount, uint64_t attrs, bool whole);

/* The same for a tree that no mount namespace has yet, which then becomes private and is attached at `target`. When
 * this fails, nothing is attached. */
int sp_mount_attach(int tree, int target, uint64_t attrs);

#endif
