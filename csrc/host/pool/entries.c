/*
 * The moves of a pool's entries: slots taken and freed, permits and the ring, eviction. Everything here but
 * sp_pool_lease_newest() runs under the pool's lock, beside threads that take entries without it.
 */
#include "host/pool/state.h"

void sp_ledger_add(sp_pool *pool, uint64_t delta) {
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger + delta)) {
    }
}

uint32_t sp_pool_take_slot(sp_pool *pool) {
    uint32_t index = pool->free_head;
    if (index != SP_NO_SLOT) {
        pool->free_head = pool->slots[index].next;
    } else if (pool->fresh < SP_COUNT_MAX) {
        index = pool->fresh++;
    } else {
        return SP_NO_SLOT;
    }
    sp_slot_take(&pool->slots[index]);
    return index;
}

void sp_pool_free_slot(sp_pool *pool, uint32_t index) {
    struct sp_slot *slot = &pool->slots[index];
    sp_slot_clear(slot);
    slot->session = NULL;
    slot->next = pool->free_head;
    pool->free_head = index;
}

void sp_pool_discard(sp_pool *pool, struct sp_session *session) {
    if (session != NULL) {
        session->next = pool->discarded;
        pool->discarded = session;
        pool->ending++;
    }
}

void sp_pool_fold_hits(sp_pool *pool) {
    uint64_t hits = sp_ledger_hits(atomic_load_explicit(&pool->ledger, memory_order_relaxed));
    sp_ledger_add(pool, 0 - hits * SP_LEDGER_HIT);
    pool->hits += hits;
}

void sp_pool_make_idle(sp_pool *pool, uint32_t index, struct sp_session *session) {
    struct sp_slot *slot = &pool->slots[index];
    slot->session = session;
    atomic_store_explicit(&slot->ready_at, sp_coarse_now(), memory_order_relaxed); /* released by the push */
    sp_slot_make_idle(slot);
    /* Before the push: an entry that dies from here on is noticed. */
    (void)sp_poller_add(&pool->poller, session->pidfd, index);
    sp_ring_push(&pool->ring, index);
}

bool sp_pool_insert(sp_pool *pool, uint32_t index, struct sp_session *session) {
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    /* A lease that ends without the lock may take the free place that is seen here. So the place is taken first, as
     * RECYCLING, and becomes an idle permit once the entry is in the ring. */
    do {
        if (sp_ledger_closed(ledger) ||
            sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) >= sp_pool_max_size(pool)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger + SP_LEDGER_RECYCLING));
    pool->created++;
    sp_pool_make_idle(pool, index, session);
    sp_ledger_add(pool, SP_LEDGER_IDLE - SP_LEDGER_RECYCLING);
    return true;
}

/* Takes an idle permit, for an entry that will be evicted. */
static bool take_permit(sp_pool *pool) {
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    do {
        if (sp_ledger_idle(ledger) == 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger - SP_LEDGER_IDLE));
    return true;
}

/* Takes the oldest entry out of the ring. The caller holds a permit, so there is one. */
static uint32_t claim_permitted(sp_pool *pool) {
    uint32_t index = SP_RING_EMPTY;
    while (index == SP_RING_EMPTY) {
        index = sp_ring_claim_oldest(&pool->ring);
    }
    return index;
}

void sp_pool_give_recycling_back(sp_pool *pool) {
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    for (;;) {
        bool full = sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) >= sp_pool_max_size(pool);
        uint64_t step = (full ? 0 : SP_LEDGER_RECYCLING) - SP_LEDGER_IN_USE;
        if (atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger + step)) {
            if (full) {
                pool->surplus++;
                sp_pool_count_eviction(pool, SP_EVICT_CAPACITY, NULL);
            }
            return;
        }
    }
}

static void discard_evicted(sp_pool *pool, uint32_t index, unsigned reason) {
    sp_pool_count_eviction(pool, reason, pool->slots[index].session);
    sp_pool_discard(pool, pool->slots[index].session);
    sp_pool_free_slot(pool, index);
}

uint32_t sp_pool_take_oldest(sp_pool *pool) { return take_permit(pool) ? claim_permitted(pool) : SP_NO_SLOT; }

bool sp_pool_evict_oldest(sp_pool *pool, unsigned reason) {
    uint32_t index = sp_pool_take_oldest(pool);
    if (index != SP_NO_SLOT) {
        discard_evicted(pool, index, reason);
    }
    return index != SP_NO_SLOT;
}

/* A release may have filled the place while the permit was taken: then the oldest entry is evicted instead. */
static void give_permit_back(sp_pool *pool) {
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    do {
        if (sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) >= sp_pool_max_size(pool)) {
            discard_evicted(pool, claim_permitted(pool), SP_EVICT_CAPACITY);
            return;
        }
    } while (!atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger + SP_LEDGER_IDLE));
}

bool sp_pool_evict_one(sp_pool *pool, uint32_t index, unsigned reason) {
    if (!take_permit(pool)) {
        return false;
    }
    if (!sp_ring_remove(&pool->ring, index)) {
        give_permit_back(pool);
        return false;
    }
    discard_evicted(pool, index, reason);
    return true;
}

bool sp_pool_evict_older(sp_pool *pool, int64_t before) {
    uint32_t index = sp_ring_oldest(&pool->ring);
    return index != SP_RING_EMPTY &&
           atomic_load_explicit(&pool->slots[index].ready_at, memory_order_relaxed) < before &&
           sp_pool_evict_one(pool, index, SP_EVICT_AGE);
}

int64_t sp_pool_lease_newest(sp_pool *pool) {
    uint32_t index = SP_RING_EMPTY;
    while (index == SP_RING_EMPTY) { /* each permit stands for an entry, see ledger.h */
        index = sp_ring_take(&pool->ring);
    }
    return sp_slot_lease(&pool->slots[index], index);
}
