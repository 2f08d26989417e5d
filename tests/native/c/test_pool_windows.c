/*
 * Races of the pool, one chosen window at a time. A window is the moment between two steps of a call; what another
 * thread would do in it is done there by the calling thread itself. The files with the windows are part of this program
 * with other names for their functions; the janitor and the jobs use those of the library.
 */
#include <signal.h>
#include <stddef.h>

#include "check.h"

static _Thread_local void (*intruder)(void); /* what runs in the window; cleared when it has run */
static _Thread_local unsigned windows_to_go;

static inline void window(void) {
    if (intruder != NULL && windows_to_go-- == 0) {
        void (*what)(void) = intruder;

        intruder = NULL;
        what();
    }
}

static void at_window(unsigned number, void (*what)(void)) {
    windows_to_go = number;
    intruder = what;
}

#define SP_RING_WINDOW() window()
#include "host/pool/state.h"

#define sp_ledger_add windowed_ledger_add
#define sp_pool_take_slot windowed_pool_take_slot
#define sp_pool_free_slot windowed_pool_free_slot
#define sp_pool_discard windowed_pool_discard
#define sp_pool_fold_hits windowed_pool_fold_hits
#define sp_pool_give_recycling_back windowed_pool_give_recycling_back
#define sp_pool_make_idle windowed_pool_make_idle
#define sp_pool_insert windowed_pool_insert
#define sp_pool_take_oldest windowed_pool_take_oldest
#define sp_pool_evict_oldest windowed_pool_evict_oldest
#define sp_pool_evict_one windowed_pool_evict_one
#define sp_pool_evict_older windowed_pool_evict_older
#define sp_pool_lease_newest windowed_pool_lease_newest
#define sp_warm windowed_warm
#define sp_warm_create_missing windowed_warm_create_missing
#define sp_pool_open windowed_pool_open
#define sp_pool_close windowed_pool_close
#define sp_pool_free windowed_pool_free
#define sp_pool_owner_pid windowed_pool_owner_pid
void sp_pool_free(sp_pool *pool);
#include "host/pool/entries.c" /* NOLINT(bugprone-suspicious-include): renamed symbols, see above */

#include "host/pool/close.c" /* NOLINT(bugprone-suspicious-include): renamed symbols, see above */
#include "host/pool/pool.c"  /* NOLINT(bugprone-suspicious-include): renamed symbols, see above */
#include "host/pool/warm.c"  /* NOLINT(bugprone-suspicious-include): renamed symbols, see above */

/* The files below have these windows, not those of the ring. */
static _Thread_local void (*after_bound)(void);
static _Thread_local void (*after_eviction)(void);
static _Thread_local void (*after_fold)(void);

static inline void pass(void (**what)(void)) {
    void (*run)(void) = *what;

    *what = NULL;
    if (run != NULL) {
        run();
    }
}

static inline uint32_t max_size_of(const sp_pool *pool) {
    const uint32_t max_size = sp_pool_max_size(pool);

    pass(&after_bound);
    return max_size;
}

static inline bool evict_oldest(sp_pool *pool, unsigned reason) {
    const bool evicted = sp_pool_evict_oldest(pool, reason);

    pass(&after_eviction);
    return evicted;
}

static inline void fold_hits(sp_pool *pool) {
    sp_pool_fold_hits(pool);
    pass(&after_fold);
}

#undef sp_pool_evict_oldest
#undef sp_pool_fold_hits
#define sp_pool_evict_oldest evict_oldest
#define sp_pool_fold_hits fold_hits
#define sp_pool_max_size max_size_of

#define sp_abi windowed_abi
#define sp_lease_slot windowed_lease_slot
#define sp_acquire windowed_acquire
#define sp_release windowed_release
#define sp_idle_len windowed_idle_len
#define sp_lease_pid windowed_lease_pid
#define sp_lease_share windowed_lease_share
#define sp_lease_is_unused windowed_lease_is_unused
#define sp_lease_remember_last windowed_lease_remember_last
#define sp_last_acquired windowed_last_acquired
#define sp_lease_isolation windowed_lease_isolation
#define sp_lease_is_out_of_memory windowed_lease_is_out_of_memory
#include "host/pool/lease.c" /* NOLINT(bugprone-suspicious-include): renamed symbols, see above */

#define sp_waiters_grant windowed_waiters_grant
#define sp_waiters_join windowed_waiters_join
#define sp_waiters_leave windowed_waiters_leave
#define sp_waiters_give_takeover_up windowed_waiters_give_takeover_up
#define sp_waiters_hand_over windowed_waiters_hand_over
#define sp_waiters_hand_failure windowed_waiters_hand_failure
#define sp_waiters_close windowed_waiters_close
#define sp_ticket_open windowed_ticket_open
#define sp_ticket_poll windowed_ticket_poll
#define sp_ticket_turn windowed_ticket_turn
#define sp_ticket_free windowed_ticket_free
#define sp_ticket_turn windowed_ticket_turn
#define sp_ticket_close windowed_ticket_close
#include "host/pool/waiters.c" /* NOLINT(bugprone-suspicious-include): renamed symbols, see above */

#include "host/pool/ticket.c" /* NOLINT(bugprone-suspicious-include): renamed symbols, see above */

#include "fake_pool.h"

static struct fake_pool f;
static int64_t spare;

/* ---- close ---- */

static void close_it(void) { CHECK(sp_pool_close(f.pool, 5000 * MS) == SP_OK); }

/* The pool is closed during an acquire: the acquire returns, and its sandbox does not outlive the pool. */
static void close_at(unsigned number) {
    int64_t handle = 0;

    open_pool(&f, 0, 2, 0);
    CHECK(sp_warm(f.pool, 2, &(sp_error){0}) == 2);
    at_window(number, close_it);
    handle = sp_acquire(f.pool);
    CHECK(intruder == NULL);
    CHECK(handle == SP_E_CLOSED || handle > 0);
    CHECK(handle < 0 || use(f.pool, handle) == SP_E_CLOSED);
    shut_pool(&f);
}

static unsigned close_window;

static void close_in_the_window(void) { close_at(close_window); }

/* Runs in a child, which is ended if the acquire spins. */
static void close_may_come_at_any_time_of_an_acquire(void) {
    for (close_window = 0; close_window < 4;
         close_window++) { /* in the last one the entry is claimed and not a lease yet */
        CHECK(in_child(close_in_the_window, 5) == 0);
    }
}

static int64_t released;

static void release_under_close(void) {
    open_pool(&f, 0, 2, 0);
    CHECK(sp_warm(f.pool, 2, &(sp_error){0}) == 2);
    released = sp_acquire(f.pool);
    at_window(close_window, close_it);
    CHECK(sp_release(f.pool, released) == SP_OK);
    CHECK(intruder == NULL);
    shut_pool(&f);
}

static void close_may_come_at_any_time_of_a_release(void) {
    for (close_window = 0; close_window < 2; close_window++) { /* before its push, and in its push */
        CHECK(in_child(release_under_close, 5) == 0);
    }
}

/* ---- max_size ---- */

static void release_the_spare(void) { CHECK(sp_release(f.pool, spare) == SP_OK); }

static void check_bounds(void) {
    const sp_stats s = stats_of(f.pool);

    CHECK(s.idle_count <= sp_pool_max_size(f.pool));
    CHECK(s.created_count - s.evict_count == (uint64_t)s.idle_count + s.in_use_count);
}

/* The release of a used lease evicts the oldest entry because the pool is full. Meanwhile an unused lease is released,
 * and takes the free place. */
static void a_used_and_an_unused_release_do_not_overfill(void) {
    int64_t used = 0;

    open_pool(&f, 1, 1, 0);
    sp_fake_hold(f.launcher, 0);
    used = acquire(f.pool, -1);
    spare = acquire(f.pool, -1);
    CHECK(use(f.pool, used) == 0);
    CHECK(REACHED(stats_of(f.pool).idle_count == 1, 5000)); /* the refill to min_size */
    sp_fake_hold(f.launcher, 1);
    after_eviction = release_the_spare;
    CHECK(sp_release(f.pool, used) == SP_OK);
    CHECK(after_eviction == NULL);
    check_bounds();
    sp_fake_hold(f.launcher, 0);
    CHECK(REACHED(stats_of(f.pool).recycling_count == 0, 5000));
    check_bounds();
    shut_pool(&f);
}

/* The janitor searches the ring for a dead entry that is not there, and holds a permit meanwhile. */
static void an_eviction_that_finds_nothing_does_not_overfill(void) {
    int64_t other = 0;

    open_pool(&f, 0, 1, 0);
    other = acquire(f.pool, -1); /* it was never in the ring, so that the search finds nothing */
    spare = acquire(f.pool, -1);
    CHECK(sp_warm(f.pool, 1, &(sp_error){0}) == 1);
    at_window(0, release_the_spare);
    pthread_mutex_lock(&f.pool->lock);
    CHECK(!sp_pool_evict_one(f.pool, slot_of(other), SP_EVICT_DEATH));
    pthread_mutex_unlock(&f.pool->lock);
    CHECK(intruder == NULL);
    check_bounds();
    CHECK(sp_release(f.pool, other) == SP_OK);
    check_bounds();
    shut_pool(&f);
}

static void shrink_to_one(void) { CHECK(sp_pool_resize(f.pool, 0, 1) == SP_OK); }

/* An unused lease has a place under the old bound, and is about to take it. */
static void a_release_and_a_resize_do_not_overfill(void) {
    open_pool(&f, 0, 2, 0);
    CHECK(sp_warm(f.pool, 2, &(sp_error){0}) == 2);
    spare = sp_acquire(f.pool);
    after_bound = shrink_to_one;
    CHECK(sp_release(f.pool, spare) == SP_OK);
    CHECK(after_bound == NULL && stats_of(f.pool).idle_count == 1);
    check_bounds();
    shut_pool(&f);
}

/* ---- max_in_use ---- */

static void acquire_the_spare(void) { spare = sp_acquire(f.pool); }

/* The ticket has found the last place free, and is about to take it. */
static void a_ticket_and_an_acquire_do_not_share_the_last_place(void) {
    sp_ticket *ticket = NULL;
    int64_t handle = 0;

    open_pool(&f, 2, 2, 1);
    after_fold = acquire_the_spare;
    ticket = open_ticket(f.pool, 0);
    CHECK(after_fold == NULL);
    CHECK(stats_of(f.pool).in_use_count <= 1);
    handle = poll_ticket(ticket);
    sp_ticket_free(ticket);
    CHECK((handle > 0) != (spare > 0));
    CHECK(sp_release(f.pool, handle > 0 ? handle : spare) == SP_OK);
    CHECK(stats_of(f.pool).waiting_count == 0 && stats_of(f.pool).in_use_count == 0);
    shut_pool(&f);
}

/* ---- deaths ---- */

static void die_and_be_noticed(void) {
    CHECK(sp_fake_kill(f.launcher, 1) == SP_OK);
    sleep_ns(100 * MS); /* the janitor notices the death, and finds neither an idle entry nor a lease */
}

/* No dead sandbox is idle, and the next lease is alive. */
static void check_next_is_alive(void) {
    int64_t handle = 0;

    CHECK(REACHED(stats_of(f.pool).recycling_count == 0 && sp_fake_live(f.launcher) == stats_of(f.pool).idle_count,
                  1000));
    handle = acquire(f.pool, -1);
    CHECK(handle > 0 && sp_lease_pid(f.pool, handle) == 2);
}

static void a_death_during_an_acquire_is_noticed(void) {
    for (unsigned number = 0; number < 4; number++) {
        int64_t handle = 0;

        open_pool(&f, 0, 1, 0); /* min_size 0, so that the janitor has nothing else to do */
        CHECK(sp_warm(f.pool, 1, &(sp_error){0}) == 1);
        at_window(number, die_and_be_noticed);
        handle = sp_acquire(f.pool);
        CHECK(intruder == NULL);
        sleep_ns(20 * MS);
        CHECK(handle > 0 && sp_release(f.pool, handle) == SP_OK);
        check_next_is_alive();
        shut_pool(&f);
    }
}

static void a_death_during_a_release_is_noticed(void) {
    for (unsigned number = 0; number < 2; number++) {
        int64_t handle = 0;

        open_pool(&f, 0, 1, 0);
        CHECK(sp_warm(f.pool, 1, &(sp_error){0}) == 1);
        handle = sp_acquire(f.pool);
        at_window(number, die_and_be_noticed); /* no lease any more, and not in the ring yet */
        CHECK(sp_release(f.pool, handle) == SP_OK);
        CHECK(intruder == NULL);
        check_next_is_alive();
        shut_pool(&f);
    }
}

int main(void) {
    check_deadline(90);
    RUN(close_may_come_at_any_time_of_an_acquire);
    RUN(close_may_come_at_any_time_of_a_release);
    RUN(a_used_and_an_unused_release_do_not_overfill);
    RUN(an_eviction_that_finds_nothing_does_not_overfill);
    RUN(a_release_and_a_resize_do_not_overfill);
    RUN(a_ticket_and_an_acquire_do_not_share_the_last_place);
    RUN(a_death_during_an_acquire_is_noticed);
    RUN(a_death_during_a_release_is_noticed);
    return check_report();
}
