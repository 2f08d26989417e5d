/* The wake-up of the janitor, and what happens when another part of the process closes the pool's descriptors (see
 * own.h): the pool refuses every call as a closed one does, and reports why. close() still ends everything. */
#include "host/pool/state.h"

void sp_pool_kick(sp_pool *pool) {
    if (sp_poller_kick(&pool->poller) != 0) {
        sp_pool_lose_descriptors(pool);
    }
}

void sp_pool_lose_descriptors(sp_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    if (!sp_ledger_closed(atomic_load(&pool->ledger))) { /* else close() has closed them */
        sp_ledger_add(pool, SP_LEDGER_CLOSED);
        atomic_store(&pool->descriptors_lost, true);
        sp_waiters_close(pool);
        pthread_cond_broadcast(&pool->slot_free);
        pthread_cond_broadcast(&pool->settled);
        sp_pool_report(pool, (sp_event){.kind = SP_EVENT_DESCRIPTORS, .count = 1});
    }
    pthread_mutex_unlock(&pool->lock);
}

bool sp_pool_descriptors_lost(sp_pool *pool) { return atomic_load(&pool->descriptors_lost); }
