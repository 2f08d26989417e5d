/*
 * Mount trees of the host, made by whoever has the rights: the zygote, or a host that is root. Each is a detached copy
 * of what a path leads to. Linux only: tree_linux.c.
 *
 * An earlier tenant may have written to a writable bind. So no symlink inside a bind is followed, and all work is done
 * with descriptors, from the source to the mount point.
 */
#ifndef SANDPOOL_COMMON_TREE_H
#define SANDPOOL_COMMON_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/idmap.h"

/* O_PATH descriptors, or -errno. The first resolves a path below `root` as if that were "/"; the second follows no
 * link, and does not leave `dir`. */
int sp_tree_open_path(int root, const char *path);
int sp_tree_open_inside(int dir, const char *path);

/*
 * Whether `source`, to which `path` leads, may be shown. Checks the configured path and the path that it leads to: a
 * link must not give access to what its target's name would be refused for. `base`: where the host's tree is mounted,
 * "" for "/". 0 or -errno.
 */
int sp_tree_check(int source, const char *path, bool writable, const char *base);

/* The MOUNT_ATTR_* of every mount of a tree: nosuid, nodev, and read-only unless `writable`. */
uint64_t sp_tree_attrs(bool writable);

/*
 * A detached copy of what is mounted at `source` and, if `whole`, below it. It has these attributes, no other process
 * sees it, and later mounts of the host do not propagate to it. Where mount_setattr(2) is missing or refused, all that
 * waits until the tree is attached: sp_mount_attach(). -errno on failure.
 */
int sp_tree_clone(int source, bool writable, bool whole);

/*
 * Idmaps the detached tree: the owner of its root appears as the sandbox's user; with `group` its group as well, which
 * a command needs where it creates files. `kept` may be NULL. For root only. Directories in which root keeps secrets of
 * the machine stay as they are when they are read-only. After a failure nothing has changed, and the tree keeps its
 * owners.
 */
void sp_tree_show_as_own(int tree, int source, const char *path, bool writable, bool group, struct sp_idmap_kept *kept);

#endif
