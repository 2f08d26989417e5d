/*
 * The pool's state, shared by pool.c (open, warm), close.c, entries.c (slots, permits, eviction), lease.c (acquire and
 * release), ticket.c (acquires that wait), job*.c (execute), recycle.c (what becomes of a used one's place), janitor.c
 * (the thread) and stats.c (what it tells). Nobody else includes it.
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
    volatile const uint8_t *mine; /* 0 in a forked child */
    struct sp_slot *slots;
    sp_pool_options options;
    atomic_uint waiting; /* tickets queued for max_in_use */

    pthread_mutex_t lock;
    pthread_cond_t slot_free; /* a job left its slot */
    pthread_cond_t ended;     /* close() is through */
    pthread_cond_t settled;
    sp_launcher *launcher;
    pid_t owner_pid;
    uint64_t serial; /* > 0, of no other pool of this process */
    bool as_root;    /* the sandboxes' uid is not the host's */
    _Atomic uint64_t *links;
    struct sp_poller poller;
    pthread_t janitor;
    struct sp_session *dying;      /* the janitor's, and after it close()'s: killed, and not dead when it last looked */
    bool janitor_runs;             /* there is a thread to be joined */
    bool janitor_over;             /* it has nothing left to do; under the lock */
    bool closing;                  /* close() was called */
    _Atomic bool descriptors_lost; /* they were closed by somebody else, and the ledger says that it is closed */
    bool wound_up;                 /* close() has done what comes after the janitor's end */
    bool stopping;                 /* the janitor shall end */
    bool closed;                   /* close() is through */
    char *strings;                 /* the health check's argv and env, copied */

    /* under the lock */
    uint32_t free_head; /* slots used before */
    uint32_t fresh;     /* slots never used: fresh .. SP_COUNT_MAX - 1 */
    uint32_t recycle_head, recycle_tail;
    struct sp_session *discarded;     /* to be ended by the janitor */
    struct sp_claim *orphans;         /* their sandboxes are to be killed by it */
    struct sp_ticket_queue waiters;   /* for max_in_use, FIFO */
    struct sp_ticket_queue takeovers; /* for a recycling entry, FIFO */
    uint64_t hits, misses, created, recycled, create_errors, checks, lost, timeouts, oom_kills;
    uint64_t evictions[SP_EVICT_REASONS];
    uint64_t slow_hits; /* those of `hits` that a ticket had */
    sp_histogram latencies[SP_LATENCIES];
    uint32_t starting;
    uint32_t replacing;      /* recycling entries, taken over or not, and surplus ones */
    uint32_t ending;         /* sessions in the morgue, and being ended by the janitor */
    bool awaits_death;       /* some were ended, and are not known to be dead or undead; written by the janitor */
    bool creation_succeeded; /* an acquire has created one: refills need not wait any longer */
    uint32_t surplus;        /* recycling entries without a place: dropped when they are ready */
    uint64_t recycle_attempts;
};

static inline bool sp_pool_is_mine(const sp_pool *pool) { return *pool->mine != 0; }

/* ---- entries.c ---- */
/* A slot in state STARTING, or SP_NO_SLOT. Under the lock, as all of these. */
uint32_t sp_pool_take_slot(sp_pool *pool);
void sp_pool_free_slot(sp_pool *pool, uint32_t index);
void sp_pool_discard(sp_pool *pool, struct sp_session *session);
void sp_pool_fold_hits(sp_pool *pool);
/* Nobody waits for one of the recycling entries any more: it is idle again, or surplus. */
void sp_pool_give_recycling_back(sp_pool *pool);
/* Adds a fresh sandbox to the idle ones, counted as created. False at capacity: then it is the caller's again. */
bool sp_pool_insert(sp_pool *pool, uint32_t index, struct sp_session *session);
/* Puts it into the slot as idle and in the ring; the permit is the caller's to add. */
void sp_pool_make_idle(sp_pool *pool, uint32_t index, struct sp_session *session);
/* The oldest idle entry, out of the ring and of the counts; SP_NO_SLOT when there is none. */
uint32_t sp_pool_take_oldest(sp_pool *pool);
/* Makes room: takes the oldest idle entry out. False when there is none. */
bool sp_pool_evict_oldest(sp_pool *pool);
/* The same by age, when it became idle before `before`. */
bool sp_pool_evict_older(sp_pool *pool, int64_t before);
/* This idle entry, if it still is one; `reason` is one of SP_EVICT_*. */
bool sp_pool_evict_one(sp_pool *pool, uint32_t index, unsigned reason);
/* Leases the newest idle entry to the caller, who holds a permit, and so finds one. Without the lock. The handle. */
int64_t sp_pool_lease_newest(sp_pool *pool);
/* Adds `delta` (mod 2^64) to the ledger. */
void sp_ledger_add(sp_pool *pool, uint64_t delta);

/* ---- lease.c ---- */
/* The slot of a handle whose lease is on, with its word; NULL when it is over. */
struct sp_slot *sp_lease_slot(sp_pool *pool, int64_t handle, uint64_t *word);
/* Remembers, for sp_last_acquired(), what is about to be returned to the caller; returns it. */
int64_t sp_lease_remember_last(const sp_pool *pool, int64_t handle);

/* ---- recycle.c ---- */
/* The place of a released sandbox waits for a fresh one. Under the lock, as all of these. */
void sp_recycle_put(sp_pool *pool, uint32_t index);
/* The one that waits longest, for the janitor to see to; SP_NO_SLOT when none does. */
uint32_t sp_recycle_next(sp_pool *pool);
/* It stays empty: evicted, and whoever had taken it over creates one. */
void sp_recycle_failed(sp_pool *pool, uint32_t index, unsigned reason);
/* It has a fresh sandbox: whoever had taken it over gets that, or it is idle. */
void sp_recycle_done(sp_pool *pool, uint32_t index, struct sp_session *session);

/* ---- waiters.c ---- */
/* Serves waiters while max_in_use allows. Under the lock. */
void sp_waiters_grant(sp_pool *pool);
/* Gives a recycled slot to the first take-over; false when nobody waits. Under the lock. */
bool sp_waiters_hand_over(sp_pool *pool, uint32_t index);
/* Recycling failed: the first take-over has to create one itself. False when nobody waits. */
bool sp_waiters_hand_failure(sp_pool *pool);
void sp_waiters_close(sp_pool *pool);

/* ---- descriptors.c ---- */
/* Wakes the janitor. Not under the lock, as the next. */
void sp_pool_kick(sp_pool *pool);
/* The pool's own descriptors are not ours any more: from here on every call is refused, until it is closed. */
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
/* Below min_size, and nothing under way for it yet. Under the lock, as the next. */
bool sp_pool_wants_refill(const sp_pool *pool);
/* To be called when work of those kinds is over. */
void sp_pool_check_settled(sp_pool *pool);

/* ---- counters.c ---- */
/* How a job ended, as far as the pool counts it. */
enum sp_outcome { SP_OUTCOME_ORDINARY, SP_OUTCOME_TIMEOUT, SP_OUTCOME_OOM_KILL, SP_OUTCOME_LOSS };
/* Under the lock. `session` is the job's. */
void sp_pool_count_outcome(sp_pool *pool, enum sp_outcome outcome, const struct sp_session *session);
/* An entry has left the pool. `session` may be NULL. Under the lock. */
void sp_pool_count_eviction(sp_pool *pool, unsigned reason, const struct sp_session *session);
/* A creation has failed. Under the lock, as the next. */
void sp_pool_count_failed_creation(sp_pool *pool, const sp_error *error);
/* Queues the event for the log, with the pool's number. Any thread, with or without the lock. */
void sp_pool_report(sp_pool *pool, sp_event event);

/* The observer of sp_dying_look(); `pool` is the pool. */
void sp_pool_report_undead(void *pool, const struct sp_session *session, bool undead);
/* A latency of the kind SP_LATENCY_*, in ns. Under the lock. */
void sp_pool_record_latency(sp_pool *pool, unsigned kind, int64_t ns);

/* ---- janitor.c ---- */
void *sp_janitor_main(void *pool);

#endif
