/*
 * What the host's paths of a configuration lead to. A zygote binds them when it starts, and the kernel goes on showing
 * the same files when the host renames others into their places. So the launcher looks at every birth and at the first
 * command of a lease. If a path leads elsewhere by then, another zygote has to be started, which binds it anew.
 */
#ifndef SANDPOOL_HOST_LINUX_PATHS_H
#define SANDPOOL_HOST_LINUX_PATHS_H

#include <stdint.h>

#include "sandpool.h"

struct sp_paths;

/* 0 or -ENOMEM. *made becomes NULL if the options name no path of the host. */
int sp_paths_make(const sp_sandbox_options *options, struct sp_paths **made);
void sp_paths_free(struct sp_paths *paths);
/*
 * A number that changes when a path leads to another file or directory, when its owner changes, and when something is
 * mounted or unmounted on it or below it. 0: a path does not exist; *error then says which one. Any thread. One
 * statx(2) for each path, and a poll(2); after a change of the host's mounts, all of them are read.
 */
uint64_t sp_paths_look(struct sp_paths *paths, sp_error *error);

#endif
