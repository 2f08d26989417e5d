/*
 * The idle ring: a bounded list of the slot indices that the next acquire can have. Any thread may push an index, take
 * the newest, claim the oldest, or remove a given index.
 *
 * Progress: lock-free. No operation waits for another thread: a thread that stops for ever, anywhere, withholds at most
 * the entry that it was moving. Every repeated loop means that another operation has claimed, linked or unlinked an
 * entry, so some operation always completes. It is not wait-free: one operation can lose to others any number of times.
 * sp_ring_oldest alone is wait-free: at most `capacity` steps.
 *
 * Shape: a singly linked list (Harris 2001, Michael 2002) over an array of links, newest first. A link belongs to the
 * slot of the same index, is never freed, and is reused. A word (the head or a link) is {tag:43, mark:1, index:20}.
 *
 *   - To claim an entry is to set the mark in its own link. Whoever's CAS did that owns the entry.
 *   - A marked link does not change until its next push, so that no successor can be unlinked behind it unseen. A
 * thread that meets a marked link unlinks it first.
 *   - The owner returns from its claim only when it knows the entry is unlinked. Only then may it be pushed again.
 *   - A thread that unlinks for the owner notes this in the entry's link ("out": marked, and pointing to itself), which
 *     spares the owner a walk to the end. A push steps over the tag of such a note that comes late.
 *   - A walk reads a link, then reads the word before it again. If that is unchanged, the link was in the ring when it
 *     was read: a link cannot leave the ring without a change of its own word, nor its successor without one of it.
 *
 * ABA: each write of a word raises its tag, so a CAS on a word read before that write fails. A tag comes back after
 * 2^43 = 8.8e12 writes of that one word: a day at 1e8 a second, which is a locked write every 10 ns without pause. To
 * be fooled, a thread must stop between a load and its CAS for that day and wake exactly at the write that matches.
 *
 * Order: each word is loaded with acquire and written with release. The pairs, referred to below by letter:
 *   (a) push's CAS on the head | the load of a word that leads to the entry: what was done to the slot before push,
 *       and its link, are seen by whoever claims it. Later CAS on these words are acq_rel: the pair holds across them.
 *   (b) an unlink's CAS | the loads of the owner's claim, then the owner's store in push | a walker's load of that
 *       link: a walker that reads a link as written for the next push sees the unlink when it checks the word before.
 *   (c) the note's CAS after an unlink's CAS | the owner's load of the note: the owner that reads "out" has the unlink
 *       before its next push, as (b) needs.
 *   (d) a claim's CAS | the load by which a helper reads the mark, then its unlink's CAS: who sees the unlink sees the
 *       mark, so a walker standing on a claimed link notices it when it checks.
 */
#ifndef SANDPOOL_HOST_POOL_RING_H
#define SANDPOOL_HOST_POOL_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SP_RING_EMPTY UINT32_MAX
#define SP_RING_MAX_CAPACITY UINT32_C(0xFFFFF)

#define SP_RING_CACHE_LINE 64

/* Tests put other threads' steps here: between a load and what relies on it, between a write and its follow-up. */
#ifndef SP_RING_WINDOW
#define SP_RING_WINDOW() ((void)0)
#endif

/* The pads keep every other datum off the head's cache line, without asking for an aligned allocation. */
struct sp_ring {
    char pad_before[SP_RING_CACHE_LINE - sizeof(uint64_t)];
    _Atomic uint64_t head; /* never marked */
    char pad_after[SP_RING_CACHE_LINE - sizeof(uint64_t)];
    _Atomic uint64_t *links; /* borrowed; a link of all zeroes was never pushed */
    uint32_t capacity;
};

/* ---- words ---- */

#define SP_RING_END UINT32_C(0xFFFFF) /* no successor */
#define SP_RING_MARK (UINT64_C(1) << 20)
#define SP_RING_TAG (UINT64_C(1) << 21) /* one step of the tag */

static inline uint32_t sp_ring_next(uint64_t word) { return (uint32_t)(word & SP_RING_END); }

static inline bool sp_ring_marked(uint64_t word) { return (word & SP_RING_MARK) != 0; }

/* The word that may replace `word`, unmarked: the tag wraps by itself, being on top. */
static inline uint64_t sp_ring_word(uint64_t word, uint32_t next) {
    return ((word + SP_RING_TAG) & ~(SP_RING_TAG - 1)) | next;
}

/* acq_rel: each caller names its pair. A failure is followed by a new load. */
static inline bool sp_ring_swap(_Atomic uint64_t *at, uint64_t from, uint64_t to) {
    return atomic_compare_exchange_strong_explicit(at, &from, to, memory_order_acq_rel, memory_order_relaxed);
}

/* ---- walking ---- */

/* Where a walk stands: at link `index`, which reads `word` and was reached through `*prev`, which read `prev_word`. */
struct sp_ring_place {
    _Atomic uint64_t *prev; /* the head, or a link that was in the ring and unmarked */
    uint64_t prev_word;
    uint64_t word;
    uint32_t index;
};

/* What a walk can look for besides an index. */
#define SP_RING_NEWEST UINT32_MAX
#define SP_RING_OLDEST (UINT32_MAX - 1)

static inline void sp_ring_start(struct sp_ring *ring, struct sp_ring_place *place) {
    place->prev = &ring->head;
    place->prev_word = atomic_load_explicit(&ring->head, memory_order_acquire); /* (a) */
}

/* Reads the link that prev_word leads to. False: it may not be in the ring any more, start again. */
static inline bool sp_ring_look(struct sp_ring *ring, struct sp_ring_place *place) {
    place->index = sp_ring_next(place->prev_word);
    SP_RING_WINDOW();
    place->word = atomic_load_explicit(&ring->links[place->index], memory_order_acquire); /* (a), (b), (d) */
    SP_RING_WINDOW();
    /* Relaxed: the acquire above keeps it after that load, and a word that is unchanged was acquired before. */
    return atomic_load_explicit(place->prev, memory_order_relaxed) == place->prev_word;
}

/* Links past the entry at place, whose word is marked. False: the word before has changed. */
static inline bool sp_ring_unlink(struct sp_ring_place *place) {
    uint64_t past = sp_ring_word(place->prev_word, sp_ring_next(place->word));

    if (!sp_ring_swap(place->prev, place->prev_word, past)) { /* release: (b), (d) */
        return false;
    }
    place->prev_word = past;
    return true;
}

/* Unlinks what another thread has claimed, and leaves the note. */
static inline bool sp_ring_help(struct sp_ring *ring, struct sp_ring_place *place) {
    if (!sp_ring_unlink(place)) {
        return false;
    }
    SP_RING_WINDOW();
    /* Fails if the owner found out by itself and has pushed again. */
    (void)sp_ring_swap(&ring->links[place->index], place->word,
                       sp_ring_word(place->word, place->index) | SP_RING_MARK); /* release: (c) */
    return true;
}

static inline bool sp_ring_is_out(struct sp_ring *ring, uint32_t index) {
    uint64_t word = atomic_load_explicit(&ring->links[index], memory_order_acquire); /* (c) */

    return sp_ring_marked(word) && sp_ring_next(word) == index;
}

static inline bool sp_ring_is_at(const struct sp_ring_place *place, uint32_t want) {
    switch (want) {
    case SP_RING_NEWEST:
        return true;
    case SP_RING_OLDEST:
        return sp_ring_next(place->word) == SP_RING_END;
    default:
        return place->index == want;
    }
}

/*
 * Walks to an unclaimed entry, unlinking the claimed ones on its way. False: there was a moment during the call at
 * which the wanted one was not in the ring, not even claimed and still linked.
 */
static inline bool sp_ring_seek(struct sp_ring *ring, uint32_t want, struct sp_ring_place *place) {
    sp_ring_start(ring, place);
    while (sp_ring_next(place->prev_word) != SP_RING_END) {
        if (want < SP_RING_END && sp_ring_is_out(ring, want)) {
            return false;
        }
        if (!sp_ring_look(ring, place)) {
            sp_ring_start(ring, place);
        } else if (sp_ring_marked(place->word)) {
            /* The oldest: if nothing is left behind the word before, its entry was passed by and is the last now. */
            if (!sp_ring_help(ring, place) ||
                (want == SP_RING_OLDEST && sp_ring_next(place->prev_word) == SP_RING_END)) {
                sp_ring_start(ring, place);
            }
        } else if (sp_ring_is_at(place, want)) {
            return true;
        } else {
            place->prev = &ring->links[place->index];
            place->prev_word = place->word;
        }
    }
    return false;
}

/* Makes the caller the owner of the entry at place, and unlinks it. False: the entry has changed since it was read. */
static inline bool sp_ring_claim(struct sp_ring *ring, struct sp_ring_place *place) {
    uint64_t marked = sp_ring_word(place->word, sp_ring_next(place->word)) | SP_RING_MARK;

    SP_RING_WINDOW();
    if (!sp_ring_swap(&ring->links[place->index], place->word, marked)) { /* acquire: (a); release: (d) */
        return false;
    }
    place->word = marked;
    SP_RING_WINDOW();
    if (!sp_ring_unlink(place)) {
        /* It is claimed, so no walk can end at it: this returns when it is unlinked, by us or by a helper. */
        struct sp_ring_place sweep;
        (void)sp_ring_seek(ring, place->index, &sweep);
    }
    return true;
}

static inline uint32_t sp_ring_claim_at(struct sp_ring *ring, uint32_t want) {
    struct sp_ring_place place;

    while (sp_ring_seek(ring, want, &place)) {
        if (sp_ring_claim(ring, &place)) {
            return place.index;
        }
    }
    return SP_RING_EMPTY;
}

/* ---- the ring ---- */

/* Does not touch the links: `capacity` of them, <= SP_RING_MAX_CAPACITY, zeroed by the caller, who keeps them. */
static inline void sp_ring_init(struct sp_ring *ring, _Atomic uint64_t *links, uint32_t capacity) {
    atomic_init(&ring->head, SP_RING_END);
    ring->links = links;
    ring->capacity = capacity;
}

/* The index is owned by the caller, who hands it over: never pushed, or got from take, claim_oldest or remove. */
static inline void sp_ring_push(struct sp_ring *ring, uint32_t index) {
    _Atomic uint64_t *link = &ring->links[index];
    /* Relaxed: ours alone but for a late note. */
    uint64_t mine = atomic_load_explicit(link, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire); /* (a): we pass on what it leads to */

    do {
        SP_RING_WINDOW();
        mine = sp_ring_word(mine + SP_RING_TAG, sp_ring_next(head)); /* one step for a late note, one for us */
        atomic_store_explicit(link, mine, memory_order_release);     /* (b) */
        SP_RING_WINDOW();
    } while (!atomic_compare_exchange_weak_explicit(&ring->head, &head, sp_ring_word(head, index), memory_order_acq_rel,
                                                    memory_order_acquire)); /* release: (a); acquire: as the load */
}

/* The newest index, now owned by the caller; or SP_RING_EMPTY. */
static inline uint32_t sp_ring_take(struct sp_ring *ring) { return sp_ring_claim_at(ring, SP_RING_NEWEST); }

/* The oldest index, now owned by the caller; or SP_RING_EMPTY. Walks the whole ring. */
static inline uint32_t sp_ring_claim_oldest(struct sp_ring *ring) { return sp_ring_claim_at(ring, SP_RING_OLDEST); }

/* Makes the caller the owner of that index. False: it was not in the ring, or somebody else has claimed it. */
static inline bool sp_ring_remove(struct sp_ring *ring, uint32_t index) {
    /* Relaxed: a mark read here only saves the walk, nothing is read on the strength of it. */
    if (sp_ring_marked(atomic_load_explicit(&ring->links[index], memory_order_relaxed))) {
        return false;
    }
    return sp_ring_claim_at(ring, index) != SP_RING_EMPTY;
}

/*
 * A hint: an index that was unclaimed and, if no other thread was at work, is the oldest; or SP_RING_EMPTY. Unchecked
 * walk: a link that was reused leads it back to the front, hence the bound.
 */
static inline uint32_t sp_ring_oldest(const struct sp_ring *ring) {
    uint32_t index = sp_ring_next(atomic_load_explicit(&ring->head, memory_order_acquire)); /* (a) */
    uint32_t oldest = SP_RING_EMPTY;

    for (uint32_t steps = 0; index != SP_RING_END && steps < ring->capacity; steps++) {
        uint64_t word = atomic_load_explicit(&ring->links[index], memory_order_acquire); /* (a) */

        if (!sp_ring_marked(word)) {
            oldest = index;
        }
        index = sp_ring_next(word);
    }
    return oldest;
}

#endif
