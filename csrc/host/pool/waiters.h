/*
 * A ticket is one acquire that waits. waiters.c decides what a ticket gets, under the lock; ticket.c is the caller's
 * side.
 *
 *   QUEUED --grant--> DONE | TAKEOVER | CREATING      TAKEOVER --recycled--> DONE, --failed--> CREATING
 *
 * A hand-over is a change of state under the lock. A ticket whose time is up leaves its queue under the lock, too, and
 * so cannot be given anything any more.
 */
#ifndef SANDPOOL_HOST_POOL_WAITERS_H
#define SANDPOOL_HOST_POOL_WAITERS_H

#include "host/pool/state.h"
#include "host/sys/bell.h"

enum sp_ticket_state { SP_TICKET_QUEUED, SP_TICKET_TAKEOVER, SP_TICKET_CREATING, SP_TICKET_DONE, SP_TICKET_OVER };

struct sp_ticket {
    sp_pool *pool;
    struct sp_ticket *next;
    enum sp_ticket_state state;
    int64_t opened;
    int64_t deadline; /* of QUEUED */
    int64_t handle;   /* of DONE */
    uint32_t slot;    /* of CREATING */
    bool refused; /* CREATING, but the counter of leases is full: the creation fails, and it is not counted as one */
    struct sp_birth birth;
    pthread_cond_t changed;
    struct sp_bell bell; /* rung at each change; open if an event loop waits for that */
};

/* All under the lock. Joins the queue for max_in_use. */
void sp_waiters_join(sp_pool *pool, struct sp_ticket *ticket);
/* A QUEUED ticket leaves it. */
void sp_waiters_leave(sp_pool *pool, struct sp_ticket *ticket);
/* A TAKEOVER ticket gives its claim on a recycling entry up. */
void sp_waiters_give_takeover_up(sp_pool *pool, struct sp_ticket *ticket);

#endif
