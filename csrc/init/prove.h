/*
 * init proves its isolation after it has confined itself and before it sends READY. It reports only facts that it has
 * observed. The proofs change nothing, and no tenant can influence them, because none has run yet.
 *
 * Proving everything takes about 180 us, most of it in /proc/self, whose entries the kernel creates on first use. So
 * the first sandbox of a zygote is a rehearsal, which no tenant gets: it proves what is the same for all sandboxes,
 * because they are created by the same calls with the same arguments. Each other sandbox proves only what depends on
 * its own steps.
 */
#ifndef SANDPOOL_INIT_PROVE_H
#define SANDPOOL_INIT_PROVE_H

#include "init/plan.h"

struct sp_proof {
    uint32_t facts; /* SP_FACT_* */
    int status;     /* a descriptor of /proc/self/status, opened before Landlock forbids it; -1: none */
};

/* The namespaces of the calling process, by the inodes of /proc/self/ns; 0 for a kind that the kernel does not have. */
void sp_namespaces_of_self(uint64_t inodes[SP_NAMESPACES]);
/* The number of seccomp filters of the calling process; 0 when it cannot be read. */
unsigned sp_filters_of_self(void);

/* Proves the namespaces, the id maps and /proc, once all namespaces and mounts are made. Only in the rehearsal. */
void sp_prove_namespaces(const struct sp_plan *plan, struct sp_proof *proof);
/* Proves the confinement, once it is complete. `landlock_abi`: the ABI that was enforced. Closes proof->status. */
void sp_prove_confinement(const struct sp_plan *plan, uint32_t landlock_abi, struct sp_proof *proof);

/* prove_tier.c: what only the Landlock tier proves. */
uint32_t sp_prove_tier(const struct sp_plan *plan);

#endif
