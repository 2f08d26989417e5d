/* drain(): no lease is handed out until those that are out have ended, and then no old sandbox is idle. */
#include "fake_pool.h"

#include <pthread.h>

static struct fake_pool f;

static int wait_for_end(sp_drain *drain, int64_t ms) {
    const int64_t give_up = sp_now() + ms * MS;
    int rc = SP_AGAIN;

    while (rc == SP_AGAIN && sp_now() < give_up) {
        rc = sp_drain_wait(f.pool, drain, give_up - sp_now());
    }
    return rc;
}

static void check_counts(void) {
    const sp_stats s = stats_of(f.pool);

    CHECK(s.created_count - s.evict_count == (uint64_t)s.idle_count + s.in_use_count);
}

static void an_unused_pool_is_drained_at_once(void) {
    sp_drain drain = {0};

    open_pool(&f, 2, 4, 0);
    CHECK(sp_warm(f.pool, 4, &(sp_error){0}) == 2);
    CHECK(sp_drain_wait(f.pool, &drain, 0) == SP_OK);
    CHECK(sp_acquire(f.pool) == SP_SLOW);
    sp_drain_end(&drain);
    sp_drain_end(&drain); /* a second call changes nothing */
    CHECK(stats_of(f.pool).evictions[SP_EVICT_DRAINED] == 4);
    CHECK(REACHED(sp_settle(f.pool, 5000 * MS) == SP_OK, 5000) && stats_of(f.pool).idle_count == 2);
    CHECK(sp_fake_live(f.launcher) == 2 && sp_fake_created(f.launcher) == 6);
    check_counts();
    shut_pool(&f);
}

/* Of the four ways in which a lease ends, these are the two that take no lock, and the two that do. */
static void a_lease_is_awaited(bool used, uint32_t max_size) {
    sp_drain drain = {0};
    sp_ticket *ticket = NULL;

    open_pool(&f, 0, max_size, 0);
    CHECK(sp_warm(f.pool, max_size, &(sp_error){0}) == max_size);
    const int64_t first = sp_acquire(f.pool);
    const int64_t handle = acquire(f.pool, -1); /* one more than there is room for if max_size is 1 */
    CHECK(!used || (use(f.pool, handle) == 0 && use(f.pool, first) == 0));
    CHECK(sp_release(f.pool, first) == SP_OK);
    CHECK(sp_drain_wait(f.pool, &drain, 0) == SP_AGAIN);
    ticket = open_ticket(f.pool, -1);
    CHECK(stats_of(f.pool).waiting_count == 1 && sp_acquire(f.pool) == SP_SLOW);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(wait_for_end(&drain, 5000) == SP_OK && stats_of(f.pool).waiting_count == 1);
    sp_drain_end(&drain);
    const int64_t next = poll_ticket(ticket);
    sp_ticket_free(ticket);
    CHECK(next > 0 && sp_lease_pid(f.pool, next) > 2);
    CHECK(sp_release(f.pool, next) == SP_OK);
    check_counts();
    shut_pool(&f);
}

static void leases_are_awaited(void) {
    for (uint32_t max_size = 1; max_size <= 2; max_size++) {
        a_lease_is_awaited(false, max_size);
        a_lease_is_awaited(true, max_size);
    }
}

static void a_drain_that_gives_up_lets_acquires_go_on(void) {
    sp_drain drain = {0};
    sp_drain other = {0};

    open_pool(&f, 0, 2, 0);
    CHECK(sp_warm(f.pool, 2, &(sp_error){0}) == 2);
    const int64_t handle = sp_acquire(f.pool);
    CHECK(wait_for_end(&drain, 10) == SP_AGAIN && wait_for_end(&other, 10) == SP_AGAIN);
    sp_drain_end(&drain);
    CHECK(stats_of(f.pool).idle_count == 0 && sp_acquire(f.pool) == SP_SLOW); /* the other one goes on */
    sp_drain_end(&other);
    const int64_t next = acquire(f.pool, -1);
    CHECK(next > 0 && sp_release(f.pool, next) == SP_OK && sp_release(f.pool, handle) == SP_OK);
    check_counts();
    shut_pool(&f);
}

static void *close_soon(void *arg) {
    sleep_ns(20 * MS);
    CHECK(sp_pool_close(f.pool, 1000 * MS) == SP_OK);
    return arg;
}

static void close_ends_a_drain(void) {
    sp_drain drain = {0};
    pthread_t closer;

    open_pool(&f, 1, 2, 0);
    CHECK(sp_acquire(f.pool) > 0);
    CHECK(pthread_create(&closer, NULL, close_soon, NULL) == 0);
    CHECK(wait_for_end(&drain, 5000) == SP_E_CLOSED);
    sp_drain_end(&drain);
    CHECK(pthread_join(closer, NULL) == 0);
    CHECK(sp_drain_wait(f.pool, &drain, 0) == SP_E_CLOSED && drain.pool == NULL);
    shut_pool(&f);
}

static atomic_bool over;

static void *work(void *arg) {
    unsigned leases = 0;

    for (; !atomic_load(&over); leases++) {
        const int64_t handle = acquire(f.pool, -1);

        CHECK(handle > 0 && (leases % 3 != 0 || use(f.pool, handle) == 0));
        CHECK(sp_release(f.pool, handle) == SP_OK);
    }
    CHECK(leases > 10);
    return arg;
}

/* While a drain is satisfied, nobody has a lease. */
static void drains_under_load(void) {
    pthread_t workers[3];

    open_pool(&f, 1, 2, 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(pthread_create(&workers[i], NULL, work, NULL) == 0);
    }
    for (unsigned i = 0; i < 200; i++) {
        sp_drain drain = {0};

        CHECK(wait_for_end(&drain, 10000) == SP_OK);
        CHECK(stats_of(f.pool).in_use_count == 0);
        sp_drain_end(&drain);
        sleep_ns(MS / 4);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(pthread_join(workers[i], NULL) == 0);
    }
    CHECK(stats_of(f.pool).in_use_count == 0 && stats_of(f.pool).evictions[SP_EVICT_DRAINED] > 0);
    check_counts();
    shut_pool(&f);
}

int main(void) {
    check_deadline(60);
    RUN(an_unused_pool_is_drained_at_once);
    RUN(leases_are_awaited);
    RUN(a_drain_that_gives_up_lets_acquires_go_on);
    RUN(close_ends_a_drain);
    RUN(drains_under_load);
    return check_report();
}
