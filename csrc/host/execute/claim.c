/*
 * The slot of a job: claimed from start to finish, and left, maybe as an orphan's, with what becomes of the session.
 *
 * release() and close() end a lease under the pool's lock, and the first of them with the GIL kept. Killing a sandbox
 * is a system call or more, and work on files where there are cgroups or agents: so a job that becomes an orphan is
 * only entered in a list there, and the janitor, or whoever closes the pool, kills its sandbox outside the lock. The
 * session stays the job's all the time; a job that leaves first takes itself off the list, or waits for the end of the
 * kill.
 */
#include "common/clock.h"
#include "host/execute/job.h"

/* ---- orphans ---- */

void sp_job_orphan(struct sp_job *job, int code) {
    atomic_store(&job->orphan, code);
    job->queued_for_kill = true;
    job->next = job->pool->doomed_jobs;
    job->pool->doomed_jobs = job;
}

/* Under the lock. The caller ends the session itself. */
static void withdraw_from_kill(struct sp_job *job) {
    struct sp_job **at = &job->pool->doomed_jobs;
    while (job->queued_for_kill && *at != job) {
        at = &(*at)->next;
    }
    if (job->queued_for_kill) {
        *at = job->next;
        job->queued_for_kill = false;
    }
    while (job->being_killed) {
        pthread_cond_wait(&job->pool->slot_free, &job->pool->lock);
    }
}

void sp_jobs_kill_orphans(sp_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    for (struct sp_job *job; (job = pool->doomed_jobs) != NULL;) {
        pool->doomed_jobs = job->next;
        job->queued_for_kill = false;
        job->being_killed = true;
        pthread_mutex_unlock(&pool->lock);
        if (sp_session_is_whole(job->session)) {
            job->session->launcher->ops->kill_sandbox(job->session); /* its end wakes the job's poll */
        }
        pthread_mutex_lock(&pool->lock);
        job->being_killed = false;
        pthread_cond_broadcast(&pool->slot_free);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* ---- claim and leave ---- */

/* Under the lock. SP_AGAIN while another job has it. */
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
    /* A release of the unused lease does not take the lock: one of the two changes the word, the other looks again. */
    if (!sp_slot_claim(slot, word)) {
        return try_claim(job);
    }
    job->first_use = (word & SP_SLOT_USED) == 0;
    job->session = slot->session;
    job->claimed = true;
    slot->job = job;
    return SP_OK;
}

int sp_job_claim(struct sp_job *job) {
    sp_pool *pool = job->pool;
    int64_t until = sp_now() + SP_SLICE_NS;
    pthread_mutex_lock(&pool->lock);
    int rc = try_claim(job);
    while (rc == SP_AGAIN && sp_cond_wait_until(&pool->slot_free, &pool->lock, until) == 0) {
        rc = try_claim(job);
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

struct sp_session *sp_job_leave(struct sp_job *job, uint64_t drop, uint64_t add) {
    sp_pool *pool = job->pool;
    struct sp_session *own = NULL;
    pthread_mutex_lock(&pool->lock);
    withdraw_from_kill(job);
    struct sp_slot *slot = &pool->slots[job->slot];
    if (job->over) {
        sp_pool_record_latency(pool, SP_LATENCY_EXECUTE, job->ended - job->started);
    }
    if (atomic_load(&job->orphan) != 0) {
        own = job->session;
    } else if (job->claimed) {
        slot->job = NULL;
        if (job->tally == &pool->lost) {
            sp_pool_count_loss(pool, job->session);
        } else if (job->tally != NULL) {
            ++*job->tally;
        }
        if ((add & SP_SLOT_LOST) != 0) {
            own = job->session;
            slot->session = NULL;
        }
        sp_slot_unclaim(slot, drop, add);
    }
    job->claimed = false;
    job->session = NULL;
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
    sp_pool_report(pool, (sp_event){.kind = SP_EVENT_DESCRIPTORS, .pid = job->session->pid, .count = 1});
    return SP_E_DESCRIPTORS;
}
