/*
 * The agent, for systems without namespaces: a resident program that `sandbox-exec` starts. Like init on Linux, it runs
 * and is confined while it waits for a request, serves the same requests, and passes its confinement on to the commands
 * that it starts. It has one thread and no heap. Unlike init it can be signalled by its tenant, which ends only the
 * tenant's own sandbox.
 */
#ifndef SANDPOOL_AGENT_AGENT_H
#define SANDPOOL_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/wire.h"

/* The descriptors that the launcher gives to the agent: host/agent/birth.c. */
#define SP_AGENT_CONTROL 3
#define SP_AGENT_LIFELINE 4 /* held open only by the agent, so that its end shows the host that the agent has ended */

/* serve.c: answers EXEC requests until the host's end closes or SIGTERM arrives. Then it kills all processes of the
 * sandbox. */
void sp_agent_serve(int control);

/* limits.c: sets the resource limits of this process. 0, or -errno with *why filled. */
int sp_agent_limit(const struct sp_rec_config *config, struct sp_rec_failed *why);
/* Whether getrlimit() confirms these limits. */
bool sp_agent_is_limited(const struct sp_rec_config *config);

/* prove.c: the facts SP_FACT_* that hold. Called in the scratch directory, confined and limited; `host` is a process
 * that must be out of reach. */
uint32_t sp_agent_prove(const struct sp_rec_config *config, pid_t host);

/* ---- implemented for each system: process_linux.c, process_darwin.c ---- */

/*
 * Called before the first command. 0, or -errno with *why filled: this process is not confined as it should be, and
 * then must not kill any process either. `host`: a process that must be out of reach.
 */
int sp_processes_set_up(pid_t host, struct sp_rec_failed *why);
/* Called in the child that becomes a command. */
void sp_processes_set_up_child(void);
/* Kills the processes of the sandbox that exist at this moment, at least every child. Reaps none. */
void sp_processes_kill_once(void);
/* Kills every process of the sandbox but this one, and reaps its children. */
void sp_processes_kill_all(void);
/* Whether a set-id program cannot be run, or runs without the other id. */
bool sp_set_id_is_refused(void);
/* ru_maxrss in bytes; each system has another unit. */
uint64_t sp_peak_bytes(const struct rusage *usage);

#endif
