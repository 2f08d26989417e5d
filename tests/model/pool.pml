/*
 * The ring, the ledger's permits and the slots' states, as the C does it: each atomic access of the C is one step here,
 * and what a lock guards takes the lock. Checked: no entry is lost or doubled, none is leased and idle at once, whoever
 * holds a permit finds an entry, a lease is ended once and only by its own handle, the counts add up, nobody waits for
 * ever.
 *
 * Out of the model: weak memory orders (here every access is sequentially consistent; ThreadSanitizer and the windowed
 * tests take them), weak CAS that fail without cause, the wrap of a tag, sessions, tickets and jobs.
 *
 *   here                 C
 *   words[], H           links and head of host/ring.h; WORD is sp_ring_word()
 *   seek, take, push     sp_ring_seek() with _look, _help and _start; sp_ring_claim_at() with _claim; sp_ring_push()
 *   acquire              sp_acquire(), sp_lease_newest(), sp_lease_begin()              host/lease.c
 *   release, give_back   sp_release(), give_back(), give_back_full()                    host/lease.c
 *   release_used         release_used(), retire()                                       host/lease.c
 *   evict_oldest         sp_pool_evict_oldest(): take_permit(), claim_permitted()       host/entries.c
 *   recycle              sp_recycle_done() with sp_pool_ready()                         host/recycle.c, host/entries.c
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

/* A word: {tag, mark:1, next:4} */
#define NEXT(w) ((w) & 15)
#define MARKED(w) (((w) & 16) != 0)
#define TAG 32
#ifdef MUTANT_NO_TAG
#define WORD(w, n) (n)
#else
#define WORD(w, n) (((((w) >> 5) + 1) << 5) | (n))
#endif

/* The ledger: {in_use:4, recycling:4, idle:4} */
#define IDLE 1
#define RECYCLING 16
#define IN_USE 256
#define IDLES(l) ((l) & 15)
#define RECYCLINGS(l) (((l) >> 4) & 15)
#define IN_USES(l) ((l) >> 8)
#define FULL(l) (IDLES(l) + RECYCLINGS(l) >= MAX_SIZE)

/* A slot's word: {generation, used:1, state:3} */
#define IS_EMPTY 0
#define IS_IDLE 1
#define IS_LEASED 2
#define IS_RECYCLING 3
#define STATE(s) ((s) & 7)
#define USED 8
#define GENERATION(s) ((s) >> 4)
#define WITH(s, state) (((s) & ~15) | (state))

short words[SLOTS + 1];
short ledger;
byte slot[SLOTS];
bit queued[SLOTS]; /* to be recycled */
bit locked;
byte evicted;
byte running;

/* What the model knows and the C does not. */
bit in_ring[SLOTS];

#define LOCALS short prev_word, word, seen; byte prev, index, result; bit ok, found
/* What is not read again would only make more states. */
#define FORGET() atomic { prev_word = 0; word = 0; seen = 0; prev = 0; index = 0; ok = 0; found = 0 }
#define END_THREAD() atomic { prev_word = 0; word = 0; seen = 0; prev = 0; index = 0; result = 0; ok = 0; found = 0; running-- }

inline lock() { atomic { !locked -> locked = 1 } }
inline unlock() { locked = 0 }

inline cas(at, from, to) {
    d_step {
        ok = (at == from);
        if
        :: ok -> at = to
        :: else
        fi
    }
}

/* ---- the ring ---- */

inline start() { prev = H; prev_word = words[H] }

inline seek(want) {
    start();
    found = 0;
    do
    :: NEXT(prev_word) == END -> break
    :: NEXT(prev_word) != END && want < END && MARKED(words[want % SLOTS]) && NEXT(words[want % SLOTS]) == want -> break
    :: NEXT(prev_word) != END && !(want < END && MARKED(words[want % SLOTS]) && NEXT(words[want % SLOTS]) == want) ->
        index = NEXT(prev_word);
        word = words[index];
        if
#ifdef MUTANT_NO_SECOND_LOOK
        :: false
#else
        :: words[prev] != prev_word -> start()
#endif
        :: else ->
            if
            :: MARKED(word) ->
                cas(words[prev], prev_word, WORD(prev_word, NEXT(word)));
                if
                :: !ok -> start()
                :: else ->
                    prev_word = WORD(prev_word, NEXT(word));
                    cas(words[index], word, WORD(word, index) | 16);
                    if
                    :: want == OLDEST && NEXT(prev_word) == END -> start()
                    :: else
                    fi
                fi
            :: !MARKED(word) && (want == NEWEST || want == index || (want == OLDEST && NEXT(word) == END)) ->
                found = 1;
                break
            :: else ->
                prev = index;
                prev_word = word
            fi
        fi
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
                ok = (words[index] == word);
                if
                :: ok ->
                    words[index] = WORD(word, NEXT(word)) | 16;
                    assert(in_ring[index]); /* no entry is had twice */
                    in_ring[index] = 0
                :: else
                fi
            };
            if
            :: ok ->
                result = index;
                word = WORD(word, NEXT(word)) | 16;
                cas(words[prev], prev_word, WORD(prev_word, NEXT(word)));
                if
                :: !ok ->
#ifndef MUTANT_NO_SWEEP
                    seek(result)
#endif
                :: else
                fi
            :: else
            fi
        fi
    od
}

inline push(i) {
    word = words[i];
    prev_word = words[H];
    do
    :: true ->
        word = WORD(word + TAG, NEXT(prev_word));
        words[i] = word;
        d_step {
            ok = (words[H] == prev_word);
            if
            :: ok ->
                words[H] = WORD(prev_word, i);
                assert(!in_ring[i]);
                in_ring[i] = 1
            :: else -> prev_word = words[H]
            fi
        };
        if
        :: ok -> break
        :: else
        fi
    od
}

/* ---- leases ---- */

inline add(delta) {
    d_step { ledger = ledger + delta } /* a loop of CAS that ends by itself */
}

inline free_slot(i) { slot[i] = WITH(slot[i], IS_EMPTY) }

/* handle: the generation, with the slot in `mine`; 0 when nothing was idle */
inline acquire() {
    handle = 0;
    seen = ledger;
    do
    :: IDLES(seen) == 0 -> break
    :: else ->
        cas(ledger, seen, seen - IDLE + IN_USE);
        if
        :: ok ->
            take(NEWEST);
            assert(result != EMPTY); /* a permit is an entry */
            mine = result;
            assert(STATE(slot[mine]) == IS_IDLE && !(slot[mine] & USED));
            handle = GENERATION(slot[mine]) + 1;
            slot[mine] = (handle << 4) | IS_LEASED;
            FORGET();
            break
        :: else -> seen = ledger
        fi
    od
}

inline give_back_full() {
    lock();
    add(-IN_USE);
    evicted++;
    take(OLDEST);
    assert(result != EMPTY); /* its own is there, or was taken instead of another one; nothing is closed here */
    free_slot(result);
    unlock()
}

inline enter_permit() {
    seen = ledger;
    do
    :: FULL(seen) -> give_back_full(); break
    :: else ->
        cas(ledger, seen, seen - IN_USE + IDLE);
        if
        :: ok -> break
        :: else -> seen = ledger
        fi
    od
}

inline give_back(i) {
#ifdef MUTANT_PERMIT_FIRST
    seen = ledger;
    if
    :: FULL(seen) -> push(i); give_back_full()
    :: else ->
        add(IDLE - IN_USE);
        push(i)
    fi
#else
    push(i);
    enter_permit()
#endif
}

/* Takes a permit away, and then the oldest entry. result: EMPTY when there was no permit. */
inline evict_oldest() {
    result = EMPTY;
    seen = ledger;
    do
    :: IDLES(seen) == 0 -> break
    :: else ->
#ifdef MUTANT_NO_CAS
        ok = 1;
        ledger = seen - IDLE;
#else
        cas(ledger, seen, seen - IDLE);
#endif
        if
        :: ok ->
            take(OLDEST);
            assert(result != EMPTY);
            evicted++;
            free_slot(result);
            break
        :: else -> seen = ledger
        fi
    od
}

inline release_used(i) {
    slot[i] = WITH(slot[i], IS_RECYCLING);
    seen = ledger;
    do
    :: !FULL(seen) ->
        cas(ledger, seen, seen + RECYCLING - IN_USE);
        if
        :: ok -> queued[i] = 1; break
        :: else -> seen = ledger
        fi
    :: else ->
        evict_oldest();
        if
        :: result != EMPTY -> seen = ledger
        :: else ->
            seen = ledger;
            if
            :: !FULL(seen) || IDLES(seen) != 0
            :: else ->
                cas(ledger, seen, seen - IN_USE);
                if
                :: ok -> evicted++; free_slot(i); break
                :: else -> seen = ledger
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
    do
    :: true ->
        word = slot[i];
        if
        :: !IS_ON(word, h) -> break
        :: IS_ON(word, h) && (word & USED) ->
            lock();
            if
            :: IS_ON(slot[i], h) ->
                assert(GENERATION(slot[i]) == h);
                release_used(i)
            :: else
            fi;
            unlock();
            break
        :: else ->
#ifdef MUTANT_RELEASE_WITHOUT_CAS
            ok = 1;
            slot[i] = WITH(word, IS_IDLE);
#else
            cas(slot[i], word, WITH(word, IS_IDLE));
#endif
            if
            :: ok ->
                assert(GENERATION(word) == h); /* nobody ends another one's lease */
                give_back(i);
                break
            :: else
            fi
        fi
    od
}

/* A job sets the flag under the lock, unless the lease is over. */
inline use(i, h) {
    lock();
    do
    :: true ->
        word = slot[i];
        if
        :: !IS_ON(word, h) -> break
        :: else ->
            cas(slot[i], word, word | USED);
            if
            :: ok -> break
            :: else
            fi
        fi
    od;
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
        slot[i] = WITH(slot[i], IS_IDLE);
        push(i);
        add(IDLE - RECYCLING);
        FORGET();
        unlock()
    :: running == 1 && evictions == 0 && !(queued[0] || queued[1] || queued[2]) -> break
    od;
    END_THREAD()
}

#define IN_STATE(i, s) (STATE(slot[i]) == s)
#define COUNT(s) (IN_STATE(0, s) + IN_STATE(1, s) + IN_STATE(2, s))

/* Nobody is at work any more. */
inline check_rest() {
    assert(COUNT(IS_IDLE) == IDLES(ledger) && COUNT(IS_LEASED) == IN_USES(ledger));
    assert(COUNT(IS_RECYCLING) == 0 && RECYCLINGS(ledger) == 0);
    assert(IDLES(ledger) <= MAX_SIZE && IDLES(ledger) + IN_USES(ledger) + evicted == 3);
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
        words[0] = TAG | END;
        words[1] = TAG | 0;
        words[2] = TAG | 16 | 2;
        words[H] = TAG | 1;
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
