/*
 * The slots of released sandboxes, from the release until each has a fresh one: a FIFO queue, from which the janitor
 * begins births. Everything here runs under the lock. `replacing` counts the slots on this way, `surplus` those of them
 * whose place was filled meanwhile: the sandbox that is made for one of these is discarded.
 */
#include "common/clock.h"
#include "host/pool/state.h"

void sp_recycle_put(sp_pool *pool, uint32_t index) {
    struct sp_slot *slot = &pool->slots[index];
    slot->next = SP_NO_SLOT;
    slot->released_at = sp_now();
    pool->replacing++;
    if (pool->recycle_tail != SP_NO_SLOT) {
        pool->slots[pool->recycle_tail].next = index;
    } else {
        pool->recycle_head = index;
    }
    pool->recycle_tail = index;
}

uint32_t sp_recycle_next(sp_pool *pool) {
    uint32_t index = pool->recycle_head;
    if (index != SP_NO_SLOT) {
        pool->recycle_head = pool->slots[index].next;
        pool->recycle_tail = pool->recycle_head == SP_NO_SLOT ? SP_NO_SLOT : pool->recycle_tail;
    }
    return index;
}

void sp_recycle_failed(sp_pool *pool, uint32_t slot, unsigned reason) {
    pool->replacing--;
    if (pool->surplus != 0) {
        pool->surplus--; /* it was counted as evicted before */
    } else {
        sp_pool_count_eviction(pool, reason, NULL);
        if (!sp_waiters_hand_failure(pool)) {
            sp_ledger_add(pool, 0 - SP_LEDGER_RECYCLING);
        }
    }
    sp_pool_free_slot(pool, slot);
}

void sp_recycle_done(sp_pool *pool, uint32_t slot, struct sp_session *session) {
    pool->replacing--;
    if (pool->surplus != 0 && pool->takeovers.head == NULL) {
        pool->surplus--;
        sp_pool_discard(pool, session);
        sp_pool_free_slot(pool, slot);
        return;
    }
    pool->recycled++;
    sp_pool_record_latency(pool, SP_LATENCY_RECYCLE, sp_now() - pool->slots[slot].released_at);
    if (pool->takeovers.head != NULL) {
        pool->slots[slot].session = session;
        (void)sp_poller_add(&pool->poller, session->pidfd, slot);
        (void)sp_waiters_hand_over(pool, slot);
    } else {
        sp_pool_make_idle(pool, slot, session);
        sp_ledger_add(pool, SP_LEDGER_IDLE - SP_LEDGER_RECYCLING);
    }
}
