/*
 * acquire off the hot path: waiting for max_in_use, taking over a recycling entry, creating one. What is to be done is
 * decided under the lock, and done outside it.
 *
 *   QUEUED --grant--> DONE | TAKEOVER | CREATING      TAKEOVER --recycled--> DONE, --failed--> CREATING
 *
 * A hand-over is a state change under the lock: a ticket that has timed out is out of the queue, and cannot be given
 * anything any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "host/pool/state.h"

enum ticket_state { QUEUED, TAKEOVER, CREATING, DONE, OVER };

struct sp_ticket {
    sp_pool *pool;
    struct sp_ticket *next;
    enum ticket_state state;
    int64_t opened;
    int64_t deadline; /* of QUEUED */
    int64_t handle;   /* of DONE */
    uint32_t slot;    /* of CREATING */
    bool refused;     /* CREATING, but there are as many leases as can be counted: it is none of them */
    struct sp_birth birth;
    pthread_cond_t changed;
};

/* ---- queues; under the lock ---- */

static void enqueue(struct sp_ticket_queue *queue, struct sp_ticket *ticket) {
    ticket->next = NULL;
    if (queue->tail != NULL) {
        queue->tail->next = ticket;
    } else {
        queue->head = ticket;
    }
    queue->tail = ticket;
}

static struct sp_ticket *dequeue(struct sp_ticket_queue *queue) {
    struct sp_ticket *ticket = queue->head;
    if (ticket != NULL) {
        queue->head = ticket->next;
        queue->tail = queue->head != NULL ? queue->tail : NULL;
    }
    return ticket;
}

static void leave(struct sp_ticket_queue *queue, struct sp_ticket *ticket) {
    struct sp_ticket *before = NULL;
    for (struct sp_ticket *t = queue->head; t != NULL; before = t, t = t->next) {
        if (t == ticket) {
            *(before != NULL ? &before->next : &queue->head) = t->next;
            queue->tail = queue->tail == t ? before : queue->tail;
            return;
        }
    }
}

static void move_to(struct sp_ticket *ticket, enum ticket_state state) {
    ticket->state = state;
    pthread_cond_signal(&ticket->changed);
}

/* ---- decisions; under the lock ---- */

static void start_creating(sp_pool *pool, struct sp_ticket *ticket) {
    ticket->slot = sp_pool_take_slot(pool);
    pool->created++; /* rolled back if it fails, so that created - evicted = idle + in use all the time */
    move_to(ticket, CREATING);
}

/* The ticket may have a lease: which way. The counts are settled here; only a creation can still fail. */
static bool decide(sp_pool *pool, struct sp_ticket *ticket) {
    const uint32_t bound = pool->options.max_in_use;
    sp_pool_fold_hits(pool);
    uint64_t ledger = atomic_load(&pool->ledger);
    for (;;) {
        if (bound != 0 && sp_ledger_in_use(ledger) >= bound) {
            return false;
        }
        if (sp_ledger_in_use(ledger) == SP_COUNT_MAX) {
            (void)dequeue(&pool->waiters); /* it is the first */
            atomic_fetch_sub(&pool->waiting, 1);
            pool->misses++;
            ticket->refused = true;
            move_to(ticket, CREATING);
            return true;
        }
        bool idle = sp_ledger_idle(ledger) != 0;
        bool recycling = !idle && sp_ledger_recycling(ledger) != 0;
        uint64_t step = SP_LEDGER_IN_USE;
        if (idle || recycling) {
            step += SP_LEDGER_HIT - (idle ? SP_LEDGER_IDLE : SP_LEDGER_RECYCLING);
        }
        if (!atomic_compare_exchange_strong(&pool->ledger, &ledger, ledger + step)) {
            continue;
        }
        pool->slow_hits += idle || recycling;
        (void)dequeue(&pool->waiters); /* it is the first */
        atomic_fetch_sub(&pool->waiting, 1);
        if (idle) {
            ticket->handle = sp_pool_lease_newest(pool);
            move_to(ticket, DONE);
        } else if (recycling) {
            enqueue(&pool->takeovers, ticket);
            move_to(ticket, TAKEOVER);
        } else {
            pool->misses++;
            start_creating(pool, ticket);
        }
        return true;
    }
}

void sp_tickets_grant(sp_pool *pool) {
    while (pool->waiters.head != NULL && decide(pool, pool->waiters.head)) {
    }
}

bool sp_tickets_hand_over(sp_pool *pool, uint32_t index) {
    struct sp_ticket *ticket = dequeue(&pool->takeovers);
    if (ticket == NULL) {
        return false;
    }
    ticket->handle = sp_slot_lease(&pool->slots[index], index);
    move_to(ticket, DONE);
    return true;
}

bool sp_tickets_hand_failure(sp_pool *pool) {
    struct sp_ticket *ticket = dequeue(&pool->takeovers);
    if (ticket == NULL) {
        return false;
    }
    start_creating(pool, ticket);
    return true;
}

static void end_queue(struct sp_ticket_queue *queue) {
    for (struct sp_ticket *ticket; (ticket = dequeue(queue)) != NULL;) {
        move_to(ticket, OVER);
    }
}

void sp_tickets_close(sp_pool *pool) {
    atomic_store(&pool->waiting, 0);
    end_queue(&pool->waiters);
    end_queue(&pool->takeovers);
}

/* ---- the caller's side ---- */

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
    if (!sp_poller_is_own(&pool->poller)) { /* an acquire without a ticket makes no system call, and does not look */
        sp_pool_lose_descriptors(pool);
    }
    pthread_mutex_lock(&pool->lock);
    int rc = sp_ledger_closed(atomic_load(&pool->ledger)) ? SP_E_CLOSED : SP_OK;
    if (rc == SP_OK) {
        enqueue(&pool->waiters, ticket);
        /* seq_cst, before may_lease() reads the ledger: pairs with sp_acquire() and sp_release() */
        atomic_fetch_add(&pool->waiting, 1);
        sp_tickets_grant(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    if (rc != SP_OK) {
        ticket->state = OVER;
    }
    *out = ticket;
    return SP_OK;
}

/* Sleeps until the ticket moves on, its deadline or the slice's end. */
static int64_t await_change(sp_pool *pool, struct sp_ticket *ticket) {
    const enum ticket_state before = ticket->state;
    int64_t until = sp_now() + SP_SLICE_NS;
    if (before == QUEUED && ticket->deadline < until) {
        until = ticket->deadline;
    }
    while (ticket->state == before) {
        if (sp_cond_wait_until(&ticket->changed, &pool->lock, until) != 0) {
            break;
        }
    }
    if (ticket->state == QUEUED && sp_now() >= ticket->deadline) {
        leave(&pool->waiters, ticket);
        atomic_fetch_sub(&pool->waiting, 1);
        ticket->state = OVER;
        return SP_E_TIMEOUT;
    }
    return SP_AGAIN;
}

/* What a failed or given up creation leaves behind. Under the lock. */
static void roll_back(sp_pool *pool, struct sp_ticket *ticket) {
    ticket->state = OVER;
    if (ticket->refused) {
        return;
    }
    if (ticket->slot != SP_NO_SLOT) {
        sp_pool_free_slot(pool, ticket->slot);
    }
    pool->created--;
    sp_ledger_add(pool, 0 - SP_LEDGER_IN_USE);
    sp_tickets_grant(pool);
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
        ticket->state = OVER;
        pool->creation_succeeded = true;
        sp_pool_record_latency(pool, SP_LATENCY_CREATE, ticket->birth.took);
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
    return closed ? SP_E_CLOSED : rc; /* a birth still under way goes with the ticket */
}

int64_t sp_ticket_poll(sp_ticket *ticket, sp_error *error) {
    sp_pool *pool = ticket->pool;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    int64_t result = SP_AGAIN;
    pthread_mutex_lock(&pool->lock);
    if (ticket->state == QUEUED || ticket->state == TAKEOVER) {
        result = await_change(pool, ticket);
    }
    enum ticket_state state = ticket->state;
    if (result == SP_AGAIN && state == DONE) {
        ticket->state = OVER;
        result = sp_lease_remember_last(pool, ticket->handle);
        sp_pool_record_latency(pool, SP_LATENCY_ACQUIRE_WAIT, sp_now() - ticket->opened);
    } else if (result == SP_AGAIN && state == OVER) {
        result = SP_E_CLOSED;
    }
    pthread_mutex_unlock(&pool->lock);
    return result == SP_AGAIN && state == CREATING ? create(pool, ticket, error) : result;
}

void sp_ticket_free(sp_ticket *ticket) {
    if (ticket == NULL || !sp_pool_is_mine(ticket->pool)) {
        return;
    }
    sp_pool *pool = ticket->pool;
    pthread_mutex_lock(&pool->lock);
    enum ticket_state state = ticket->state;
    if (state == QUEUED) {
        leave(&pool->waiters, ticket);
        atomic_fetch_sub(&pool->waiting, 1);
    } else if (state == TAKEOVER) {
        leave(&pool->takeovers, ticket);
        sp_pool_give_recycling_back(pool);
        sp_tickets_grant(pool);
    } else if (state == CREATING) {
        roll_back(pool, ticket);
    }
    pthread_mutex_unlock(&pool->lock);
    if (state == DONE) {
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
