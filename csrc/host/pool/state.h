/*
 * The pool's state, shared by the files of this folder and of host/execute. From the bottom up, each file calls those
 * above it in this list only:
 *
 *   ring.h, ledger.h, histogram.h   data structures that know no pool
 *   slot.c                          the states of a slot
 *   counters.c, orphans.c           counters and events; claims whose lease ended before their job
 *   entries.c                       slots, permits, eviction
 *   waiters.c                       what a waiting acquire gets
 *   descriptors.c                   the wake-up of the janitor, and the loss of the pool's own descriptors
 *   settle.c, recycle.c             whether the pool has work left; the places of used sandboxes
 *   bounds.c                        min_size and max_size
 *   lease.c, births.c, warm.c       acquire and release; the janitor's births; warm()
 *   drain.c                         drain()
 *   ticket.c, janitor.c             the caller's side of a waiting acquire; the thread
 *   close.c, pool.c                 the end of a pool, and its beginning
 *
 * Locking: `lock` is held for a few instructions, never across a syscall that can sleep; condition variables are the
 * only wait. The hot path (lease.c) works on the ledger, the ring and one slot, without the lock.
 */
#ifndef SANDPOOL_HOST_POOL_STATE_H
#define SANDPOOL_HOST_POOL_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "host/pool/histogram.h"
#include "host/pool/ledger.h"
#include "host/pool/ring.h"
#include "host/pool/slot.h"
#include "host/sandbox/launch.h"
#include "host/sys/clock.h"
#include "host/sys/events.h"
#include "host/sys/poller.h"

struct sp_ticket_queue {
    struct sp_ticket *head, *tail;
};

struct sp_pool {
    struct sp_ring ring;
    _Atomic uint64_t ledger;
    volatile const uint8_t *mine; /* *mine is 0 in a forked child */
    struct sp_slot *slots;
    sp_pool_options options;
    atomic_uint waiting;     /* tickets queued for max_in_use */
    _Atomic uint64_t bounds; /* {min_size:32, max_size:32}; those of `options` are the first ones. Set under the lock */

    pthread_mutex_t lock;
    pthread_cond_t slot_free; /* a job left its slot */
    pthread_cond_t ended;     /* the janitor is over, or close() has finished */
    pthread_cond_t settled;   /* the pool has no work left */
    pthread_cond_t drained;   /* no lease is out, and none is handed out */
    sp_launcher *launcher;
    pid_t owner_pid;
    uint64_t serial; /* > 0, and different for each pool of this process */
    bool as_root;    /* the host is root, so its sandboxes have another uid */
    _Atomic uint64_t *links;
    struct sp_poller poller;
    pthread_t janitor;
    struct sp_session
        *dying; /* killed, and not dead when last checked; the janitor's, and close()'s after the janitor's end */
    bool janitor_runs;             /* there is a thread to be joined */
    bool janitor_over;             /* it has nothing left to do; under the lock */
    bool closing;                  /* close() was called */
    _Atomic bool descriptors_lost; /* another part of the process closed the pool's; the ledger is closed, too */
    bool wound_up;                 /* what close() does after the janitor's end is done */
    bool stopping;                 /* the janitor has to end */
    bool closed;                   /* close() has finished */
    char *strings;                 /* the health check's argv and env, copied */

    /* under the lock */
    uint32_t free_head; /* list of free slots that were used before */
    uint32_t fresh;     /* slots never used: fresh .. SP_COUNT_MAX - 1 */
    uint32_t recycle_head, recycle_tail;
    struct sp_session *discarded;     /* for the janitor to end */
    struct sp_claim *orphans;         /* for the janitor to kill their sandboxes */
    struct sp_ticket_queue waiters;   /* for max_in_use, FIFO */
    struct sp_ticket_queue takeovers; /* for a recycling entry, FIFO */
    uint64_t hits, misses, created, recycled, create_errors, checks, lost, timeouts, oom_kills;
    uint64_t evictions[SP_EVICT_REASONS];
    uint64_t slow_hits;   /* the part of `hits` that tickets got */
    uint64_t waited_hits; /* the part of `slow_hits` that took over a RECYCLING entry */
    sp_histogram latencies[SP_LATENCIES];
    uint32_t drains; /* calls of drain() under way: the ledger says DRAINING */
    uint32_t starting;
    uint32_t replacing;      /* recycling entries, taken over or not, and surplus ones */
    uint32_t ending;         /* discarded sessions, and those that the janitor is ending */
    bool awaits_death;       /* some were ended and are not known to be dead or undead yet; written by the janitor */
    bool creation_succeeded; /* an acquire has created a sandbox, so refills need not wait any longer */
    uint32_t surplus; /* recycling entries that have lost their place; their sandbox is discarded when it is ready */
    uint64_t recycle_attempts;
};

static inline bool sp_pool_is_mine(const sp_pool *pool) { return *pool->mine != 0; }
static inline uint64_t sp_pool_bounds(uint32_t min_size, uint32_t max_size) {
    return (uint64_t)min_size << 32 | max_size;
}
static inline uint32_t sp_pool_min_size(const sp_pool *pool) { return (uint32_t)(atomic_load(&pool->bounds) >> 32); }
static inline uint32_t sp_pool_max_size(const sp_pool *pool) { return (uint32_t)atomic_load(&pool->bounds); }

/* ---- entries.c ---- */
/* A slot in state STARTING, or SP_NO_SLOT. Under the lock, as all of these but the last two. */
uint32_t sp_pool_take_slot(sp_pool *pool);
void sp_pool_free_slot(sp_pool *pool, uint32_t index);
/* Queues the session for the janitor to end. Safe on NULL. */
void sp_pool_discard(sp_pool *pool, struct sp_session *session);
/* Moves the ledger's hits into the wide counter. */
void sp_pool_fold_hits(sp_pool *pool);
/* A ticket no longer waits for its recycling entry: the entry counts as recycling again, or is surplus at capacity. */
void sp_pool_give_recycling_back(sp_pool *pool);
/* Adds a fresh sandbox to the idle ones and counts it as created. False at capacity; the session stays the caller's. */
bool sp_pool_insert(sp_pool *pool, uint32_t index, struct sp_session *session);
/* Makes the slot idle with this session and pushes it to the ring. The caller adds the permit. */
void sp_pool_make_idle(sp_pool *pool, uint32_t index, struct sp_session *session);
/* Takes the oldest idle entry out of the ring and the counts. SP_NO_SLOT: there is none. */
uint32_t sp_pool_take_oldest(sp_pool *pool);
/* Evicts the oldest idle entry; `reason` is one of SP_EVICT_*. False: there is none. */
bool sp_pool_evict_oldest(sp_pool *pool, unsigned reason);
/* Evicts the oldest idle entry if it became idle before `before`. */
bool sp_pool_evict_older(sp_pool *pool, int64_t before);
/* Evicts this entry if it is still idle; `reason` is one of SP_EVICT_*. */
bool sp_pool_evict_one(sp_pool *pool, uint32_t index, unsigned reason);
/* Leases the newest idle entry and returns the handle. The caller holds a permit, so there is one. Without the lock. */
int64_t sp_pool_lease_newest(sp_pool *pool);
/* Adds `delta` (mod 2^64) to the ledger. */
void sp_ledger_add(sp_pool *pool, uint64_t delta);

/* ---- lease.c ---- */
/* The slot of this handle and its word, while the lease lasts; NULL after it. */
struct sp_slot *sp_lease_slot(sp_pool *pool, int64_t handle, uint64_t *word);
/* Remembers the handle for sp_last_acquired(), and returns it. */
int64_t sp_lease_remember_last(const sp_pool *pool, int64_t handle);

/* The session of the lease for a request beside its job, with a reference for the caller; from now on the lease counts
 * as used. NULL, with the reason in *code. It does not wait for a job: one that replaces the sandbox of the lease at
 * this moment ends the old one with all that was started in it. */
struct sp_session *sp_lease_share(sp_pool *pool, int64_t handle, int *code);
/* Whether a job has found that the memory limit ended the sandbox of the lease. */
bool sp_lease_is_out_of_memory(sp_pool *pool, int64_t handle);

/* ---- recycle.c ---- */
/* Queues the slot of a released sandbox for a fresh one. Under the lock, as all of these. */
void sp_recycle_put(sp_pool *pool, uint32_t index);
/* Takes the slot that has waited longest, for the janitor to recycle. SP_NO_SLOT: none waits. */
uint32_t sp_recycle_next(sp_pool *pool);
/* No fresh sandbox could be created: the entry is evicted, and a ticket that waits for it creates one itself. */
void sp_recycle_failed(sp_pool *pool, uint32_t index, unsigned reason);
/* The fresh sandbox is ready: a ticket that waits for it gets it, else the entry becomes idle. */
void sp_recycle_done(sp_pool *pool, uint32_t index, struct sp_session *session);

/* ---- bounds.c ---- */
/* Evicts what is beyond max_size. Under the lock. */
void sp_pool_keep_max_size(sp_pool *pool);

/* ---- waiters.c ---- */
/* Serves waiting tickets as far as max_in_use and drain() allow, and wakes drain(). To be called when a lease has
 * ended. Under the lock, as all of these. */
void sp_waiters_grant(sp_pool *pool);
/* Leases a recycled slot to the first ticket that waits for one. False: none does. */
bool sp_waiters_hand_over(sp_pool *pool, uint32_t index);
/* Recycling failed: the first ticket that waits has to create a sandbox itself. False: none waits. */
bool sp_waiters_hand_failure(sp_pool *pool);
/* The pool is closed: every ticket is over. */
void sp_waiters_close(sp_pool *pool);

/* ---- descriptors.c ---- */
/* Wakes the janitor. Not under the lock, as the next. */
void sp_pool_kick(sp_pool *pool);
/* Another part of the process has closed the pool's descriptors: every call is refused from now on, but close(). */
void sp_pool_lose_descriptors(sp_pool *pool);

/* ---- orphans.c ---- */
/* The lease of this claim ends with `code`. Under the lock. Whoever calls it has to see to it that sp_orphans_kill() is
 * called soon: by the janitor, once it is kicked, or by who closes the pool. */
void sp_claim_orphan(sp_pool *pool, struct sp_claim *claim, int code);
/* From here on nobody else uses the claim's session. Under the lock, which it may give up meanwhile. */
void sp_claim_withdraw(sp_pool *pool, struct sp_claim *claim);
/* Kills the sandboxes of the orphans. Not under the lock. */
void sp_orphans_kill(sp_pool *pool);

/* ---- settle.c ---- */
/* Whether the pool is below min_size with nothing under way to fill it. Under the lock, as the next. */
bool sp_pool_wants_refill(const sp_pool *pool);
/* Wakes sp_settle() if the pool has no work left. To be called when some work is over. */
void sp_pool_check_settled(sp_pool *pool);

/* ---- counters.c ---- */
/* How a job ended, as far as the pool counts it. */
enum sp_outcome { SP_OUTCOME_ORDINARY, SP_OUTCOME_TIMEOUT, SP_OUTCOME_OOM_KILL, SP_OUTCOME_LOSS };
/* Under the lock. `session` is the job's. */
void sp_pool_count_outcome(sp_pool *pool, enum sp_outcome outcome, const struct sp_session *session);
/* An entry has left the pool. `session` may be NULL. Under the lock. */
void sp_pool_count_eviction(sp_pool *pool, unsigned reason, const struct sp_session *session);
/* A creation has failed. Under the lock. */
void sp_pool_count_failed_creation(sp_pool *pool, const sp_error *error);
/* Queues the event for the log, with the pool's number. Any thread, with or without the lock. */
void sp_pool_report(sp_pool *pool, sp_event event);

/* The observer of sp_dying_check(); `pool` is the pool. */
void sp_pool_report_undead(void *pool, const struct sp_session *session, bool undead);
/* A latency of the kind SP_LATENCY_*, in ns. Under the lock. */
void sp_pool_record_latency(sp_pool *pool, unsigned kind, int64_t ns);

/* ---- janitor.c ---- */
void *sp_janitor_main(void *pool);

#endif
