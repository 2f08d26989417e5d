/*
 * The cgroups (v2) of one launcher. Below a directory that the host may write to there are:
 *
 *   <dir>/zygote   the zygote
 *   <dir>/s1 ...   one for each sandbox, with its limits: the sandbox is created inside, the directory removed after it
 *
 * sp_cgroups_tend() creates directories in advance and removes those of dead sandboxes, so that no caller waits for
 * that. Any thread may call these functions. cgroup.c has the launcher's directory, cgroup_dir.c that of one sandbox.
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
 * Creates options->cgroup_dir, whose parent exists, and enables the controllers that the limits need. Those of
 * options->cgroup_required (SP_CGROUP_*) must be available. On failure returns NULL with *error filled, and leaves
 * nothing behind.
 */
struct sp_cgroups *sp_cgroups_open(const sp_sandbox_options *options, sp_error *error);
/* The controllers that enforce the limits of the sandboxes, SP_CGROUP_*. */
uint32_t sp_cgroups_enforced(const struct sp_cgroups *cgroups);
/* Moves a process to <dir>/zygote; its children will be there, too. 0 or -errno. */
int sp_cgroups_add_zygote(struct sp_cgroups *cgroups, pid_t pid);
/* Kills all processes and removes every directory; gives up at the deadline. Closes its descriptor. Later calls of
 * sp_cgroup_take() fail, and of the others do nothing. */
void sp_cgroups_close(struct sp_cgroups *cgroups, int64_t deadline);
void sp_cgroups_free(struct sp_cgroups *cgroups);

/* A cgroup for a new sandbox: returns its number (> 0), and in *fd its directory, which the caller closes; or -errno.
 */
int64_t sp_cgroup_take(struct sp_cgroups *cgroups, int *fd);
/* Kills all processes in the cgroup. Before Linux 5.14 it does nothing. */
void sp_cgroup_kill(struct sp_cgroups *cgroups, uint32_t number);
/* The sandbox has ended: sp_cgroups_tend() removes the directory when it is empty. */
void sp_cgroup_discard(struct sp_cgroups *cgroups, uint32_t number);
/* Whether the process is in the cgroup. */
bool sp_cgroup_contains(struct sp_cgroups *cgroups, uint32_t number, pid_t pid);
/* What the sandbox has used so far. 0 or -errno. */
int sp_cgroup_usage(struct sp_cgroups *cgroups, uint32_t number, struct sp_usage *usage);

/* Fills the stash and removes empty directories. True while there are directories whose processes are not dead yet. */
bool sp_cgroups_tend(struct sp_cgroups *cgroups);

#endif
