/*
 * cgroups v2 of one launcher. Below a directory that the host may write to:
 *
 *   <dir>/zygote   the zygote
 *   <dir>/s1 ...   one per sandbox, with its limits; the sandbox is born inside, and the directory goes after it
 *
 * Directories are made ahead, and removed, by tend(), off every caller's path. Any thread may use it. Implemented by
 * file: linux/cgroup.c (all of them) and linux/cgroup_dir.c (one).
 */
#ifndef SANDPOOL_HOST_LINUX_CGROUP_H
#define SANDPOOL_HOST_LINUX_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "host/sandbox/usage.h"
#include "sandpool.h"

struct sp_cgroups;

/*
 * Makes options->cgroup_dir, whose parent exists, and enables the controllers that the limits need: at least those of
 * options->cgroup_required (SP_CGROUP_*). NULL with *error filled, and nothing left behind.
 */
struct sp_cgroups *sp_cgroups_open(const sp_sandbox_options *options, sp_error *error);
/* The controllers that enforce a limit here, SP_CGROUP_*. */
uint32_t sp_cgroups_enforced(const struct sp_cgroups *cgroups);
/* Moves a process to <dir>/zygote; what it forks is there too. 0 or -errno. */
int sp_cgroups_adopt(struct sp_cgroups *cgroups, pid_t pid);
/* Removes every directory, once all processes are dead; gives up at the deadline. Later calls fail. */
void sp_cgroups_close(struct sp_cgroups *cgroups, int64_t deadline);
void sp_cgroups_free(struct sp_cgroups *cgroups);

/* A cgroup for a new sandbox: its number (> 0), and in *fd the directory, the caller's. -errno on failure. */
int64_t sp_cgroup_take(struct sp_cgroups *cgroups, int *fd);
/* Kills all that is in it. */
void sp_cgroup_kill(struct sp_cgroups *cgroups, uint32_t number);
/* Its sandbox is over: tend() removes it when it is empty. */
void sp_cgroup_leave(struct sp_cgroups *cgroups, uint32_t number);
/* Whether the process is in it. */
bool sp_cgroup_holds(const struct sp_cgroups *cgroups, uint32_t number, pid_t pid);
/* 0 or -errno. */
int sp_cgroup_usage(const struct sp_cgroups *cgroups, uint32_t number, struct sp_usage *usage);

/* Fills the stash, removes what is empty. True while something waits for its processes to be gone. */
bool sp_cgroups_tend(struct sp_cgroups *cgroups);

#endif
