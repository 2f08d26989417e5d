/* Snapshots of the pool's counters and states. */
#include <string.h>

#include "host/pool/state.h"

uint64_t sp_histogram_bound_us(unsigned bucket) { return sp_histogram_bound(bucket); }

size_t sp_pool_diagnostics(sp_pool *pool, char *into, size_t size) {
    return sp_launcher_diagnostics(pool->launcher, into, size);
}

int64_t sp_pool_zygote_pid(sp_pool *pool) { return sp_launcher_pid(pool->launcher); }

void sp_pool_census(sp_pool *pool, uint32_t states[5], uint32_t *free_slots) {
    pthread_mutex_lock(&pool->lock);
    memset(states, 0, 5 * sizeof states[0]);
    for (uint32_t i = 0; i < pool->fresh; i++) {
        states[sp_slot_state_of(atomic_load_explicit(&pool->slots[i].word, memory_order_relaxed))]++;
    }
    *free_slots = 0;
    for (uint32_t i = pool->free_head; i != SP_NO_SLOT; i = pool->slots[i].next) {
        (*free_slots)++;
    }
    pthread_mutex_unlock(&pool->lock);
}

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
                        .zygote_restart_count = atomic_load(&pool->launcher->restarts),
                        .lost_count = pool->lost,
                        .timeout_count = pool->timeouts,
                        .oom_kill_count = pool->oom_kills,
                        .idle_count = sp_ledger_idle(ledger) + sp_ledger_recycling(ledger),
                        .recycling_count = sp_ledger_recycling(ledger),
                        .in_use_count = sp_ledger_in_use(ledger),
                        .starting_count = pool->starting,
                        .waiting_count = atomic_load(&pool->waiting),
                        .closed = sp_ledger_closed(ledger),
                        .undead_count = atomic_load(&pool->launcher->undead),
                        .hit_waited_count = pool->waited_hits};
    stats->hit_ready_count = stats->hit_count - stats->hit_waited_count;
    for (unsigned i = 0; i < SP_EVICT_REASONS; i++) {
        stats->evictions[i] = pool->evictions[i];
        stats->evict_count += pool->evictions[i];
    }
    memcpy(stats->latencies, pool->latencies, sizeof pool->latencies);
    /* The fast path looks at no clock, and does not count but in the ledger: what no ticket had, it had at once. */
    stats->latencies[SP_LATENCY_ACQUIRE_WAIT].counts[0] += stats->hit_count - pool->slow_hits;
    pthread_mutex_unlock(&pool->lock);
    return SP_OK;
}
