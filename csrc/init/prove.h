/*
 * init looks at itself, after it has confined itself and before it says READY: what it does not see to be so is not
 * told. Nothing here changes anything, and no answer of a tenant's can come in: there is none yet.
 *
 * Looking at everything takes about 180 us, most of it in /proc/self, whose entries the kernel makes when they are
 * first asked for. So the first sandbox of a zygote is a rehearsal that no tenant ever gets: it looks at all that is
 * the same for all sandboxes, which are made by the same calls with the same arguments. Every sandbox looks for itself
 * at what it has done to itself alone.
 */
#ifndef SANDPOOL_INIT_PROVE_H
#define SANDPOOL_INIT_PROVE_H

#include "init/plan.h"

struct sp_proof {
    uint32_t facts; /* SP_FACT_* */
    int status;     /* its /proc/self/status, opened while Landlock allows it */
};

/* The namespaces of the calling process, by the inodes of /proc/self/ns; 0 for a kind that the kernel does not have. */
void sp_namespaces_of_self(uint64_t inodes[SP_NAMESPACES]);
/* How many seccomp filters are on the calling process; 0 when that cannot be told. */
unsigned sp_filters_of_self(void);

/* Where it is: once all namespaces and mounts are made. Only in the rehearsal. */
void sp_prove_namespaces(const struct sp_plan *plan, struct sp_proof *proof);
/* What it can do: once it is confined. `landlock_abi`: what was enforced. Closes proof->status. */
void sp_prove_confinement(const struct sp_plan *plan, uint32_t landlock_abi, struct sp_proof *proof);

#endif
