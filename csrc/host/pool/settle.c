/* settle: waits until the pool has no work of its own left: no creation, no recycling, no sandbox to end, no refill. */
#include <time.h>

#include "common/clock.h"
#include "host/pool/state.h"

bool sp_pool_wants_refill(const sp_pool *pool) {
    uint64_t ledger = atomic_load(&pool->ledger);
    return sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) + pool->starting < sp_pool_min_size(pool);
}

static bool is_settled(const sp_pool *pool) {
    return pool->starting == 0 && pool->replacing == 0 && pool->ending == 0 && !pool->awaits_death &&
           !sp_pool_wants_refill(pool);
}

void sp_pool_check_settled(sp_pool *pool) {
    if (is_settled(pool)) {
        pthread_cond_broadcast(&pool->settled);
    }
}

int sp_settle(sp_pool *pool, int64_t timeout_ns) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    int64_t until = sp_now() + (timeout_ns < SP_SLICE_NS ? timeout_ns : SP_SLICE_NS);
    int rc = 0;
    sp_pool_kick(pool); /* acquire() makes no system call, so the janitor may not know yet that a refill is due */
    pthread_mutex_lock(&pool->lock);
    while (!is_settled(pool) && !sp_ledger_closed(atomic_load(&pool->ledger)) && rc == 0) {
        rc = sp_cond_wait_until(&pool->settled, &pool->lock, until);
    }
    bool closed = sp_ledger_closed(atomic_load(&pool->ledger));
    bool settled = is_settled(pool);
    pthread_mutex_unlock(&pool->lock);
    return closed ? SP_E_CLOSED : settled ? SP_OK : SP_AGAIN;
}
