/* Seeing the pool: what is counted under its lock, and the snapshot of it all. */
#include "host/pool.h"

void sp_pool_evicted(sp_pool *pool, unsigned reason) { pool->evictions[reason]++; }

int sp_snapshot(sp_pool *pool, sp_stats *stats) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    /* Whatever changes idle + in_use + recycling, or a counter but the hits, holds the lock: with it, one load of the
     * ledger is a consistent picture. */
    pthread_mutex_lock(&pool->lock);
    uint64_t ledger = atomic_load(&pool->ledger);
    *stats = (sp_stats){.hit_count = pool->hits + sp_ledger_hits(ledger),
                        .miss_count = pool->misses,
                        .created_count = pool->created,
                        .recycle_count = pool->recycled,
                        .create_error_count = pool->create_errors,
                        .health_check_count = pool->checks,
                        .lost_count = pool->lost,
                        .timeout_count = pool->timeouts,
                        .oom_kill_count = pool->oom_kills,
                        .idle_count = sp_ledger_idle(ledger) + sp_ledger_recycling(ledger),
                        .recycling_count = sp_ledger_recycling(ledger),
                        .in_use_count = sp_ledger_in_use(ledger),
                        .starting_count = pool->starting,
                        .waiting_count = atomic_load(&pool->waiting),
                        .closed = sp_ledger_closed(ledger)};
    for (unsigned i = 0; i < SP_EVICT_REASONS; i++) {
        stats->evictions[i] = pool->evictions[i];
        stats->evict_count += pool->evictions[i];
    }
    pthread_mutex_unlock(&pool->lock);
    return SP_OK;
}
