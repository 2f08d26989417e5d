/* The idle ring: its order, stale words, chosen and random interleavings, and many threads. */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <ucontext.h>

#include "check.h"

/* What another thread would do between two steps of a call. The calling thread itself runs it there. */
static _Thread_local void (*in_window)(void);

static void window(void) {
    if (in_window != NULL) {
        in_window();
    }
}

#define SP_RING_WINDOW() window()
#include "host/pool/ring.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#define CAPACITY 64

static _Atomic uint64_t links[CAPACITY];
static struct sp_ring ring;

static void fresh(uint32_t pushed) {
    in_window = NULL;
    memset((void *)links, 0, sizeof links);
    sp_ring_init(&ring, links, CAPACITY);
    for (uint32_t i = 0; i < pushed; i++) {
        sp_ring_push(&ring, i);
    }
}

/* xorshift: a seed gives the same run again */
static uint32_t draw(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

/* ---- one thread ---- */

static void words_raise_their_tag(void) {
    const uint64_t marked = (SP_RING_TAG * 41) | SP_RING_MARK | 7;
    const uint64_t last = ~(SP_RING_TAG - 1) | 3;

    CHECK(sp_ring_word(marked, 9) == ((SP_RING_TAG * 42) | 9));
    CHECK(sp_ring_word(last, SP_RING_END) == SP_RING_END);
    CHECK(sp_ring_marked(marked) && sp_ring_next(marked) == 7);
    CHECK(!sp_ring_marked(last) && sp_ring_next(SP_RING_END) == SP_RING_END);
}

static uint64_t tag_of(uint64_t word) { return word / SP_RING_TAG; }

/* An unlink would be safe without that, because an index comes back only by a push. But a rule without exceptions is
 * simpler. */
static void every_write_raises_the_tag(void) {
    fresh(3); /* head -> 2 -> 1 -> 0 */
    CHECK(tag_of(ring.head) == 3 && tag_of(links[2]) == 2);
    CHECK(sp_ring_remove(&ring, 1));
    CHECK(tag_of(links[1]) == 3 && tag_of(links[2]) == 3 && tag_of(ring.head) == 3);
    CHECK(sp_ring_take(&ring) == 2);
    CHECK(tag_of(links[2]) == 4 && tag_of(ring.head) == 4);
    sp_ring_push(&ring, 2);
    CHECK(tag_of(links[2]) == 6 && tag_of(ring.head) == 5);
}

static void zeroed_links_are_not_in_the_ring(void) {
    fresh(0);
    CHECK(sp_ring_take(&ring) == SP_RING_EMPTY);
    CHECK(sp_ring_claim_oldest(&ring) == SP_RING_EMPTY);
    CHECK(sp_ring_oldest(&ring) == SP_RING_EMPTY);
    CHECK(!sp_ring_remove(&ring, 0) && !sp_ring_remove(&ring, CAPACITY - 1));
    CHECK(links[0] == 0 && links[CAPACITY - 1] == 0);
    sp_ring_push(&ring, 5);
    CHECK(!sp_ring_remove(&ring, 0));
    CHECK(sp_ring_take(&ring) == 5);
}

static void take_gives_the_newest(void) {
    fresh(CAPACITY);
    for (uint32_t i = CAPACITY; i-- > 0;) {
        CHECK(sp_ring_take(&ring) == i);
    }
    CHECK(sp_ring_take(&ring) == SP_RING_EMPTY);
}

static void claim_oldest_gives_the_oldest(void) {
    fresh(CAPACITY);
    for (uint32_t i = 0; i < CAPACITY; i++) {
        CHECK(sp_ring_oldest(&ring) == i);
        CHECK(sp_ring_claim_oldest(&ring) == i);
    }
    CHECK(sp_ring_oldest(&ring) == SP_RING_EMPTY);
    CHECK(sp_ring_claim_oldest(&ring) == SP_RING_EMPTY);
}

static void remove_takes_from_anywhere(void) {
    fresh(5);
    CHECK(sp_ring_remove(&ring, 2) && !sp_ring_remove(&ring, 2)); /* the middle */
    CHECK(sp_ring_remove(&ring, 4) && !sp_ring_remove(&ring, 4)); /* the newest */
    CHECK(sp_ring_remove(&ring, 0) && sp_ring_oldest(&ring) == 1);
    sp_ring_push(&ring, 2);
    CHECK(sp_ring_take(&ring) == 2 && sp_ring_take(&ring) == 3 && sp_ring_take(&ring) == 1);
    CHECK(sp_ring_take(&ring) == SP_RING_EMPTY);
}

/* ---- stale words: a thread that was stopped continues with the words that it has read before ---- */

static void claim_entry_but_leave_it_linked(struct sp_ring_place *place) {
    const uint64_t marked = sp_ring_word(place->word, sp_ring_next(place->word)) | SP_RING_MARK;

    CHECK(sp_ring_swap(&links[place->index], place->word, marked));
    place->word = marked;
}

static void stale_unlink_fails(void) {
    struct sp_ring_place stale = {0};

    fresh(2); /* head -> 1 -> 0 */
    CHECK(sp_ring_seek(&ring, SP_RING_NEWEST, &stale));
    claim_entry_but_leave_it_linked(&stale); /* a helper is about to change head from 1 to 0 */
    CHECK(sp_ring_take(&ring) == 0);         /* this unlinks 1 and leases 0 */
    sp_ring_push(&ring, 1);                  /* head leads to 1 again */
    CHECK(!sp_ring_unlink(&stale));          /* this would put the leased 0 into the ring */
    CHECK(sp_ring_take(&ring) == 1 && sp_ring_take(&ring) == SP_RING_EMPTY);
}

static void stale_claim_fails(void) {
    struct sp_ring_place stale = {0};

    fresh(2);
    CHECK(sp_ring_seek(&ring, SP_RING_NEWEST, &stale));
    CHECK(sp_ring_take(&ring) == 1);
    CHECK(!sp_ring_claim(&ring, &stale)); /* leased */
    sp_ring_push(&ring, 1);               /* the same two links as at first */
    CHECK(!sp_ring_claim(&ring, &stale));
    CHECK(sp_ring_take(&ring) == 1 && sp_ring_take(&ring) == 0 && sp_ring_take(&ring) == SP_RING_EMPTY);
}

static void stale_push_fails(void) {
    uint64_t head = 0;

    fresh(2);
    head = ring.head; /* a thread is about to push 2 before 1 */
    CHECK(sp_ring_take(&ring) == 1 && sp_ring_take(&ring) == 0);
    sp_ring_push(&ring, 1);
    CHECK(sp_ring_next(ring.head) == sp_ring_next(head));
    CHECK(!sp_ring_swap(&ring.head, head, sp_ring_word(head, 2)));
}

static void nothing_is_unlinked_behind_a_claimed_entry(void) {
    struct sp_ring_place first;
    struct sp_ring_place second;

    fresh(3); /* head -> 2 -> 1 -> 0 */
    CHECK(sp_ring_seek(&ring, 2, &first));
    CHECK(sp_ring_seek(&ring, 1, &second)); /* through link 2 */
    claim_entry_but_leave_it_linked(&first);
    claim_entry_but_leave_it_linked(&second);
    CHECK(!sp_ring_unlink(&second)); /* 2 still leads to 1 */
    CHECK(sp_ring_take(&ring) == 0 && sp_ring_next(ring.head) == SP_RING_END);
    CHECK(sp_ring_is_out(&ring, 1) && sp_ring_is_out(&ring, 2));
}

/* The last entry is claimed. The walk unlinks it behind an entry that it has passed already. */
static void oldest_is_found_before_a_claimed_one(void) {
    struct sp_ring_place place;

    fresh(2);
    CHECK(sp_ring_seek(&ring, 0, &place));
    claim_entry_but_leave_it_linked(&place);
    CHECK(sp_ring_oldest(&ring) == 1 && sp_ring_claim_oldest(&ring) == 1);
    CHECK(sp_ring_claim_oldest(&ring) == SP_RING_EMPTY);
}

/* ---- one chosen window ---- */

static unsigned windows_to_go;
static void (*intrude)(void);

static void intrude_once(void) {
    if (windows_to_go-- == 0) {
        in_window = NULL;
        intrude();
    }
}

static void at_window(unsigned number, void (*what)(void)) {
    windows_to_go = number;
    intrude = what;
    in_window = intrude_once;
}

static void swap_the_entries(void) {
    CHECK(sp_ring_take(&ring) == 1 && sp_ring_take(&ring) == 0);
    sp_ring_push(&ring, 1);
}

/* Another thread changes the ring between two steps of take: it returns an entry that is in the ring then. */
static void take_notices_a_change_in_any_window(void) {
    for (unsigned number = 0; number < 3; number++) { /* before the claim */
        fresh(2);
        at_window(number, swap_the_entries);
        CHECK(sp_ring_take(&ring) == 1);
        CHECK(in_window == NULL && sp_ring_take(&ring) == SP_RING_EMPTY);
    }
}

/* An entry whose link is written, but which is not linked yet, must not be claimed. */
static void take_what_is_not_linked_yet(void) {
    CHECK(sp_ring_take(&ring) == SP_RING_EMPTY);
    CHECK(!sp_ring_remove(&ring, 0));
}

static void push_is_not_seen_before_it_is_linked(void) {
    fresh(1);
    CHECK(sp_ring_take(&ring) == 0);
    at_window(1, take_what_is_not_linked_yet);
    sp_ring_push(&ring, 0);
    CHECK(in_window == NULL && sp_ring_take(&ring) == 0);
}

static uint64_t unlinked_word;
static struct sp_ring_place sleeper;

/* The thread that continues here has read the head before 0 was taken, and reads the link of 0 while 0 is pushed again.
 */
static void wake_the_sleeper(void) {
    sleeper.prev_word = unlinked_word;
    sleeper.prev = &ring.head;
    CHECK(!sp_ring_look(&ring, &sleeper));
}

static void walk_does_not_believe_a_link_that_is_being_pushed(void) {
    fresh(1);
    unlinked_word = ring.head;
    CHECK(sp_ring_take(&ring) == 0);
    at_window(1, wake_the_sleeper);
    sp_ring_push(&ring, 0);
    CHECK(in_window == NULL && sp_ring_take(&ring) == 0);
}

static void push_another(void) { sp_ring_push(&ring, 2); }

static void help_the_claimer(void) { CHECK(sp_ring_take(&ring) == 0); }

static void claim_returns_unlinked(void) {
    fresh(2);
    at_window(3, push_another); /* between mark and unlink, so that the word before the entry has changed */
    CHECK(sp_ring_take(&ring) == 1);
    CHECK(in_window == NULL && sp_ring_next(links[2]) == 0);
    CHECK(sp_ring_take(&ring) == 2 && sp_ring_take(&ring) == 0);

    fresh(2);
    at_window(3, help_the_claimer);
    CHECK(sp_ring_take(&ring) == 1);
    CHECK(in_window == NULL && sp_ring_is_out(&ring, 1) && sp_ring_next(ring.head) == SP_RING_END);
}

static uint64_t frozen_word;

static void write_late(void) {
    CHECK(sp_ring_swap(&links[1], frozen_word, sp_ring_word(frozen_word, 1) | SP_RING_MARK));
}

/* Another thread writes the link between push's load and its store. The two words must not have the same tag. */
static void a_late_write_to_a_link_does_not_reuse_a_tag(void) {
    fresh(2);
    CHECK(sp_ring_take(&ring) == 1);
    frozen_word = links[1];
    at_window(0, write_late);
    sp_ring_push(&ring, 1);
    CHECK(in_window == NULL && links[1] / SP_RING_TAG == frozen_word / SP_RING_TAG + 2);
    CHECK(sp_ring_take(&ring) == 1 && sp_ring_take(&ring) == 0);
}

/* ---- ownership, which all tests with several workers check ---- */

#define IN_RING 0

static _Atomic int owner[CAPACITY];
static uint64_t claims[CAPACITY]; /* not atomic: the ring orders the accesses of the owners */

struct worker {
    uint64_t seed;
    uint64_t claimed;
    uint32_t held;
    uint32_t entries;
    uint32_t iterations;
    int id;
};

static void own(struct worker *me, uint32_t index) {
    CHECK(index < me->entries);
    if (index >= me->entries) {
        return;
    }
    CHECK(atomic_exchange_explicit(&owner[index], me->id, memory_order_relaxed) == IN_RING);
    claims[index]++;
    me->claimed++;
    me->held = index;
}

static void give_back(struct worker *me) {
    CHECK(atomic_exchange_explicit(&owner[me->held], IN_RING, memory_order_relaxed) == me->id);
    claims[me->held]++;
    me->claimed++;
    sp_ring_push(&ring, me->held);
    me->held = SP_RING_EMPTY;
}

/* Each worker holds at most one entry, and there are more entries than workers. So the ring is never empty, and a
 * result EMPTY means that an entry was lost. */
static void work_once(struct worker *me) {
    const uint32_t what = draw(&me->seed);
    uint32_t oldest = 0;

    if (what % 8 < 5) {
        own(me, sp_ring_take(&ring));
    } else if (what % 8 == 5) {
        own(me, sp_ring_claim_oldest(&ring));
    } else if (sp_ring_remove(&ring, (what >> 8) % me->entries)) {
        own(me, (what >> 8) % me->entries);
    }
    oldest = sp_ring_oldest(&ring);
    CHECK(oldest == SP_RING_EMPTY || oldest < me->entries);
    if (me->held != SP_RING_EMPTY) {
        give_back(me);
    }
}

static void open_books(struct worker *workers, uint32_t count, uint32_t entries, uint32_t iterations) {
    memset(claims, 0, sizeof claims);
    memset((void *)owner, 0, sizeof owner);
    for (uint32_t i = 0; i < count; i++) {
        workers[i] = (struct worker){.seed = 0x9E3779B97F4A7C15U * (i + 1),
                                     .held = SP_RING_EMPTY,
                                     .entries = entries,
                                     .iterations = iterations,
                                     .id = (int)i + 1};
    }
}

static void close_books(const struct worker *workers, uint32_t count, uint32_t entries) {
    uint64_t claimed = 0;
    uint64_t counted = 0;

    for (uint32_t i = 0; i < count; i++) {
        claimed += workers[i].claimed;
    }
    for (uint32_t i = 0; i < entries; i++) {
        const uint32_t index = sp_ring_take(&ring);

        CHECK(index < entries);
        CHECK(index >= entries || atomic_exchange(&owner[index], -1) == IN_RING);
        counted += claims[i];
    }
    CHECK(sp_ring_take(&ring) == SP_RING_EMPTY);
    CHECK(claimed == counted && claimed > 0);
}

/* ---- random interleavings of coroutines that switch in every window ---- */

#define FIBERS 3
#define FIBER_ENTRIES (FIBERS + 1)
#define FIBER_OPS 100000

static ucontext_t scheduler;
static ucontext_t fibers[FIBERS];
static struct worker fiber_workers[FIBERS];
static char fiber_stacks[FIBERS][64 * 1024];
static uint32_t running;

static void switch_to_scheduler(void) { CHECK(swapcontext(&fibers[running], &scheduler) == 0); }

static void fiber_main(void) {
    struct worker *me = &fiber_workers[running];

    while (me->iterations > 0) {
        work_once(me);
        me->iterations--;
    }
}

/* Each turn has 1 to 16 windows, so that the others make several operations while one is stopped. */
static void schedule(void) {
    uint64_t seed = 0xD1B54A32D192ED03U;
    uint32_t live = FIBERS;

    while (live > 0) {
        const uint32_t choice = draw(&seed);

        running = choice % FIBERS;
        for (uint32_t left = 1U << ((choice >> 8) % 5); left > 0 && fiber_workers[running].iterations > 0; left--) {
            CHECK(swapcontext(&scheduler, &fibers[running]) == 0);
            live -= fiber_workers[running].iterations == 0;
        }
    }
}

static void random_interleavings_keep_every_entry(void) {
    fresh(FIBER_ENTRIES);
    open_books(fiber_workers, FIBERS, FIBER_ENTRIES, FIBER_OPS);
    for (uint32_t i = 0; i < FIBERS; i++) {
        CHECK(getcontext(&fibers[i]) == 0);
        fibers[i].uc_stack.ss_sp = fiber_stacks[i];
        fibers[i].uc_stack.ss_size = sizeof fiber_stacks[i];
        fibers[i].uc_link = &scheduler;
        makecontext(&fibers[i], fiber_main, 0);
    }
    in_window = switch_to_scheduler;
    schedule();
    in_window = NULL;
    close_books(fiber_workers, FIBERS, FIBER_ENTRIES);
}

/* ---- threads ---- */

#define THREADS 4
#define THREAD_OPS (UNDER_TSAN ? 100000U : 300000U)

static void together(void *(*body)(void *), struct worker *workers, uint32_t count) {
    pthread_t threads[THREADS];

    for (uint32_t i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, body, &workers[i]) != 0) {
            abort();
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

static _Thread_local uint64_t yield_seed;

/* With few cores the kernel seldom preempts a thread in a window. */
static void sometimes_yield(void) {
    if (draw(&yield_seed) % 128 == 0) {
        (void)sched_yield();
    }
}

static void *work_thread(void *arg) {
    struct worker *me = arg;

    yield_seed = me->seed;
    in_window = sometimes_yield;
    for (uint32_t i = 0; i < me->iterations; i++) {
        work_once(me);
    }
    return NULL;
}

static void threads_keep_every_entry_of(uint32_t entries) {
    struct worker workers[THREADS];

    fresh(entries);
    open_books(workers, THREADS, entries, THREAD_OPS);
    together(work_thread, workers, THREADS);
    close_books(workers, THREADS, entries);
}

static void threads_keep_every_entry(void) {
    threads_keep_every_entry_of(THREADS + 1);
    threads_keep_every_entry_of(CAPACITY);
}

/* The entries of each producer have rising numbers. Both consumers, which claim the oldest, must get those of each
 * producer in that order. */

#define PRODUCERS 2
#define ORDER_OPS (UNDER_TSAN ? 20000U : 50000U)

static struct {
    int producer;
    uint32_t number;
} stamps[CAPACITY];
static struct sp_ring blanks; /* entries that a producer may number */
static _Atomic uint64_t blank_links[CAPACITY];
static _Atomic uint32_t consumed;

static void produce(const struct worker *me) {
    for (uint32_t number = 1; number <= me->iterations; number++) {
        uint32_t index = SP_RING_EMPTY;

        while ((index = sp_ring_take(&blanks)) == SP_RING_EMPTY) {
            (void)sched_yield();
        }
        stamps[index].producer = me->id;
        stamps[index].number = number;
        sp_ring_push(&ring, index);
    }
}

static void consume(const struct worker *me) {
    uint32_t last[PRODUCERS + 1] = {0};

    while (atomic_load_explicit(&consumed, memory_order_relaxed) < PRODUCERS * me->iterations) {
        const uint32_t index = sp_ring_claim_oldest(&ring);

        if (index == SP_RING_EMPTY) {
            (void)sched_yield();
            continue;
        }
        CHECK(stamps[index].number > last[stamps[index].producer]);
        last[stamps[index].producer] = stamps[index].number;
        (void)atomic_fetch_add_explicit(&consumed, 1, memory_order_relaxed);
        sp_ring_push(&blanks, index);
    }
}

static void *produce_or_consume(void *arg) {
    const struct worker *me = arg;

    if (me->id <= PRODUCERS) {
        produce(me);
    } else {
        consume(me);
    }
    return NULL;
}

static void threads_keep_each_producers_order(void) {
    struct worker workers[THREADS];

    fresh(0);
    open_books(workers, THREADS, CAPACITY, ORDER_OPS);
    memset((void *)blank_links, 0, sizeof blank_links);
    sp_ring_init(&blanks, blank_links, CAPACITY);
    for (uint32_t i = 0; i < CAPACITY; i++) {
        sp_ring_push(&blanks, i);
    }
    atomic_store(&consumed, 0);
    together(produce_or_consume, workers, THREADS);
    CHECK(atomic_load(&consumed) == PRODUCERS * ORDER_OPS && sp_ring_take(&ring) == SP_RING_EMPTY);
}

/* Nothing is pushed meanwhile, so each thread must take falling indices. */
static void *take_falling(void *arg) {
    struct worker *me = arg;
    uint32_t last = CAPACITY;
    uint32_t index = 0;

    while ((index = sp_ring_take(&ring)) != SP_RING_EMPTY) {
        CHECK(index < last);
        last = index;
        me->claimed++;
    }
    return NULL;
}

static void threads_take_newest_first(void) {
    for (uint32_t round = 0; round < 200; round++) {
        struct worker workers[THREADS];
        uint64_t taken = 0;

        fresh(CAPACITY);
        open_books(workers, THREADS, CAPACITY, 0);
        together(take_falling, workers, THREADS);
        for (uint32_t i = 0; i < THREADS; i++) {
            taken += workers[i].claimed;
        }
        CHECK(taken == CAPACITY);
    }
}

int main(void) {
    check_deadline(180); /* a minute was too short on a machine at load 15 */
    RUN(words_raise_their_tag);
    RUN(every_write_raises_the_tag);
    RUN(zeroed_links_are_not_in_the_ring);
    RUN(take_gives_the_newest);
    RUN(claim_oldest_gives_the_oldest);
    RUN(remove_takes_from_anywhere);
    RUN(stale_unlink_fails);
    RUN(stale_claim_fails);
    RUN(stale_push_fails);
    RUN(nothing_is_unlinked_behind_a_claimed_entry);
    RUN(oldest_is_found_before_a_claimed_one);
    RUN(take_notices_a_change_in_any_window);
    RUN(push_is_not_seen_before_it_is_linked);
    RUN(walk_does_not_believe_a_link_that_is_being_pushed);
    RUN(claim_returns_unlinked);
    RUN(a_late_write_to_a_link_does_not_reuse_a_tag);
    if (!UNDER_TSAN) { /* ThreadSanitizer does not follow one thread on several stacks; it has no races either */
        RUN(random_interleavings_keep_every_entry);
    }
    RUN(threads_keep_every_entry);
    RUN(threads_keep_each_producers_order);
    RUN(threads_take_newest_first);
    return check_report();
}
