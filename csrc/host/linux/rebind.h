/*
 * Has a zygote bind anew what leads elsewhere by now. Of binds that lie in each other all are bound anew when one of
 * them has changed: they form a *group*.
 *
 * The zygote resolves the path itself, in the host's mounts. A host that is root does that for the zygote, which could
 * neither reach every path nor idmap it, and sends the mount tree.
 */
#ifndef SANDPOOL_HOST_LINUX_REBIND_H
#define SANDPOOL_HOST_LINUX_REBIND_H

#include "host/linux/paths.h"
#include "host/linux/zygote.h"

/*
 * 0: `z` shows to later sandboxes what `now` has found; -EAGAIN: its socket is full, or a path has vanished since: look
 * again; -ENOTSUP: another zygote has to be started. Under the launcher's lock.
 */
int sp_rebind(struct sp_zygote *z, const struct sp_paths *paths, const struct sp_look *now);
/* A birth has failed because a path could not be bound; `bindings` is what `z` was asked for last, before that birth.
 * Under the lock. */
void sp_rebind_failed(struct sp_zygote *z, const struct sp_paths *paths, uint32_t bindings);
/* A detached tree of what a path leads to for root, or -errno: -EPERM if this process may not make one. */
int sp_rebind_open_tree(const struct sp_paths *paths, const struct sp_path *path);

#endif
