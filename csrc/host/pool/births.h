/*
 * The births that the janitor has under way, to recycle and to refill, and the health checks of fresh sandboxes.
 * Neither is waited for: each is attended to when its socket is readable, or when it is due.
 */
#ifndef SANDPOOL_HOST_POOL_BIRTHS_H
#define SANDPOOL_HOST_POOL_BIRTHS_H

#include "host/pool/state.h"
#include "host/sys/back_off.h"

/* Poller keys of births; those of slots are smaller. */
#define SP_BIRTH_KEY (UINT64_C(1) << 32)

enum sp_birth_phase { SP_BIRTH_UNUSED, SP_BIRTH_STARTED, SP_BIRTH_CHECKED };

struct sp_birth_task {
    enum sp_birth_phase phase;
    bool recycles; /* else it refills */
    bool check;
    uint32_t slot; /* of a recycling entry */
    struct sp_birth birth;
    int64_t check_deadline;
};

struct sp_births {
    sp_pool *pool;
    /* The first options.refill_concurrency: enough to keep the zygote busy, few enough that a miss does not wait behind
     * a queue of them. */
    struct sp_birth_task tasks[SP_BIRTHS_MAX];
    uint32_t n;
    struct sp_back_off back_off;
    int64_t refill_after; /* refills wait until then; recycling does not, because an acquire may wait for it */
};

/* Begins what there is to do and room for. */
void sp_births_begin(struct sp_births *births);
/* The poller has reported this key. */
void sp_births_attend(struct sp_births *births, uint64_t key);
void sp_births_attend_overdue(struct sp_births *births);
/* When one of them is to be looked at, whatever its socket says; SP_NEVER: none is under way. */
int64_t sp_births_due(const struct sp_births *births);
/* Refills wait from now on, the longer the more often in a row `back_off` was used. */
void sp_births_put_refills_off(struct sp_births *births, struct sp_back_off *back_off);
void sp_births_end(struct sp_births *births);

#endif
