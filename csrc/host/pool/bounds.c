/* The bounds of a pool, min_size and max_size, which may change while it is in use. */
#include "host/pool/state.h"

/* One entry less counts as idle: a place whose fresh sandbox nobody has begun to create; else the oldest idle entry;
 * else a place whose fresh sandbox is under way, and will be discarded. Under the lock; there is such an entry. */
static void evict_one(sp_pool *pool, bool recycles) {
    uint32_t waits = recycles ? sp_recycle_next(pool) : SP_NO_SLOT;
    if (waits == SP_NO_SLOT && sp_pool_evict_oldest(pool, SP_EVICT_CAPACITY)) {
        return;
    }
    if (waits != SP_NO_SLOT) {
        pool->replacing--;
        sp_pool_free_slot(pool, waits);
    } else if (recycles) {
        pool->surplus++;
    } else {
        return; /* an acquire has taken the last idle entry meanwhile */
    }
    sp_ledger_add(pool, 0 - SP_LEDGER_RECYCLING);
    sp_pool_count_eviction(pool, SP_EVICT_CAPACITY, NULL);
}

void sp_pool_keep_max_size(sp_pool *pool) {
    for (;;) {
        uint64_t ledger = atomic_load(&pool->ledger);
        if (sp_ledger_closed(ledger) ||
            sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) <= sp_pool_max_size(pool)) {
            return;
        }
        evict_one(pool, sp_ledger_recycling(ledger) != 0);
    }
}

uint64_t sp_pool_sizes(sp_pool *pool) { return atomic_load(&pool->bounds); }

int sp_pool_resize(sp_pool *pool, uint32_t min_size, uint32_t max_size) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    if (min_size > max_size || max_size > SP_COUNT_MAX) {
        return SP_E_INVAL;
    }
    pthread_mutex_lock(&pool->lock);
    bool closed = sp_ledger_closed(atomic_load(&pool->ledger));
    if (!closed) {
        /* seq_cst, before the ledger is read: pairs with give_back(), which takes a permit and then reads the bounds.
         * So one of the two sees the other. */
        atomic_store(&pool->bounds, sp_pool_bounds(min_size, max_size));
        sp_pool_keep_max_size(pool);
        sp_pool_check_settled(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    if (closed) {
        return SP_E_CLOSED;
    }
    sp_pool_kick(pool);
    return SP_OK;
}
