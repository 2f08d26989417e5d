/* Which ticket gets what: see waiters.h. Everything here runs under the lock. */
#include "host/pool/waiters.h"

#include <stdatomic.h>

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

static void move_to(struct sp_ticket *ticket, enum sp_ticket_state state) {
    ticket->state = state;
    pthread_cond_signal(&ticket->changed);
    sp_bell_ring(&ticket->bell);
}

static void start_creating(sp_pool *pool, struct sp_ticket *ticket) {
    ticket->slot = sp_pool_take_slot(pool);
    pool->created++; /* rolled back if the creation fails, so that created - evicted = idle + in use at all times */
    move_to(ticket, SP_TICKET_CREATING);
}

/* Decides how the first ticket gets its lease, and adjusts the counts. Only a creation can still fail. False: it may
 * not have one yet. */
static bool decide(sp_pool *pool, struct sp_ticket *ticket) {
    const uint32_t bound = pool->options.max_in_use;
    sp_pool_fold_hits(pool);
    uint64_t ledger = atomic_load(&pool->ledger);
    for (;;) {
        if (sp_ledger_draining(ledger) || (bound != 0 && sp_ledger_in_use(ledger) >= bound)) {
            return false;
        }
        if (sp_ledger_in_use(ledger) == SP_COUNT_MAX) {
            (void)dequeue(&pool->waiters); /* it is the first */
            atomic_fetch_sub(&pool->waiting, 1);
            pool->misses++;
            ticket->refused = true;
            move_to(ticket, SP_TICKET_CREATING);
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
        pool->waited_hits += recycling;
        (void)dequeue(&pool->waiters); /* it is the first */
        atomic_fetch_sub(&pool->waiting, 1);
        if (idle) {
            ticket->handle = sp_pool_lease_newest(pool);
            move_to(ticket, SP_TICKET_DONE);
        } else if (recycling) {
            enqueue(&pool->takeovers, ticket);
            move_to(ticket, SP_TICKET_TAKEOVER);
        } else {
            pool->misses++;
            start_creating(pool, ticket);
        }
        return true;
    }
}

void sp_waiters_grant(sp_pool *pool) {
    uint64_t ledger = atomic_load(&pool->ledger);
    if (sp_ledger_draining(ledger) && sp_ledger_in_use(ledger) == 0) {
        pthread_cond_broadcast(&pool->drained);
    }
    while (pool->waiters.head != NULL && decide(pool, pool->waiters.head)) {
    }
}

bool sp_waiters_hand_over(sp_pool *pool, uint32_t index) {
    struct sp_ticket *ticket = dequeue(&pool->takeovers);
    if (ticket == NULL) {
        return false;
    }
    ticket->handle = sp_slot_lease(&pool->slots[index], index);
    move_to(ticket, SP_TICKET_DONE);
    return true;
}

bool sp_waiters_hand_failure(sp_pool *pool) {
    struct sp_ticket *ticket = dequeue(&pool->takeovers);
    if (ticket == NULL) {
        return false;
    }
    start_creating(pool, ticket);
    return true;
}

static void end_queue(struct sp_ticket_queue *queue) {
    for (struct sp_ticket *ticket; (ticket = dequeue(queue)) != NULL;) {
        move_to(ticket, SP_TICKET_OVER);
    }
}

void sp_waiters_close(sp_pool *pool) {
    atomic_store(&pool->waiting, 0);
    end_queue(&pool->waiters);
    end_queue(&pool->takeovers);
}

void sp_waiters_join(sp_pool *pool, struct sp_ticket *ticket) {
    enqueue(&pool->waiters, ticket);
    /* seq_cst, before decide() reads the ledger: pairs with sp_acquire() and sp_release() */
    atomic_fetch_add(&pool->waiting, 1);
    sp_waiters_grant(pool);
}

void sp_waiters_leave(sp_pool *pool, struct sp_ticket *ticket) {
    leave(&pool->waiters, ticket);
    atomic_fetch_sub(&pool->waiting, 1);
}

void sp_waiters_give_takeover_up(sp_pool *pool, struct sp_ticket *ticket) {
    leave(&pool->takeovers, ticket);
    sp_pool_give_recycling_back(pool);
    sp_waiters_grant(pool);
}
