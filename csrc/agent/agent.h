/*
 * The resident agent, for systems without namespaces: the program that is started below `sandbox-exec` and is, as init
 * is on Linux, live and confined while it waits. One thread, no heap. It serves the same requests; what it starts
 * inherits its confinement. Unlike init it can be signalled by its tenant: that ends the tenant's own sandbox, and is
 * all that it ends.
 */
#ifndef SANDPOOL_AGENT_AGENT_H
#define SANDPOOL_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/wire.h"

/* What the launcher puts there; agent/launcher.c. */
#define SP_AGENT_CONTROL 3
#define SP_AGENT_LIFELINE 4 /* held open, by the agent alone: its end tells the host of the agent's */

/* serve.c: answers EXEC requests until the host's end closes or SIGTERM comes; then no process of the sandbox is left.
 */
void sp_agent_serve(int control);

/* limits.c: what the rlimits of a process can enforce. 0, or -errno with `why` filled. */
int sp_agent_limit(const struct sp_rec_config *config, struct sp_rec_failed *why);
/* Whether they read back as they were set: the fixed ones. */
bool sp_agent_is_limited(const struct sp_rec_config *config);

/* prove.c: SP_FACT_*. In the scratch directory, confined and limited; `host` is to be out of reach. */
uint32_t sp_agent_prove(const struct sp_rec_config *config, pid_t host);

/* ---- what each system does in its own way: process_linux.c, process_darwin.c ---- */

/*
 * Before the first command. 0, or -errno with `why` filled: what is told of the confinement is not so, and then this
 * process must not kill anything either. `host`: the process that must be out of reach.
 */
int sp_processes_set_up(pid_t host, struct sp_rec_failed *why);
/* In the child that becomes a command. */
void sp_processes_set_up_child(void);
/* Kills what is there at this moment, and at least every child; reaps none. */
void sp_processes_kill_once(void);
/* Kills every process of the sandbox but this one, and reaps what is its child. */
void sp_processes_kill_all(void);
/* Whether a set-id program cannot be run, or gains nothing by it. */
bool sp_set_id_is_refused(void);
/* ru_maxrss, which has another unit on each system. */
uint64_t sp_peak_bytes(const struct rusage *usage);

#endif
