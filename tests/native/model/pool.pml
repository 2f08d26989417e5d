/*
 * The ring, the ledger's permits and the slots' states, as the C does it: each atomic access of the C is one step here,
 * and what a lock guards takes the lock. Checked: no entry is lost or doubled, none is leased and idle at once, whoever
 * holds a permit finds an entry, a lease is ended once and only by its own handle, the counts add up, nobody waits for
 * ever.
 *
 * What keeps it small enough to be searched to the end with four threads: tags are told by what they are for (below), a
 * loop of CAS on a value is one step (below), and what only its own thread can see is part of the step before.
 *
 * Out of the model: weak memory orders (here every access is sequentially consistent; ThreadSanitizer and the windowed
 * tests take them), weak CAS that fail without cause, the wrap of a tag, sessions and jobs. Tickets: ticket.pml.
 *
 *   here                 C
 *   words[], H           links and head of host/pool/ring.h
 *   seek, sweep, visit   sp_ring_seek(), for an end or an index; a turn of its loop with _look and _help
 *   take, push           sp_ring_claim_at() with _claim; sp_ring_push()
 *   acquire              sp_acquire(), sp_pool_lease_newest(), sp_slot_lease()        host/pool/lease.c
 *   release, give_back   sp_release(), give_back(), give_back_full()                    host/pool/lease.c
 *   release_used         release_used(), free_place()                                  host/pool/lease.c
 *   evict_oldest         sp_pool_evict_oldest(): take_permit(), claim_permitted()       host/pool/entries.c
 *   keep_max_size        sp_pool_keep_max_size() with evict_one()                       host/pool/bounds.c
 *   resizer              sp_pool_resize()                                               host/pool/bounds.c
 *   recycle              sp_recycle_done() with sp_pool_make_idle()                         host/pool/recycle.c, host/pool/entries.c
 *
 * The states of a slot, as csrc/host/pool/slot.c has them. Here there is no STARTING: a sandbox is made in one step. BUSY,
 * DEAD and SHARED are part of USED, because they decide the same.
 *
 *   event      from                       to                       by whom
 *   ---------  -------------------------  -----------------------  ---------------------------------------------
 *   take       EMPTY                      STARTING                 under the lock, for a sandbox in the making
 *   make_idle  STARTING, RECYCLING        IDLE                     under the lock, before the push to the ring
 *   lease      IDLE, STARTING, RECYCLING  LEASED, next generation  its only owner, who took, made or was handed it
 *   give_back  LEASED without flags       IDLE                     the lease's holder, without the lock
 *   claim      LEASED                     LEASED + BUSY + USED     a job, under the lock
 *   share      LEASED                     LEASED + SHARED          a process or a file call, under the lock
 *   unclaim    LEASED + BUSY              LEASED, perhaps + LOST   the job, under the lock; - USED if nothing ran
 *   mark_dead  LEASED                     LEASED + DEAD            the janitor, under the lock
 *   replace    LEASED + DEAD              LEASED                   the job of an unused lease, under the lock
 *   recycle    LEASED with a flag         RECYCLING                release(), under the lock
 *   end_lease  LEASED                     EMPTY                    close(), under the lock
 *   clear      any but LEASED             EMPTY                    its only owner, under the lock
 *
 * The runner defines one of the mutants below; each has to fail.
 */

#ifndef MAX_SIZE
#define MAX_SIZE 2
#endif
#define SLOTS 3
#define H SLOTS /* the head, behind the links */
#define END 15
#define NEWEST 16
#define OLDEST 17
#define EMPTY 31

/* A word: {mark:1, next:4} */
#define NEXT(w) ((w) & 15)
#define MARK 16
#define MARKED(w) (((w) & MARK) != 0)

/* The ledger: {in_use:4, recycling:4, idle:4} */
#define IDLE 1
#define RECYCLING 16
#define IN_USE 256
#define IDLES(l) ((l) & 15)
#define RECYCLINGS(l) (((l) >> 4) & 15)
#define IN_USES(l) ((l) >> 8)
#define FULL(l) (IDLES(l) + RECYCLINGS(l) >= max_size)

/* A slot's word: {generation, used:1, state:3} */
#define IS_EMPTY 0
#define IS_IDLE 1
#define IS_LEASED 2
#define IS_RECYCLING 3
#define STATE(s) ((s) & 7)
#define USED 8
#define GENERATION(s) ((s) >> 4)
#define WITH(s, state) (((s) & ~15) | (state))

byte words[SLOTS + 1];
short ledger;
byte max_size = MAX_SIZE;
byte slot[SLOTS];
bit queued[SLOTS]; /* to be recycled */
byte surplus;      /* places that are recycled, and were evicted meanwhile */
bit locked;
byte evicted;
byte running;

/* What the model knows and the C does not. */
bit in_ring[SLOTS];

/*
 * The tags. None is met again while somebody remembers it (ring.h: ABA), so all that a tag can tell is whether the word
 * was written since it was read. That is here a bit for each of the two words that a thread remembers, and a write of
 * the word clears it; without them the states would be told apart by how often a word was written.
 */
#define THREADS_MAX 4
#define ME (_pid - 1)
byte of_prev[THREADS_MAX], of_index[THREADS_MAX]; /* which words: as prev and index */
bit prev_is_new[THREADS_MAX], index_is_new[THREADS_MAX];

#ifdef MUTANT_NO_TAG
#define PREV_UNCHANGED (words[prev] == prev_word)
#define UNCHANGED (words[index] == word)
#else
#define PREV_UNCHANGED (prev_is_new[ME])
#define UNCHANGED (index_is_new[ME])
#endif

#define LOCALS byte prev_word, word, prev, index, result; short seen; bit ok, found
/* What is not read again would only make more states. */
#define FORGET_INDEX word = 0; index = 0; of_index[ME] = 0; index_is_new[ME] = 0
#define FORGET_PREV prev_word = 0; prev = 0; of_prev[ME] = 0; prev_is_new[ME] = 0
#define FORGET_ALL FORGET_INDEX; FORGET_PREV; seen = 0; ok = 0; found = 0; result = 0
#define FORGET() atomic { FORGET_ALL }
#define END_THREAD() atomic { FORGET_ALL; running-- }

inline lock() { atomic { !locked -> locked = 1 } }
inline unlock() { locked = 0 }

/* ---- the ring ---- */

#define IS_OLD(t, at)                                       \
    prev_is_new[t] = prev_is_new[t] && of_prev[t] != (at);  \
    index_is_new[t] = index_is_new[t] && of_index[t] != (at)

inline write_word(at, value) {
    words[at] = value;
    IS_OLD(0, at);
    IS_OLD(1, at);
    IS_OLD(2, at);
    IS_OLD(3, at)
}

inline start() {
    d_step {
        FORGET_INDEX;
        prev = H;
        of_prev[ME] = H;
        prev_word = words[H];
        prev_is_new[ME] = 1
    }
}

inline unlink() {
    d_step {
        ok = PREV_UNCHANGED;
        if
        :: ok ->
            prev_word = NEXT(word);
            write_word(prev, prev_word);
            prev_is_new[ME] = 1
        :: else
        fi
    }
}

inline note() {
    d_step {
        if
        :: UNCHANGED -> write_word(index, index | MARK)
        :: else
        fi;
        FORGET_INDEX
    }
}

#define IS_OUT(i) (MARKED(words[i]) && NEXT(words[i]) == i)
#define IS_AT(want) (want == NEWEST || want == index || (want == OLDEST && NEXT(word) == END))

/* One turn of the loop: it breaks with `found`, stands at the next link, or at the start. */
inline visit(want) {
    d_step {
        index = NEXT(prev_word);
        of_index[ME] = index;
        word = words[index];
        index_is_new[ME] = 1
    };
    atomic {
#ifdef MUTANT_NO_SECOND_LOOK
        ok = 1;
#else
        ok = PREV_UNCHANGED;
#endif
        if
        :: ok && !MARKED(word) && IS_AT(want) -> found = 1
        :: ok && !MARKED(word) && !IS_AT(want) ->
            prev = index;
            of_prev[ME] = index;
            prev_word = word;
            prev_is_new[ME] = index_is_new[ME];
            FORGET_INDEX
        :: else
        fi
    };
    if
    :: !ok -> start()
    :: ok && found -> break
    :: ok && !found && MARKED(word) ->
        unlink();
        if
        :: !ok -> start()
        :: else ->
            note();
            if
            :: want == OLDEST && NEXT(prev_word) == END -> start()
            :: else
            fi
        fi
    :: else
    fi
}

inline seek(want) {
    start();
    found = 0;
    do
    :: NEXT(prev_word) == END -> break
    :: else -> visit(want)
    od
}

/* seek for an index */
inline sweep(i) {
    start();
    found = 0;
    do
    :: NEXT(prev_word) == END -> break
    :: NEXT(prev_word) != END && IS_OUT(i) -> break
    :: NEXT(prev_word) != END && !IS_OUT(i) -> visit(i)
    od
}

/* result: an index that is now the caller's, or EMPTY */
inline take(want) {
    result = EMPTY;
    do
    :: result != EMPTY -> break
    :: else ->
        seek(want);
        if
        :: !found -> break
        :: else ->
            d_step {
                ok = UNCHANGED;
                if
                :: ok ->
                    result = index;
                    word = NEXT(word) | MARK;
                    write_word(index, word);
                    assert(in_ring[index]); /* no entry is had twice */
                    in_ring[index] = 0
                :: else
                fi
            };
            if
            :: ok ->
                unlink();
                if
                :: !ok ->
#ifndef MUTANT_NO_SWEEP
                    sweep(result)
#endif
                :: else
                fi
            :: else
            fi
        fi
    od
}

inline push(i) {
    start();
    do
    :: true ->
        d_step { write_word(i, NEXT(prev_word)) };
        d_step {
            ok = PREV_UNCHANGED;
            if
            :: ok ->
                write_word(H, i);
                assert(!in_ring[i]);
                in_ring[i] = 1
            :: else ->
                prev_word = words[H];
                prev_is_new[ME] = 1
            fi
        };
        if
        :: ok -> break
        :: else
        fi
    od
}

/* ---- leases ----
 *
 * A loop that reads a value, decides by it alone, and swaps it or tries again, is one step here: when the CAS succeeds,
 * the decision is that of the moment.
 */

inline free_slot(i) { slot[i] = WITH(slot[i], IS_EMPTY) }

/* handle: the generation, with the slot in `mine`; 0 when nothing was idle */
inline acquire() {
    handle = 0;
    d_step {
        ok = IDLES(ledger) != 0;
        ledger = (ok -> ledger - IDLE + IN_USE : ledger)
    };
    if
    :: ok ->
        take(NEWEST);
        assert(result != EMPTY); /* a permit is an entry */
        d_step {
            mine = result;
            assert(STATE(slot[mine]) == IS_IDLE && !(slot[mine] & USED));
            handle = GENERATION(slot[mine]) + 1;
            slot[mine] = (handle << 4) | IS_LEASED;
            FORGET_ALL
        }
    :: else
    fi
}

inline give_back_full() {
    lock();
    d_step {
        ledger = ledger - IN_USE;
        evicted++
    };
    take(OLDEST);
    assert(result != EMPTY); /* its own is there, or was taken instead of another one; nothing is closed here */
    free_slot(result);
    unlock()
}

/* Takes a permit away, and then the oldest entry. result: EMPTY when there was no permit. */
inline evict_oldest() {
    result = EMPTY;
#ifdef MUTANT_NO_CAS
    seen = ledger;
    ok = IDLES(seen) != 0;
    ledger = (ok -> seen - IDLE : ledger);
#else
    d_step {
        ok = IDLES(ledger) != 0;
        ledger = (ok -> ledger - IDLE : ledger)
    };
#endif
    if
    :: ok ->
        take(OLDEST);
        assert(result != EMPTY);
        d_step {
            evicted++;
            free_slot(result)
        }
    :: else
    fi
}

/* Under the lock. */
inline keep_max_size() {
    do
    :: IDLES(ledger) + RECYCLINGS(ledger) <= max_size -> break
    :: else ->
        d_step {
            ok = RECYCLINGS(ledger) != 0 && (queued[0] || queued[1] || queued[2]);
            if
            :: ok ->
                result = (queued[0] -> 0 : (queued[1] -> 1 : 2));
                queued[result] = 0;
                free_slot(result);
                ledger = ledger - RECYCLING;
                evicted++;
                result = 0
            :: else
            fi
        };
        if
        :: ok
        :: else ->
            evict_oldest();
            d_step {
                if
                :: result == EMPTY && RECYCLINGS(ledger) != 0 ->
                    surplus++;
                    ledger = ledger - RECYCLING;
                    evicted++
                :: else
                fi;
                FORGET_ALL
            }
        fi
    od
}

/* ok: there was a place. `result` is the bound that it was seen with. */
inline enter_permit() {
    result = max_size;
    d_step {
        seen = ledger;
        ok = IDLES(seen) + RECYCLINGS(seen) < result;
        ledger = (ok -> seen - IN_USE + IDLE : seen);
        result = 0
    }
}

inline give_back(i) {
#ifdef MUTANT_PERMIT_FIRST
    enter_permit();
    found = ok;
    push(i);
    ok = found;
#else
    push(i);
    enter_permit();
#endif
    if
    :: ok ->
#ifndef MUTANT_OLD_BOUND
        ok = FULL(seen);
        if
        :: ok -> lock(); keep_max_size(); unlock()
        :: else
        fi
#endif
    :: else -> give_back_full()
    fi
}

/* Under the lock. The place is taken in the step that sees it: unused leases come back without the lock. */
inline release_used(i) {
    slot[i] = WITH(slot[i], IS_RECYCLING);
    do
    :: true ->
        d_step {
            seen = ledger;
            ok = !FULL(seen);
            if
            :: ok ->
                ledger = ledger + RECYCLING - IN_USE;
                queued[i] = 1
            :: else
            fi
        };
        if
        :: ok -> break
        :: else ->
            evict_oldest();
            if
            :: result != EMPTY
            :: else ->
                d_step {
                    ok = (ledger == seen);
                    if
                    :: ok ->
                        ledger = ledger - IN_USE;
                        evicted++;
                        free_slot(i)
                    :: else
                    fi
                };
                if
                :: ok -> break
                :: else
                fi
            fi
        fi
    od
}

#ifdef MUTANT_NO_GENERATION
#define IS_ON(s, h) (STATE(s) == IS_LEASED)
#else
#define IS_ON(s, h) (STATE(s) == IS_LEASED && GENERATION(s) == (h))
#endif

inline release(i, h) {
#ifdef MUTANT_RELEASE_WITHOUT_CAS
    word = slot[i];
#else
    d_step {
        word = slot[i];
        if
        :: IS_ON(word, h) && !(word & USED) -> slot[i] = WITH(word, IS_IDLE)
        :: else
        fi
    };
#endif
    if
    :: !IS_ON(word, h)
    :: IS_ON(word, h) && (word & USED) ->
        lock();
        if
        :: IS_ON(slot[i], h) ->
            assert(GENERATION(slot[i]) == h);
            release_used(i)
        :: else
        fi;
        unlock()
    :: else ->
#ifdef MUTANT_RELEASE_WITHOUT_CAS
        slot[i] = WITH(word, IS_IDLE);
#endif
        assert(GENERATION(word) == h); /* nobody ends another one's lease */
        give_back(i)
    fi
}

/* A job sets the flag under the lock, unless the lease is over. */
inline use(i, h) {
    lock();
    d_step {
        if
        :: IS_ON(slot[i], h) -> slot[i] = slot[i] | USED
        :: else
        fi
    };
    unlock()
}

/* ---- the threads ---- */

proctype taker(byte uses) {
    LOCALS;
    byte mine, handle;
    acquire();
    if
    :: handle != 0 && uses == 1 -> release(mine, handle)
    :: handle != 0 && uses == 2 -> use(mine, handle); release(mine, handle)
    :: else /* keeps it */
    fi;
    END_THREAD()
}

/* Ends the lease that is out at the beginning; two of them do, or a stale handle comes late. */
proctype releaser(bit uses) {
    LOCALS;
    if
    :: uses -> use(2, 1)
    :: else
    fi;
    release(2, 1);
    END_THREAD()
}

proctype janitor(byte evictions) {
    LOCALS;
    byte i;
    do
    :: evictions > 0 ->
        lock();
        evict_oldest();
        FORGET();
        unlock();
        evictions--
    :: atomic { queued[0] || queued[1] || queued[2] ->
            i = (queued[0] -> 0 : (queued[1] -> 1 : 2));
            queued[i] = 0 }
        lock();
        if
        :: surplus != 0 -> d_step { surplus--; free_slot(i) }
        :: else ->
            slot[i] = WITH(slot[i], IS_IDLE);
            push(i);
            atomic {
                ledger = ledger + IDLE - RECYCLING;
                FORGET_ALL
            }
        fi;
        unlock()
    :: running == 1 && evictions == 0 && !(queued[0] || queued[1] || queued[2]) -> break
    od;
    END_THREAD()
}

proctype resizer(byte to) {
    LOCALS;
    lock();
    max_size = to;
    keep_max_size();
    unlock();
    END_THREAD()
}

#define IN_STATE(i, s) (STATE(slot[i]) == s)
#define COUNT(s) (IN_STATE(0, s) + IN_STATE(1, s) + IN_STATE(2, s))

/* Nobody is at work any more. */
inline check_rest() {
    assert(COUNT(IS_IDLE) == IDLES(ledger) && COUNT(IS_LEASED) == IN_USES(ledger));
    assert(COUNT(IS_RECYCLING) == 0 && RECYCLINGS(ledger) == 0);
    assert(surplus == 0);
    assert(IDLES(ledger) <= max_size && IDLES(ledger) + IN_USES(ledger) + evicted == 3);
    walk = NEXT(words[H]);
    do
    :: walk == END -> break
    :: else ->
        assert(in_ring[walk] && !MARKED(words[walk]) && IN_STATE(walk, IS_IDLE));
        reached++;
        walk = NEXT(words[walk])
    od;
    assert(reached == IDLES(ledger))
}

init {
    byte walk, reached;
    atomic {
        /* 1 is newer than 0; 2 is leased, by a handle of generation 1. */
        words[0] = END;
        words[1] = 0;
        words[2] = MARK | 2;
        words[H] = 1;
        in_ring[0] = 1;
        in_ring[1] = 1;
        slot[0] = IS_IDLE;
        slot[1] = IS_IDLE;
        slot[2] = (1 << 4) | IS_LEASED;
        ledger = 2 * IDLE + IN_USE;
        running = 0;
        THREADS
    };
    running == 0;
    check_rest()
}
