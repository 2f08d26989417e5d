/*
 * A job's claim on the slot of its lease, from start to finish.
 */
#include "common/clock.h"
#include "host/execute/job.h"

/* Under the lock. SP_AGAIN: another job has the lease. */
static int try_claim(struct sp_job *job) {
    uint64_t word;
    struct sp_slot *slot = sp_lease_slot(job->pool, job->handle, &word);
    if (sp_ledger_closed(atomic_load(&job->pool->ledger))) {
        return SP_E_CLOSED;
    }
    if (slot == NULL) {
        return SP_E_RELEASED;
    }
    if ((word & SP_SLOT_LOST) != 0) {
        return SP_E_LOST;
    }
    if ((word & SP_SLOT_BUSY) != 0) {
        return SP_AGAIN;
    }
    /* Giving the unused lease back does not take the lock: one of the two changes the word, the other looks again. */
    if (!sp_slot_claim(slot, word)) {
        return try_claim(job);
    }
    job->first_use = (word & (SP_SLOT_USED | SP_SLOT_SHARED)) == 0;
    job->claim.session = slot->session;
    job->claimed = true;
    slot->claim = &job->claim;
    return SP_OK;
}

int sp_job_claim(struct sp_job *job, bool may_wait) {
    sp_pool *pool = job->pool;
    int64_t until = sp_now() + SP_SLICE_NS;
    pthread_mutex_lock(&pool->lock);
    int rc = try_claim(job);
    while (rc == SP_AGAIN && may_wait && sp_cond_wait_until(&pool->slot_free, &pool->lock, until) == 0) {
        rc = try_claim(job);
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

struct sp_session *sp_job_leave(struct sp_job *job, uint64_t drop, uint64_t add) {
    sp_pool *pool = job->pool;
    struct sp_session *own = NULL;
    sp_watch_empty(&job->watch);
    pthread_mutex_lock(&pool->lock);
    sp_claim_withdraw(pool, &job->claim);
    struct sp_slot *slot = &pool->slots[job->slot];
    if (job->over && job->request.argc != 0) {
        sp_pool_record_latency(pool, SP_LATENCY_EXECUTE, job->ended - job->started);
    }
    if (atomic_load(&job->claim.orphan) != 0) {
        own = job->claim.session;
    } else if (job->claimed) {
        slot->claim = NULL;
        sp_pool_count_outcome(pool, job->outcome, job->claim.session);
        if ((add & SP_SLOT_LOST) != 0) {
            own = job->claim.session;
            slot->session = NULL;
        }
        sp_slot_unclaim(slot, drop, add);
    }
    job->claimed = false;
    job->claim.session = NULL;
    pthread_cond_broadcast(&pool->slot_free);
    pthread_mutex_unlock(&pool->lock);
    return own;
}

int sp_job_report_lost_descriptors(struct sp_job *job) {
    sp_pool *pool = job->pool;
    job->descriptors_lost = true;
    if (!sp_poller_is_own(&pool->poller)) {
        sp_pool_lose_descriptors(pool);
        return SP_E_CLOSED;
    }
    sp_pool_report(pool, (sp_event){.kind = SP_EVENT_DESCRIPTORS, .pid = job->claim.session->pid, .count = 1});
    return SP_E_DESCRIPTORS;
}
