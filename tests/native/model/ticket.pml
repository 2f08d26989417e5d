/*
 * acquire where it has to wait (host/pool/ticket.c): max_in_use, the queue of waiters, entries taken over while they recycle,
 * creations; against releases without the lock (host/pool/lease.c), the janitor (host/pool/janitor.c), time-outs and callers that
 * give up. Checked: a sandbox is never swallowed by a ticket that is over, nobody is granted before who came first, no
 * acquire overtakes who waited already when it began, in_use keeps its bound, the counts add up, nobody waits for ever.
 *
 * A loop of CAS on a value is one step, as in pool.pml; what only the lock's holder reads is part of the step before.
 * Out of the model: the ring (pool.pml), capacity, close(), weak memory orders. The runner defines one of the mutants.
 *
 *   here                     C
 *   idle recycling in_use    the ledger, one word: changed in one step
 *   fast, release            sp_acquire(), sp_release(), release_used()
 *   grant                    sp_waiters_grant() with decide()
 *   taker from `lock` on     sp_ticket_open(), _poll() with await_change() and create(), _free()
 *   drainer                  sp_drain_wait(), sp_drain_end()
 *   janitor                  recycled(), recycle_failed() with sp_waiters_hand_over() and _hand_failure()
 */

#ifndef BOUND
#define BOUND 1
#endif
#define TAKERS_MAX 3
#define NONE 0
#define QUEUED 1
#define TAKEOVER 2
#define CREATING 3
#define DONE 4
#define OVER 5

byte idle, recycling, in_use;
byte waiting;   /* read without the lock */
byte replacing; /* sandboxes that the janitor has to recycle */
byte made, evicted;
bit draining; /* in the ledger */
bit drained;  /* the condition was broadcast */
bit locked;
byte running;
byte state[TAKERS_MAX];
byte waiters[TAKERS_MAX], n_waiters;
byte takeovers[TAKERS_MAX], n_takeovers;

/* What the model knows and the C does not. */
bit opened[TAKERS_MAX]; /* its ticket waits: the call that queued it is over */
byte leases;            /* that a caller holds, or a ticket holds for it */
byte came[TAKERS_MAX], comes; /* the order in which the waiting ones came */
#define FIRST(t) (!opened[t] || came[waiters[0]] <= came[t])

#define ME (_pid - 1)
#define lock() atomic { !locked -> locked = 1 }
#define unlock() locked = 0

/* The head goes; and mine, wherever it stands. */
#define SHIFT(queue, n) queue[0] = queue[1]; queue[1] = queue[2]; queue[2] = 0; n--
#define LEAVE(queue, n)                                                        \
    mine = (queue[0] == ME -> 0 : (queue[1] == ME -> 1 : 2));                  \
    queue[0] = (mine == 0 -> queue[1] : queue[0]);                             \
    queue[1] = (mine <= 1 -> queue[2] : queue[1]);                             \
    queue[2] = 0;                                                              \
    mine = 0;                                                                  \
    n--

/* Under the lock. */
inline grant() {
    way = QUEUED;
    drained = drained || (draining && in_use == 0);
    do
    :: n_waiters == 0 || way == NONE -> break
    :: else ->
        d_step {
            way = (in_use >= BOUND || draining -> NONE : (idle != 0 -> DONE : (recycling != 0 -> TAKEOVER : CREATING)));
            if
            :: way == DONE -> idle--; in_use++
            :: way == TAKEOVER -> recycling--; in_use++
            :: way == CREATING -> in_use++
            :: else
            fi;
            assert(in_use <= BOUND)
        };
        if
        :: way != NONE ->
            d_step {
                assert(FIRST(0) && FIRST(1) && FIRST(2));
                state[waiters[0]] = way;
                opened[waiters[0]] = 0;
                if
                :: way == DONE -> leases++
                :: way == TAKEOVER -> takeovers[n_takeovers] = waiters[0]; n_takeovers++
                :: way == CREATING -> made++
                fi;
                SHIFT(waiters, n_waiters);
                waiting--
            }
        :: else
        fi
    od;
    way = 0
}

/* has: a lease without the lock */
inline fast() {
    d_step {
        before[0] = opened[0]; before[1] = opened[1]; before[2] = opened[2];
        seen = idle + 4 * recycling + 16 * in_use;
        has = idle != 0 && in_use < BOUND && !draining
    };
    if
    :: has ->
#ifndef MUTANT_OVERTAKES
        has = (waiting == 0);
#endif
        if
        :: has ->
            d_step {
                has = !draining && (seen == idle + 4 * recycling + 16 * in_use); /* without success: the ticket does it */
                if
                :: has ->
                    idle--;
                    in_use++;
                    leases++;
                    assert(!(before[0] && opened[0]) && !(before[1] && opened[1]) && !(before[2] && opened[2]))
                :: else
                fi
            }
        :: else
        fi
    :: else
    fi;
    d_step { before[0] = 0; before[1] = 0; before[2] = 0; seen = 0 }
}

inline release() {
    if
    :: true ->
#ifdef MUTANT_LOOKS_FIRST
        has = (waiting != 0);
#endif
        d_step {
            assert(in_use != 0 && leases != 0);
            leases--;
            in_use--;
            idle++
        };
#ifndef MUTANT_LOOKS_FIRST
        has = (waiting != 0);
#endif
#ifndef MUTANT_DRAIN_IS_NOT_WOKEN
        has = has || draining;
#endif
        if
        :: has -> lock(); grant(); unlock()
        :: else
        fi
    :: true -> /* used */
        lock();
        d_step {
            assert(in_use != 0 && leases != 0);
            leases--;
            in_use--;
            recycling++;
            replacing++
        };
        grant();
        unlock()
    fi
}

/* Under the lock. */
inline roll_back() {
    d_step { made--; in_use-- };
#ifndef MUTANT_FAILURE_GRANTS_NOTHING
    grant()
#endif
}

/* patient: never times out, never gives up */
proctype taker(bit patient) {
    bit has, before[3];
    byte way, seen, mine;
    fast();
    if
    :: has -> release()
    :: else ->
        lock();
        d_step {
#ifdef MUTANT_NEWEST_FIRST
            waiters[2] = waiters[1]; waiters[1] = waiters[0]; waiters[0] = ME;
#else
            waiters[n_waiters] = ME;
#endif
            n_waiters++;
            state[ME] = QUEUED;
            came[ME] = comes;
            comes++
        };
#ifdef MUTANT_RAISED_LATE
        grant();
        waiting = waiting + (state[ME] == QUEUED);
#else
        waiting++;
        grant();
#endif
        d_step { opened[ME] = (state[ME] == QUEUED); locked = 0 };
        /* the condition, or the deadline */
        if
        :: atomic { state[ME] != QUEUED && !locked -> locked = 1 }
        :: atomic { !patient && state[ME] == QUEUED -> skip }; lock();
            if
#ifdef MUTANT_DOES_NOT_LOOK_AGAIN
            :: true ->
#else
            :: state[ME] == QUEUED ->
#endif
                d_step {
                    if
                    :: state[ME] == QUEUED -> LEAVE(waiters, n_waiters); waiting--
                    :: else
                    fi;
                    opened[ME] = 0;
                    state[ME] = OVER
                }
            :: else
            fi
        fi;
        if
        :: state[ME] == TAKEOVER ->
            unlock();
            if
            :: atomic { state[ME] != TAKEOVER && !locked -> locked = 1 }
            :: !patient -> lock();
                if
                :: state[ME] == TAKEOVER ->
                    d_step { LEAVE(takeovers, n_takeovers); in_use--; recycling++; state[ME] = OVER };
                    grant()
                :: else
                fi
            fi
        :: else
        fi;
        if
        :: state[ME] == DONE -> state[ME] = OVER; unlock(); release() /* also who frees it unpolled */
        :: state[ME] == CREATING ->
            unlock();
            if
            :: true -> lock(); d_step { leases++; state[ME] = OVER }; unlock(); release()
            :: true -> lock(); state[ME] = OVER; roll_back(); unlock() /* it fails, or is given up */
            fi
        :: else -> unlock()
        fi
    fi;
    d_step { has = 0; way = 0; running-- }
}

/* Waits for the leases that are out, or gives up; then evicts what is idle. */
proctype drainer(bit patient) {
    byte way;
    lock();
    d_step { draining = 1; drained = (in_use == 0); locked = 0 };
    if
    :: drained
    :: !patient
    fi;
    lock();
    d_step {
        assert(!patient || (in_use == 0 && leases == 0));
        evicted = evicted + idle;
        idle = 0;
        draining = 0;
        drained = 0
    };
    grant();
    unlock();
    d_step { way = 0; running-- }
}

proctype janitor() {
    byte way;
    do
    :: atomic { replacing != 0 && !locked -> locked = 1 };
        d_step {
            replacing--;
            if /* a fresh one, or none: spin tries both */
            :: n_takeovers != 0 -> way = TAKEOVER
            :: else -> way = NONE
            fi
        };
        if
        :: way == TAKEOVER -> /* the old one is replaced: made and evicted cancel out */
            d_step { state[takeovers[0]] = DONE; leases++; SHIFT(takeovers, n_takeovers) }
        :: way == TAKEOVER ->
            d_step { evicted++; made++; state[takeovers[0]] = CREATING; SHIFT(takeovers, n_takeovers) }
        :: way == NONE -> d_step { recycling--; idle++ }; grant()
        :: way == NONE -> d_step { recycling--; evicted++ }; grant()
        fi;
        way = 0;
        unlock()
    :: running == 0 && replacing == 0 -> break
    od
}



init {
    atomic {
        idle = 1;
        made = 1;
        TAKERS
        run janitor()
    };
    running == 0 && replacing == 0 && !locked;
    assert(in_use == 0 && leases == 0 && waiting == 0 && n_waiters == 0 && n_takeovers == 0);
    assert(recycling == 0 && idle == made - evicted)
}
