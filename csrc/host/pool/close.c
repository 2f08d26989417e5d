/*
 * The end of a pool. close() decides under the lock what has to end, and ends it outside the lock. It waits for three
 * things, and for none of them beyond its deadline: the launcher's process, the janitor, and the death of killed
 * sandboxes.
 */
#include "host/pool/state.h"

#include <poll.h>
#include <stdlib.h>

#include "common/clock.h"
#include "host/sys/fork_mark.h"

/* The zygote gets half the time, and no more than this, to end by itself; a healthy one needs a few ms. */
#define ZYGOTE_NS SP_SEC(1)
#define DYING_LOOK_NS SP_MS(20)

/*
 * Ends the lease of this slot and returns true if there is one. A concurrent release of the unused lease may win; it
 * sees the closed ledger and discards the entry itself.
 */
static bool end_lease(sp_pool *pool, struct sp_slot *slot) {
    uint64_t word = sp_slot_end_lease(slot);
    if (sp_slot_state_of(word) != SP_SLOT_LEASED) {
        return false;
    }
    if ((word & SP_SLOT_BUSY) != 0) {
        sp_claim_orphan(pool, slot->claim, SP_E_CLOSED);
    } else {
        sp_pool_discard(pool, slot->session);
    }
    slot->session = NULL;
    return true;
}

/* Discards every idle entry, but those that a concurrent acquire holds a permit for. Under the lock, with the ledger
 * closed. */
static void discard_idle(sp_pool *pool) {
    for (uint32_t index; (index = sp_pool_take_oldest(pool)) != SP_NO_SLOT;) {
        sp_pool_discard(pool, pool->slots[index].session);
        sp_pool_free_slot(pool, index);
    }
}

static void end_sessions(sp_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    struct sp_session *session = pool->discarded;
    pool->discarded = NULL;
    pthread_mutex_unlock(&pool->lock);
    while (session != NULL) {
        struct sp_session *next = session->next;
        sp_session_end(session);
        session = next;
    }
}

/* Makes every other call fail from now on. Returns true to the one caller that has to do the rest; others wait for it.
 */
static bool begin_close(sp_pool *pool, int64_t deadline) {
    bool first = false;
    pthread_mutex_lock(&pool->lock);
    if (!pool->closing) {
        if (!sp_ledger_closed(atomic_load(&pool->ledger))) {
            sp_ledger_add(pool, SP_LEDGER_CLOSED);
        }
        pool->closing = pool->stopping = true;
        first = true;
        sp_waiters_close(pool);
        uint64_t ended = 0;
        for (uint32_t i = 0; i < pool->fresh; i++) {
            ended += end_lease(pool, &pool->slots[i]);
        }
        if (ended != 0) {
            sp_pool_report(pool, (sp_event){.kind = SP_EVENT_LEASES_KILLED, .count = ended});
        }
        pthread_cond_broadcast(&pool->slot_free);
        pthread_cond_broadcast(&pool->settled);
        pthread_cond_broadcast(&pool->drained);
    }
    for (int rc = 0; !first && !pool->closed && rc == 0;) {
        rc = sp_cond_wait_until(&pool->ended, &pool->lock, deadline);
    }
    pthread_mutex_unlock(&pool->lock);
    return first;
}

static bool await_janitor(sp_pool *pool, int64_t deadline) {
    (void)sp_poller_kick(&pool->poller);
    pthread_mutex_lock(&pool->lock);
    for (int rc = 0; pool->janitor_runs && !pool->janitor_over && rc == 0;) {
        rc = sp_cond_wait_until(&pool->ended, &pool->lock, deadline);
    }
    bool over = !pool->janitor_runs || pool->janitor_over;
    pthread_mutex_unlock(&pool->lock);
    return over;
}

/* Waits until every killed sandbox is dead or reported as undead, or until the deadline. */
static void await_dying(sp_pool *pool, int64_t deadline) {
    const struct sp_dying_observer observer = {sp_pool_report_undead, pool};
    for (;;) {
        int64_t youngest = sp_dying_check(pool->launcher, &pool->dying, &observer);
        int64_t now = sp_now();
        if (youngest >= SP_UNDEAD_NS || now >= deadline) { /* SP_NEVER: none is left */
            return;
        }
        int64_t until = deadline - now < DYING_LOOK_NS ? deadline : now + DYING_LOOK_NS;
        (void)sp_wait_fd(pool->dying->pidfd, POLLIN, until);
    }
}

/* Takes over what the janitor had, which has ended or is about to return. Called once. */
static void wind_up(sp_pool *pool, int64_t deadline) {
    if (pool->janitor_runs) {
        pthread_join(pool->janitor, NULL);
        pool->janitor_runs = false;
    }
    end_sessions(pool);
    await_dying(pool, deadline);
    sp_dying_leave(pool->launcher, &pool->dying);
    pthread_mutex_lock(&pool->lock); /* sessions are added to the poller under it */
    sp_poller_close(&pool->poller);
    pthread_mutex_unlock(&pool->lock);
    pool->wound_up = true;
}

static int64_t zygote_deadline(int64_t now, int64_t deadline) {
    int64_t half = (deadline - now) / 2;
    return now + (half < ZYGOTE_NS ? half : ZYGOTE_NS);
}

int sp_pool_close(sp_pool *pool, int64_t timeout_ns) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    int64_t now = sp_now();
    int64_t deadline = timeout_ns > SP_NEVER - now ? SP_NEVER : now + timeout_ns;
    if (!begin_close(pool, deadline)) {
        return SP_OK;
    }
    /* The kills that need no waiting come first, so that those sandboxes die meanwhile. */
    sp_orphans_kill(pool);
    end_sessions(pool);
    /* Before the wait for the janitor: whatever the janitor waits for then fails at once. */
    sp_launcher_leave(pool->launcher, zygote_deadline(now, deadline));
    bool over = await_janitor(pool, deadline);
    pthread_mutex_lock(&pool->lock);
    discard_idle(pool);
    pthread_mutex_unlock(&pool->lock);
    end_sessions(pool);
    if (over) { /* else sp_pool_free() waits for it */
        wind_up(pool, deadline);
    }
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pthread_cond_broadcast(&pool->ended);
    pthread_mutex_unlock(&pool->lock);
    if (pool->options.events != NULL) {
        sp_events_leave(pool->options.events);
    }
    return SP_OK;
}

/* Ends what threads inside a call during close() left: leases that were just handed out, or given back unused. */
static void end_stragglers(sp_pool *pool) {
    end_sessions(pool);
    for (uint32_t i = 0; i < pool->fresh; i++) {
        sp_session_end(pool->slots[i].session);
    }
}

void sp_pool_free(sp_pool *pool) {
    if (pool == NULL || (pool->mine != NULL && !sp_pool_is_mine(pool))) {
        return; /* a forked child must not end its parent's pool */
    }
    if (pool->mine != NULL) {
        (void)sp_pool_close(pool, SP_CREATE_TIMEOUT_NS);
        if (!pool->wound_up) {
            wind_up(pool, sp_now());
        }
    } else {
        sp_dying_leave(pool->launcher, &pool->dying);
        sp_launcher_leave(pool->launcher, sp_now());
        if (pool->options.events != NULL) {
            sp_events_leave(pool->options.events);
        }
    }
    end_stragglers(pool);
    sp_launcher_unref(pool->launcher);
    sp_poller_close(&pool->poller);
    sp_fork_mark_free(pool->mine);
    sp_events_unref(pool->options.events);
    pthread_cond_destroy(&pool->slot_free);
    pthread_cond_destroy(&pool->ended);
    pthread_cond_destroy(&pool->settled);
    pthread_cond_destroy(&pool->drained);
    pthread_mutex_destroy(&pool->lock);
    free(pool->strings);
    free(pool->links);
    free(pool->slots);
    free(pool);
}
