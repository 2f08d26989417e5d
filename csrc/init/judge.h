/*
 * Decides whether what one look of the memory watch has found is too much: adds up what processes and files show, what
 * the kernel keeps for them, and what may be hidden.
 */
#ifndef SANDPOOL_INIT_JUDGE_H
#define SANDPOOL_INIT_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"
#include "init/census.h"
#include "init/memory.h"

#define SP_THREAD_BYTES (UINT64_C(32) << 10) /* its kernel stack and the kernel's structures for it */

static inline uint64_t sp_above(uint64_t n, uint64_t free) { return n > free ? n - free : 0; }

static inline uint64_t sp_smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

static inline uint64_t sp_larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

struct sp_look {
    struct sp_memory_watch *watch;
    struct sp_budget budget;
    struct sp_census census;
    uint64_t kept, shared_by_all;
    struct sp_machine_kernel kernel;
    bool certain; /* too much, and no vfork can be the reason */
    bool far;     /* see struct sp_verdict; pages that processes share count once */
    bool by_scan; /* too much only because of what a pass over the descriptors has found */
};

/* Shared memory that processes have mapped. The image of an interpreter is not the tenant's: see stem.h. */
static inline uint64_t sp_judge_mapped(const struct sp_look *look) {
    return sp_above(look->census.mapped, look->watch->image);
}

struct sp_verdict {
    bool too_much;
    bool far;       /* what processes show is above twice the limit */
    bool suspected; /* it would be too much if the sandbox had caused all growth of the machine's figures */
    bool by_scan;
};

/* The sum of what processes and files show. */
uint64_t sp_judge_plain(const struct sp_look *look);
struct sp_verdict sp_judge(const struct sp_look *look);

#endif
