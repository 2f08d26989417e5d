/*
 * The Landlock tier: a sandbox where the kernel refuses namespaces. init and its tenants see the host's processes and
 * files; Landlock, seccomp and the user's ids keep them away from both. Instead of a pid namespace, init is the
 * subreaper of its tenants, and kills them all in one call before it ends.
 *
 *   D0  the zygote's domain: signals reach only what the zygote has started (Landlock ABI 6). It is inside of such a
 *       domain of the warden's (zygote/warden.c)
 *   D1  init's domain: the system read-only, the directory of the lease, /proc
 *   D2  the tenants' domain, a new one for each command or process: the same without /proc, and without a way to init
 *
 * With SP_CONFIG_LEASE_UIDS init and tenants have ids that nobody else on the host has, one of each lease. Without,
 * they have the user's own, and before ABI 6 all tenants of a lease stay in one process group.
 */
#ifndef SANDPOOL_INIT_LANDLOCK_TIER_H
#define SANDPOOL_INIT_LANDLOCK_TIER_H

#include <sys/types.h>

#include "init/plan.h"

/* A tenant's id is this one plus the pid of its init, which no other living process has. init's real and saved ids are
 * higher, so that it can signal a tenant and no tenant can signal it. */
#define SP_LEASE_ID 2000000000u
#define SP_LEASE_ID_OF_INIT (SP_LEASE_ID + (1u << 22)) /* the largest number of processes, PID_MAX_LIMIT */

/* What init may open beside what tenants may: /proc, and terminals, of which it opens a new one for a process. */
#define SP_TIER_OF_INIT                                                                \
    {.path = "/proc"}, {.path = "/dev/ptmx", .writable = true, .dispensable = true}, { \
        .path = "/dev/pts", .writable = true, .dispensable = true                      \
    }

/* ---- init ---- */

/* Makes the directory of the lease, and takes its ids. The process ends with the zygote. */
int sp_tier_enter(const struct sp_plan *plan, struct sp_rec_failed *why);
/* The check of a bind's rule: whether what the path leads to may be shown. */
int sp_tier_check_bind(int path, const struct sp_landlock_rule *rule);
/* Enters D1. *abi: the ABI that is enforced, never 0. Needs no_new_privs. */
int sp_tier_restrict(const struct sp_plan *plan, uint32_t *abi, struct sp_rec_failed *why);
/* Starts the supervisor, where init and tenants have the user's id; see supervise.h. Without one, its calls are
 * refused. After D1, so that it can do nothing that init cannot do. */
int sp_tier_supervise(const struct sp_plan *plan, struct sp_rec_failed *why);
/* Whether the zygote has ended: then this sandbox has to end. */
bool sp_tier_is_orphan(const struct sp_plan *plan);
/* Kills all tenants. 0, or -1 when there was none. */
int sp_tier_kill(const struct sp_plan *plan);
/* RLIMIT_NPROC of a tenant. With the user's own id it bounds all processes of the user together. */
uint64_t sp_tier_processes(const struct sp_plan *plan);
/* A child was started: puts it where sp_tier_kill() reaches it. The child does the same by sp_tier_child(). */
void sp_tier_started(const struct sp_plan *plan, pid_t child);
/* Nobody of the tenants lives. */
void sp_tier_all_ended(void);

/* ---- a child of init, before its exec ---- */

/* Enters a domain D2 and takes the ids of a tenant. 0 or -errno. Async-signal-safe. */
int sp_tier_child(const struct sp_plan *plan);
/* Whether a tenant has to stay in its process group, and so cannot have a session of its own. */
bool sp_tier_is_grouped(const struct sp_plan *plan);
/* Puts the directory of the lease in the place of /tmp in HOME and TMPDIR. */
void sp_tier_set_home(char **env);

#endif
