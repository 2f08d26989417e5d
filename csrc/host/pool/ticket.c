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
    ticket->bell = SP_BELL_NONE;
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

/* Under the lock. */
static int64_t leave_if_late(sp_pool *pool, struct sp_ticket *ticket) {
    if (ticket->state == SP_TICKET_QUEUED && sp_now() >= ticket->deadline) {
        sp_waiters_leave(pool, ticket);
        ticket->state = SP_TICKET_OVER;
        return SP_E_TIMEOUT;
    }
    return SP_AGAIN;
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
    return leave_if_late(pool, ticket);
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

static int64_t create(sp_pool *pool, struct sp_ticket *ticket, sp_error *error, bool may_wait) {
    int rc = 0;
    if (ticket->slot == SP_NO_SLOT) {
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOSPC, "16383 sandboxes of this pool are in use");
    } else if (ticket->birth.session == NULL) {
        rc = sp_birth_begin(pool->launcher, &ticket->birth, error);
    }
    if (rc == 0) {
        rc = may_wait ? sp_birth_wait(&ticket->birth, sp_now() + SP_SLICE_NS, error)
                      : sp_birth_step(&ticket->birth, error);
    }
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

static int64_t take_turn(sp_pool *pool, struct sp_ticket *ticket, sp_error *error, bool may_wait) {
    int64_t result = SP_AGAIN;
    pthread_mutex_lock(&pool->lock);
    if (ticket->state == SP_TICKET_QUEUED || ticket->state == SP_TICKET_TAKEOVER) {
        result = may_wait ? await_change(pool, ticket) : leave_if_late(pool, ticket);
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
    return result == SP_AGAIN && state == SP_TICKET_CREATING ? create(pool, ticket, error, may_wait) : result;
}

int64_t sp_ticket_poll(sp_ticket *ticket, sp_error *error) {
    return sp_pool_is_mine(ticket->pool) ? take_turn(ticket->pool, ticket, error, true) : SP_E_FORKED;
}

/* A bell that has not been rung. 0 or -errno. */
static int renew_bell(struct sp_ticket *ticket) {
    pthread_mutex_t *lock = &ticket->pool->lock;
    pthread_mutex_lock(lock);
    bool fit = ticket->bell.fd != -1 && !ticket->bell.rung;
    pthread_mutex_unlock(lock);
    struct sp_bell bell;
    int rc = fit ? 0 : sp_bell_open(&bell);
    if (!fit && rc == 0) {
        pthread_mutex_lock(lock);
        struct sp_bell old = ticket->bell;
        ticket->bell = bell;
        pthread_mutex_unlock(lock);
        sp_bell_close(&old);
    }
    return rc;
}

static void look_at_birth(const struct sp_birth *birth, sp_due *due) {
    const int64_t slice = sp_now() + SP_SLICE_NS; /* nothing else notices that the pool is closed */
    const bool requested = birth->not_before == 0;
    const int64_t until = requested || birth->not_before > slice ? slice : birth->not_before;
    *due = (sp_due){.fd = requested ? birth->session->control : -1, .after_ns = sp_left_until(until)};
}

int64_t sp_ticket_turn(sp_ticket *ticket, sp_error *error, sp_due *due) {
    if (!sp_pool_is_mine(ticket->pool)) {
        return SP_E_FORKED;
    }
    int64_t result = take_turn(ticket->pool, ticket, error, false);
    if (result == SP_AGAIN && ticket->birth.session == NULL) {
        int rc = renew_bell(ticket);
        if (rc != 0) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "a waiting acquire");
        }
        result = take_turn(ticket->pool, ticket, error,
                           false); /* what changed before is seen now, what changes later rings */
    }
    if (result == SP_AGAIN && ticket->birth.session != NULL) {
        look_at_birth(&ticket->birth, due);
    } else if (result == SP_AGAIN) {
        const int64_t until = sp_now() + SP_SEC(1);
        *due = (sp_due){.fd = ticket->bell.fd,
                        .after_ns = sp_left_until(ticket->deadline < until ? ticket->deadline : until)};
    }
    return result;
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
    sp_bell_close(&ticket->bell);
    pthread_cond_destroy(&ticket->changed);
    free(ticket);
}

void sp_ticket_close(sp_ticket **ticket) {
    sp_ticket *own = *ticket;
    *ticket = NULL;
    sp_ticket_free(own);
}
