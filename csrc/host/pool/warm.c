/* warm: evicts what is too old, and creates what is missing, several at a time. */
#include <errno.h>

#include "common/clock.h"
#include "host/pool/warm.h"

/* How many births a warm() has under way at once. The zygote clones one sandbox after the other; their inits then run
 * in parallel. */
#define WARM_WINDOW 16

struct warm_window {
    struct sp_birth births[WARM_WINDOW];
    uint32_t begun, done; /* births done .. begun - 1 are under way, modulo the window */
};

/* Waits for the oldest birth of the window. 1: its sandbox was inserted; 0: there was no room any more; SP_E_CREATE. */
static int warm_step(sp_pool *pool, struct warm_window *w, sp_error *error) {
    struct sp_birth *birth = &w->births[w->done % WARM_WINDOW];
    int rc;
    do { /* in slices: nothing wakes a birth that waits for another zygote when the pool is closed */
        rc = sp_birth_wait(birth, sp_now() + SP_SLICE_NS, error);
    } while (rc == SP_AGAIN && !sp_ledger_closed(atomic_load(&pool->ledger)));
    if (rc == SP_AGAIN) {
        sp_birth_abandon(birth);
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_NONE, ESHUTDOWN, NULL);
    }
    w->done++;
    pthread_mutex_lock(&pool->lock);
    pool->starting--;
    sp_pool_check_settled(pool);
    if (rc != 0) {
        sp_pool_count_failed_creation(pool, error);
    }
    int inserted = 0;
    if (rc == 0) {
        sp_pool_record_latency(pool, SP_LATENCY_CREATE, birth->duration);
        uint32_t index = sp_pool_take_slot(pool);
        inserted = index != SP_NO_SLOT && sp_pool_insert(pool, index, birth->session);
        if (index != SP_NO_SLOT && !inserted) {
            sp_pool_free_slot(pool, index);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (rc == 0 && !inserted) {
        sp_session_end(birth->session);
    }
    return rc != 0 ? rc : inserted;
}

static uint32_t missing(sp_pool *pool, uint32_t target) {
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    uint32_t have = sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) + pool->starting;
    return sp_ledger_closed(ledger) || have >= target ? 0 : target - have;
}

static int begin_birth(sp_pool *pool, struct warm_window *w, sp_error *error) {
    int rc = sp_birth_begin(pool->launcher, &w->births[w->begun % WARM_WINDOW], error);
    if (rc == 0) {
        w->begun++;
    } else {
        pthread_mutex_lock(&pool->lock);
        pool->starting--;
        sp_pool_count_failed_creation(pool, error);
        pthread_mutex_unlock(&pool->lock);
    }
    return rc;
}

int64_t sp_warm_create_missing(sp_pool *pool, uint32_t target, sp_error *error) {
    struct warm_window w = {.begun = 0};
    sp_error later;
    int64_t inserted = 0;
    int rc = 0;
    pthread_mutex_lock(&pool->lock);
    uint32_t wanted = missing(pool, target);
    pool->starting += wanted;
    pthread_mutex_unlock(&pool->lock);
    while (w.done < w.begun || (w.begun < wanted && rc == 0)) {
        if (w.begun < wanted && w.begun - w.done < WARM_WINDOW && rc == 0) {
            rc = begin_birth(pool, &w, error);
            wanted -= rc != 0; /* begin_birth() has taken that one off `starting` */
            continue;
        }
        int step = warm_step(pool, &w, rc == 0 ? error : &later);
        inserted += step > 0;
        rc = rc == 0 && step < 0 ? step : rc;
    }
    pthread_mutex_lock(&pool->lock);
    pool->starting -= wanted - w.begun;
    pthread_mutex_unlock(&pool->lock);
    return rc != 0 ? rc : inserted;
}

int64_t sp_warm(sp_pool *pool, uint32_t target, sp_error *error) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    pthread_mutex_lock(&pool->lock);
    bool closed = sp_ledger_closed(atomic_load(&pool->ledger));
    if (pool->options.max_idle_ns != 0 && !closed) {
        int64_t before = sp_coarse_now() - pool->options.max_idle_ns;
        while (sp_pool_evict_older(pool, before)) {
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (closed) {
        return SP_E_CLOSED;
    }
    sp_pool_kick(pool);
    const uint32_t most = sp_pool_max_size(pool);
    int64_t n = sp_warm_create_missing(pool, target < most ? target : most, error);
    /* Births that were under way when the pool was closed have failed because of that. */
    return sp_ledger_closed(atomic_load(&pool->ledger)) ? SP_E_CLOSED : n;
}
