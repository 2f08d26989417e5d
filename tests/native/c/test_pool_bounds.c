/* min_size and max_size change while the pool is in use. test_pool.c resizes a pool that many threads use. */
#include "fake_pool.h"

static struct fake_pool f;

static void check_counts(void) {
    const sp_stats s = stats_of(f.pool);

    CHECK(s.idle_count <= sp_pool_max_size(f.pool));
    CHECK(s.created_count - s.evict_count == (uint64_t)s.idle_count + s.in_use_count);
    CHECK(s.evictions[SP_EVICT_CAPACITY] == s.evict_count);
}

static uint32_t states_of(unsigned state) {
    uint32_t states[5];
    uint32_t free_slots = 0;

    sp_pool_census(f.pool, states, &free_slots);
    return states[state];
}

static void wrong_bounds_are_refused(void) {
    open_pool(&f, 1, 2, 0);
    CHECK(sp_pool_resize(f.pool, 3, 2) == SP_E_INVAL);
    CHECK(sp_pool_resize(f.pool, 0, SP_COUNT_MAX + 1) == SP_E_INVAL);
    CHECK(sp_pool_sizes(f.pool) == (UINT64_C(1) << 32 | 2));
    CHECK(sp_pool_close(f.pool, 1000 * MS) == SP_OK);
    CHECK(sp_pool_resize(f.pool, 0, 2) == SP_E_CLOSED);
    shut_pool(&f);
}

static void the_oldest_are_evicted_at_once(void) {
    int64_t handle = 0;

    open_pool(&f, 0, 4, 0);
    CHECK(sp_warm(f.pool, 4, &(sp_error){0}) == 4);
    handle = sp_acquire(f.pool);
    const int64_t newest = sp_lease_pid(f.pool, handle);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(sp_pool_resize(f.pool, 0, 1) == SP_OK);
    CHECK(sp_pool_sizes(f.pool) == 1);
    CHECK(stats_of(f.pool).idle_count == 1 && stats_of(f.pool).evict_count == 3);
    check_counts();
    handle = sp_acquire(f.pool);
    CHECK(sp_lease_pid(f.pool, handle) == newest);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(REACHED(sp_fake_live(f.launcher) == 1, 5000));
    shut_pool(&f);
}

static void min_size_is_refilled(void) {
    open_pool(&f, 0, 1, 0);
    CHECK(sp_pool_resize(f.pool, 3, 5) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).idle_count == 3, 5000));
    CHECK(sp_warm(f.pool, 9, &(sp_error){0}) == 2);
    CHECK(sp_pool_resize(f.pool, 0, 5) == SP_OK);
    CHECK(REACHED(sp_settle(f.pool, 5000 * MS) == SP_OK, 5000) && stats_of(f.pool).idle_count == 5);
    check_counts();
    shut_pool(&f);
}

/* Three places are to be recycled. A birth is under way for one or two of them, see `refill_concurrency`. */
static void shrink_while_recycling(uint32_t refill_concurrency) {
    sp_pool_options options = pool_options(0, 3, 0);
    int64_t handles[3];

    options.refill_concurrency = refill_concurrency;
    open_pool_with(&f, &options);
    CHECK(sp_warm(f.pool, 3, &(sp_error){0}) == 3);
    sp_fake_hold(f.launcher, 1);
    for (unsigned i = 0; i < 3; i++) {
        handles[i] = sp_acquire(f.pool);
        CHECK(use(f.pool, handles[i]) == 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK(sp_release(f.pool, handles[i]) == SP_OK);
    }
    CHECK(stats_of(f.pool).recycling_count == 3);
    sleep_ns(50 * MS); /* the janitor begins the births */
    CHECK(sp_pool_resize(f.pool, 0, 1) == SP_OK);
    CHECK(stats_of(f.pool).recycling_count == 1 && stats_of(f.pool).evict_count == 2);
    check_counts();
    sp_fake_hold(f.launcher, 0);
    CHECK(REACHED(sp_settle(f.pool, 5000 * MS) == SP_OK, 5000));
    CHECK(stats_of(f.pool).idle_count == 1 && sp_fake_live(f.launcher) == 1);
    CHECK(states_of(SP_SLOT_IDLE) == 1 && states_of(SP_SLOT_EMPTY) == 2);
    CHECK(sp_fake_created(f.launcher) <= 3 + refill_concurrency); /* none is created that has no place */
    check_counts();
    shut_pool(&f);
}

static void places_that_are_recycled_are_evicted(void) {
    shrink_while_recycling(1);
    shrink_while_recycling(3);
}

/* A ticket that has taken a recycling entry over keeps its claim. */
static void a_takeover_is_kept(void) {
    sp_ticket *ticket = NULL;
    int64_t handle = 0;

    open_pool(&f, 0, 2, 0);
    CHECK(sp_warm(f.pool, 2, &(sp_error){0}) == 2);
    const int64_t other = sp_acquire(f.pool);
    handle = sp_acquire(f.pool);
    sp_fake_hold(f.launcher, 1);
    CHECK(use(f.pool, handle) == 0 && use(f.pool, other) == 0);
    CHECK(sp_release(f.pool, handle) == SP_OK && sp_release(f.pool, other) == SP_OK);
    ticket = open_ticket(f.pool, -1);
    CHECK(sp_pool_resize(f.pool, 0, 1) == SP_OK);
    check_counts();
    sp_fake_hold(f.launcher, 0);
    handle = poll_ticket(ticket);
    sp_ticket_free(ticket);
    CHECK(handle > 0 && use(f.pool, handle) == 0 && sp_release(f.pool, handle) == SP_OK);
    CHECK(REACHED(sp_settle(f.pool, 5000 * MS) == SP_OK, 5000));
    check_counts();
    shut_pool(&f);
}

int main(void) {
    check_deadline(60);
    RUN(wrong_bounds_are_refused);
    RUN(the_oldest_are_evicted_at_once);
    RUN(min_size_is_refilled);
    RUN(places_that_are_recycled_are_evicted);
    RUN(a_takeover_is_kept);
    return check_report();
}
