/* drain: no new leases until those that are out have ended; then every idle sandbox is evicted. */
#include "common/clock.h"
#include "host/pool/waiters.h"

/* Under the lock. The flag in the ledger stops acquire, which takes no lock. */
static void begin(sp_pool *pool, sp_drain *drain) {
    drain->pool = pool;
    if (pool->drains++ == 0) {
        sp_ledger_add(pool, SP_LEDGER_DRAINING);
    }
}

int sp_drain_wait(sp_pool *pool, sp_drain *drain, int64_t timeout_ns) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    const int64_t until = sp_now() + (timeout_ns < SP_SLICE_NS ? timeout_ns : SP_SLICE_NS);
    pthread_mutex_lock(&pool->lock);
    if (drain->pool == NULL && !sp_ledger_closed(atomic_load(&pool->ledger))) {
        begin(pool, drain);
    }
    uint64_t ledger = atomic_load(&pool->ledger);
    for (int rc = 0; sp_ledger_in_use(ledger) != 0 && !sp_ledger_closed(ledger) && rc == 0;) {
        rc = sp_cond_wait_until(&pool->drained, &pool->lock, until);
        ledger = atomic_load(&pool->ledger);
    }
    pthread_mutex_unlock(&pool->lock);
    return sp_ledger_closed(ledger) ? SP_E_CLOSED : sp_ledger_in_use(ledger) == 0 ? SP_OK : SP_AGAIN;
}

void sp_drain_end(sp_drain *drain) {
    sp_pool *pool = drain->pool;
    drain->pool = NULL;
    if (pool == NULL || !sp_pool_is_mine(pool)) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->drains--;
    if (!sp_ledger_closed(atomic_load(&pool->ledger))) {
        while (sp_pool_evict_oldest(pool, SP_EVICT_DRAINED)) {
        }
        if (pool->drains == 0) {
            sp_ledger_add(pool, 0 - SP_LEDGER_DRAINING);
            sp_waiters_grant(pool);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    sp_pool_kick(pool);
}
