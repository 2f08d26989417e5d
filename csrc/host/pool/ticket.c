/*
 * acquire off the hot path, the caller's side: waiting for what waiters.c decides, and creating a sandbox when that is
 * the decision. What is to be done is decided under the lock, and done outside it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "host/pool/waiters.h"

int sp_ticket_open(sp_pool *pool, int64_t timeout_ns, sp_ticket **out) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    struct sp_ticket *ticket = calloc(1, sizeof *ticket);
    if (ticket == NULL) {
        return SP_E_NOMEM;
    }
    sp_cond_init(&ticket->changed);
    ticket->pool = pool;
    ticket->slot = SP_NO_SLOT;
    const int64_t now = sp_now();
    ticket->opened = now;
    ticket->deadline = timeout_ns < 0 || timeout_ns > SP_NEVER - now ? SP_NEVER : now + timeout_ns;
    if (!sp_poller_is_own(
            &pool->poller)) { /* an acquire without a ticket makes no system call, and so does not check */
        sp_pool_lose_descriptors(pool);
    }
    pthread_mutex_lock(&pool->lock);
    int rc = sp_ledger_closed(atomic_load(&pool->ledger)) ? SP_E_CLOSED : SP_OK;
    if (rc == SP_OK) {
        sp_waiters_join(pool, ticket);
    }
    pthread_mutex_unlock(&pool->lock);
    if (rc != SP_OK) {
        ticket->state = SP_TICKET_OVER;
    }
    *out = ticket;
    return SP_OK;
}

/* Sleeps until the state of the ticket changes, its deadline, or the end of the slice. */
static int64_t await_change(sp_pool *pool, struct sp_ticket *ticket) {
    const enum sp_ticket_state before = ticket->state;
    int64_t until = sp_now() + SP_SLICE_NS;
    if (before == SP_TICKET_QUEUED && ticket->deadline < until) {
        until = ticket->deadline;
    }
    while (ticket->state == before) {
        if (sp_cond_wait_until(&ticket->changed, &pool->lock, until) != 0) {
            break;
        }
    }
    if (ticket->state == SP_TICKET_QUEUED && sp_now() >= ticket->deadline) {
        sp_waiters_leave(pool, ticket);
        ticket->state = SP_TICKET_OVER;
        return SP_E_TIMEOUT;
    }
    return SP_AGAIN;
}

/* Undoes the counts of a creation that failed or was given up. Under the lock. */
static void roll_back(sp_pool *pool, struct sp_ticket *ticket) {
    ticket->state = SP_TICKET_OVER;
    if (ticket->refused) {
        return;
    }
    if (ticket->slot != SP_NO_SLOT) {
        sp_pool_free_slot(pool, ticket->slot);
    }
    pool->created--;
    sp_ledger_add(pool, 0 - SP_LEDGER_IN_USE);
    sp_waiters_grant(pool);
}

/* The new sandbox becomes the ticket's lease, unless the pool was closed meanwhile. */
static int64_t adopt(sp_pool *pool, struct sp_ticket *ticket) {
    int64_t result = SP_E_CLOSED;
    pthread_mutex_lock(&pool->lock);
    if (sp_ledger_closed(atomic_load(&pool->ledger))) {
        roll_back(pool, ticket);
    } else {
        struct sp_slot *slot = &pool->slots[ticket->slot];
        slot->session = ticket->birth.session;
        (void)sp_poller_add(&pool->poller, slot->session->pidfd, ticket->slot);
        ticket->birth.session = NULL;
        ticket->state = SP_TICKET_OVER;
        pool->creation_succeeded = true;
        sp_pool_record_latency(pool, SP_LATENCY_CREATE, ticket->birth.duration);
        sp_pool_record_latency(pool, SP_LATENCY_ACQUIRE_WAIT, sp_now() - ticket->opened);
        result = sp_lease_remember_last(pool, sp_slot_lease(slot, ticket->slot));
    }
    pthread_mutex_unlock(&pool->lock);
    return result;
}

static int64_t create(sp_pool *pool, struct sp_ticket *ticket, sp_error *error) {
    int rc = 0;
    if (ticket->slot == SP_NO_SLOT) {
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOSPC, "16383 sandboxes of this pool are in use");
    } else if (ticket->birth.session == NULL) {
        rc = sp_birth_begin(pool->launcher, &ticket->birth, error);
    }
    rc = rc != 0 ? rc : sp_birth_wait(&ticket->birth, sp_now() + SP_SLICE_NS, error);
    bool closed = sp_ledger_closed(atomic_load(&pool->ledger));
    if (rc == SP_AGAIN && !closed) {
        return SP_AGAIN;
    }
    if (rc == 0) {
        return adopt(pool, ticket);
    }
    pthread_mutex_lock(&pool->lock);
    if (rc < 0) {
        sp_pool_count_failed_creation(pool, error);
    }
    roll_back(pool, ticket);
    closed = sp_ledger_closed(atomic_load(&pool->ledger));
    pthread_mutex_unlock(&pool->lock);
    return closed ? SP_E_CLOSED : rc; /* a birth still under way ends with the ticket */
}

int64_t sp_ticket_poll(sp_ticket *ticket, sp_error *error) {
    sp_pool *pool = ticket->pool;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    int64_t result = SP_AGAIN;
    pthread_mutex_lock(&pool->lock);
    if (ticket->state == SP_TICKET_QUEUED || ticket->state == SP_TICKET_TAKEOVER) {
        result = await_change(pool, ticket);
    }
    enum sp_ticket_state state = ticket->state;
    if (result == SP_AGAIN && state == SP_TICKET_DONE) {
        ticket->state = SP_TICKET_OVER;
        result = sp_lease_remember_last(pool, ticket->handle);
        sp_pool_record_latency(pool, SP_LATENCY_ACQUIRE_WAIT, sp_now() - ticket->opened);
    } else if (result == SP_AGAIN && state == SP_TICKET_OVER) {
        result = SP_E_CLOSED;
    }
    pthread_mutex_unlock(&pool->lock);
    return result == SP_AGAIN && state == SP_TICKET_CREATING ? create(pool, ticket, error) : result;
}

void sp_ticket_free(sp_ticket *ticket) {
    if (ticket == NULL || !sp_pool_is_mine(ticket->pool)) {
        return;
    }
    sp_pool *pool = ticket->pool;
    pthread_mutex_lock(&pool->lock);
    enum sp_ticket_state state = ticket->state;
    if (state == SP_TICKET_QUEUED) {
        sp_waiters_leave(pool, ticket);
    } else if (state == SP_TICKET_TAKEOVER) {
        sp_waiters_give_takeover_up(pool, ticket);
    } else if (state == SP_TICKET_CREATING) {
        roll_back(pool, ticket);
    }
    pthread_mutex_unlock(&pool->lock);
    if (state == SP_TICKET_DONE) {
        (void)sp_release(pool, ticket->handle);
    }
    sp_session_end(ticket->birth.session);
    pthread_cond_destroy(&ticket->changed);
    free(ticket);
}

void sp_ticket_close(sp_ticket **ticket) {
    sp_ticket *own = *ticket;
    *ticket = NULL;
    sp_ticket_free(own);
}
