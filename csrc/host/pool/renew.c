/* renew: another process of the launcher takes the place of the one that creates sandboxes. Leases go on. */
#include "common/clock.h"
#include "common/fd.h"
#include "host/pool/waiters.h"

#define LOOK_NS SP_MS(5)

int sp_renew(sp_pool *pool, sp_renewal *renewal, int64_t timeout_ns, sp_error *error) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    sp_launcher *launcher = pool->launcher;
    const int64_t until = sp_now() + (timeout_ns < SP_SLICE_NS ? timeout_ns : SP_SLICE_NS);
    int rc = SP_AGAIN;
    while (rc == SP_AGAIN) {
        if (sp_ledger_closed(atomic_load(&pool->ledger))) {
            return SP_E_CLOSED;
        }
        rc = launcher->ops->renew != NULL ? launcher->ops->renew(launcher, &renewal->number, error) : SP_OK;
        const int64_t left = until - sp_now();
        if (rc == SP_AGAIN && left <= 0) {
            return SP_AGAIN;
        }
        if (rc == SP_AGAIN) {
            (void)sp_poll_until(NULL, 0, sp_now() + (left < LOOK_NS ? left : LOOK_NS));
        }
    }
    if (rc == SP_OK) { /* what is idle was created by the old one */
        pthread_mutex_lock(&pool->lock);
        while (sp_pool_evict_oldest(pool, SP_EVICT_OUTDATED)) {
        }
        pthread_mutex_unlock(&pool->lock);
    }
    sp_pool_kick(pool); /* the janitor looks after the new one, or after the end of the old one */
    return rc;
}
