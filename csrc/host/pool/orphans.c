/*
 * Orphans: claims whose lease ended before their job. release() and close() end a lease under the pool's lock, and the
 * first of them with the GIL kept. Killing a sandbox takes a system call or more, and work on files where there are
 * cgroups or agents. So an orphan is only entered in a list there, and the janitor, or whoever closes the pool, kills
 * its sandbox outside the lock. The session stays the claim's all the time: a job that leaves first takes its claim off
 * the list, or waits for the end of the kill.
 */
#include "host/pool/state.h"

void sp_claim_orphan(sp_pool *pool, struct sp_claim *claim, int code) {
    atomic_store(&claim->orphan, code);
    claim->queued_for_kill = true;
    claim->next = pool->orphans;
    pool->orphans = claim;
}

void sp_claim_withdraw(sp_pool *pool, struct sp_claim *claim) {
    struct sp_claim **at = &pool->orphans;
    while (claim->queued_for_kill && *at != claim) {
        at = &(*at)->next;
    }
    if (claim->queued_for_kill) {
        *at = claim->next;
        claim->queued_for_kill = false;
    }
    while (claim->being_killed) {
        pthread_cond_wait(&pool->slot_free, &pool->lock);
    }
}

void sp_orphans_kill(sp_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    for (struct sp_claim *claim; (claim = pool->orphans) != NULL;) {
        pool->orphans = claim->next;
        claim->queued_for_kill = false;
        claim->being_killed = true;
        pthread_mutex_unlock(&pool->lock);
        if (sp_session_is_whole(claim->session)) {
            claim->session->launcher->ops->kill_sandbox(claim->session); /* its end wakes the job's poll */
        }
        pthread_mutex_lock(&pool->lock);
        claim->being_killed = false;
        pthread_cond_broadcast(&pool->slot_free);
    }
    pthread_mutex_unlock(&pool->lock);
}
