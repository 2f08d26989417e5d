/* The pool over the fake launcher: its counts with many threads, failures and close(); tickets; forked children. */
#include "fake_pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "common/clock.h"
#include "common/stage.h"

static struct fake_pool f;

/* ---- one thread ---- */

static void an_open_pool_is_warm(void) {
    for (unsigned i = 0; i < 200; i++) {
        open_pool(&f, 2, 4, 0);
        CHECK(stats_of(f.pool).idle_count == 2); /* so that the first acquire is a hit */
        shut_pool(&f);
    }
}

static void failed_warming_fails_the_constructor(void) {
    const sp_pool_options options = pool_options(2, 4, 0);

    for (unsigned i = 0; i < 200; i++) {
        const unsigned fds_before = count_fds();
        sp_launcher *launcher = sp_launcher_fake();
        sp_error error = {0};

        sp_fake_fail(launcher, i % 2, 1, SP_STAGE_CLONE, EAGAIN);
        sp_pool *pool = sp_pool_open(launcher, &options, &error);
        CHECK(pool == NULL && error.code == SP_E_CREATE && error.stage == SP_STAGE_CLONE && error.err == EAGAIN);
        sp_pool_free(pool);
        CHECK(sp_fake_live(launcher) == 0);
        sp_launcher_unref(launcher);
        CHECK(count_fds() == fds_before);
    }
}

static void stale_handles_are_refused(void) {
    int64_t first = 0;
    int64_t second = 0;

    open_warm_pool(&f, 1, 0);
    first = sp_acquire(f.pool);
    CHECK(sp_release(f.pool, first) == SP_OK && sp_release(f.pool, first) == SP_E_RELEASED);
    second = sp_acquire(f.pool);
    CHECK(slot_of(second) == slot_of(first) && second != first);
    CHECK(sp_release(f.pool, first) == SP_E_RELEASED && use(f.pool, first) == SP_E_RELEASED);
    CHECK(sp_lease_pid(f.pool, first) == SP_E_RELEASED && sp_lease_pid(f.pool, second) > 0);
    CHECK(use(f.pool, second) == 0 && sp_release(f.pool, second) == SP_OK);
    CHECK(sp_release(f.pool, second) == SP_E_RELEASED);
    CHECK(REACHED(stats_of(f.pool).recycle_count == 1, 5000));
    first = sp_acquire(f.pool); /* the same slot, now with another sandbox */
    CHECK(slot_of(first) == slot_of(second) && sp_release(f.pool, second) == SP_E_RELEASED);
    CHECK(sp_release(f.pool, first) == SP_OK);
    shut_pool(&f);
}

static void made_up_handles_are_refused(void) {
    static const int64_t handles[] = {INT64_MIN,
                                      -1,
                                      0,
                                      1,
                                      SP_COUNT_MAX,
                                      (INT64_C(1) << SP_HANDLE_SHIFT) | SP_COUNT_MAX,
                                      INT64_C(7) << SP_HANDLE_SHIFT,
                                      INT64_MAX};

    open_warm_pool(&f, 1, 0);
    for (unsigned i = 0; i < sizeof handles / sizeof handles[0]; i++) {
        CHECK(sp_release(f.pool, handles[i]) == SP_E_RELEASED && use(f.pool, handles[i]) == SP_E_RELEASED);
        CHECK(sp_lease_pid(f.pool, handles[i]) == SP_E_RELEASED);
    }
    CHECK(stats_of(f.pool).idle_count == 1);
    shut_pool(&f);
}

/* The ledger has 20 bits for hits, and the fast path stops at half of them. */
static void hits_beyond_the_ledger_are_counted(void) {
    const uint64_t rounds = 2300000;
    uint64_t slow = 0;

    open_warm_pool(&f, 1, 0);
    for (uint64_t i = 0; i < rounds; i++) {
        int64_t handle = sp_acquire(f.pool);

        if (handle == SP_SLOW) {
            slow++;
            handle = acquire(f.pool, -1);
        }
        if (handle <= 0 || sp_release(f.pool, handle) != SP_OK) {
            CHECK(!"acquire and release");
            break;
        }
    }
    CHECK(stats_of(f.pool).hit_count == rounds && stats_of(f.pool).miss_count == 0);
    CHECK(slow == 4); /* 2.3 million / 2^19 */
    CHECK(stats_of(f.pool).idle_count == 1 && stats_of(f.pool).in_use_count == 0);
    shut_pool(&f);
}

static void entries_expire(void) {
    sp_pool_options options = pool_options(1, 4, 0);
    uint64_t created = 0;
    sp_error error;

    options.max_idle_ns = 60 * MS;
    open_pool_with(&f, &options);
    CHECK(sp_warm(f.pool, 4, &error) == 3);
    CHECK(REACHED(stats_of(f.pool).evict_count >= 4 && stats_of(f.pool).idle_count == 1, 2000));
    created = stats_of(f.pool).created_count;
    CHECK(REACHED(stats_of(f.pool).created_count > created,
                  2000)); /* min_size keeps one entry, which is replaced when it expires */
    CHECK(stats_of(f.pool).idle_count <= 1);
    shut_pool(&f);
}

static void dead_idle_entries_are_replaced(void) {
    open_pool(&f, 2, 2, 0);
    CHECK(sp_fake_kill(f.launcher, 1) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).evict_count == 1 && stats_of(f.pool).idle_count == 2, 2000));
    CHECK(sp_fake_live(f.launcher) == 2 && stats_of(f.pool).created_count == 3);
    shut_pool(&f);
}

/* ---- tickets ---- */

static void queued_ticket_is_cancelled(void) {
    sp_ticket *first = NULL;
    sp_ticket *second = NULL;
    int64_t handle = 0;
    sp_stats s;

    open_warm_pool(&f, 1, 1);
    handle = sp_acquire(f.pool);
    CHECK(handle > 0 && sp_acquire(f.pool) == SP_SLOW);
    first = open_ticket(f.pool, -1);
    second = open_ticket(f.pool, -1);
    CHECK(stats_of(f.pool).waiting_count == 2);
    sp_ticket_free(first);
    s = stats_of(f.pool);
    CHECK(s.waiting_count == 1 && s.in_use_count == 1 && s.hit_count == 1 && s.miss_count == 0);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(sp_acquire(f.pool) == SP_SLOW); /* the second ticket has got the lease */
    handle = poll_ticket(second);
    sp_ticket_free(second);
    CHECK(handle > 0 && stats_of(f.pool).waiting_count == 0);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    s = stats_of(f.pool);
    CHECK(s.idle_count == 1 && s.in_use_count == 0 && s.hit_count == 2);
    shut_pool(&f);
}

static void queued_ticket_times_out(void) {
    sp_ticket *ticket = NULL;
    int64_t handle = 0;
    int64_t before = 0;

    open_warm_pool(&f, 1, 1);
    handle = sp_acquire(f.pool);
    before = sp_now();
    ticket = open_ticket(f.pool, 30 * MS);
    CHECK(poll_ticket(ticket) == SP_E_TIMEOUT && sp_now() >= before + 30 * MS);
    CHECK(stats_of(f.pool).waiting_count == 0 && stats_of(f.pool).hit_count == 1);
    CHECK(sp_release(f.pool, handle) == SP_OK); /* the lease does not go to the ticket */
    CHECK(stats_of(f.pool).idle_count == 1 && stats_of(f.pool).in_use_count == 0);
    sp_ticket_free(ticket);
    ticket = open_ticket(f.pool, 0);
    handle = poll_ticket(ticket);
    sp_ticket_free(ticket);
    CHECK(handle > 0 && sp_acquire(f.pool) == SP_SLOW);
    ticket = open_ticket(f.pool, 0);
    CHECK(poll_ticket(ticket) == SP_E_TIMEOUT); /* 0: it does not wait */
    sp_ticket_free(ticket);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    shut_pool(&f);
}

/* The longest timeout means no limit, and must not overflow to a time in the past. */
static void the_longest_timeout_is_no_timeout(void) {
    const sp_exec_request request = request_for(INT64_MAX);
    sp_exec_result result = {.exit_code = -2};
    sp_ticket *ticket = NULL;
    sp_job *job = NULL;
    sp_error error;
    int64_t handle = 0;

    open_warm_pool(&f, 1, 1);
    handle = sp_acquire(f.pool);
    ticket = open_ticket(f.pool, INT64_MAX);
    CHECK(sp_ticket_poll(ticket, &error) == SP_AGAIN);
    sp_ticket_free(ticket);
    if (sp_job_start(f.pool, handle, &request, &job, &error) == SP_OK) {
        CHECK(poll_to_end(job) == SP_OK && sp_job_finish(job, &result, &error) == SP_OK);
    }
    CHECK(result.exit_code == 0 && result.timed_out == 0);
    sp_job_free(job);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(sp_pool_close(f.pool, INT64_MAX) == SP_OK);
    shut_pool(&f);
}

/* The ticket's deadline has passed, but no poll has returned that yet, and the ticket was in the queue when the lease
 * was released. So it gets the lease. */
static void a_hand_over_wins_over_a_passed_deadline(void) {
    sp_ticket *late = NULL;
    sp_ticket *behind = NULL;
    int64_t handle = 0;

    open_warm_pool(&f, 1, 1);
    handle = sp_acquire(f.pool);
    late = open_ticket(f.pool, MS);
    behind = open_ticket(f.pool, -1);
    sleep_ns(5 * MS);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    handle = poll_ticket(late);
    CHECK(handle > 0 && stats_of(f.pool).waiting_count == 1);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    sp_ticket_free(late); /* must not release the lease again */
    handle = poll_ticket(behind);
    sp_ticket_free(behind);
    CHECK(handle > 0 && sp_release(f.pool, handle) == SP_OK);
    CHECK(stats_of(f.pool).idle_count == 1 && stats_of(f.pool).in_use_count == 0);

    /* The late ticket is freed and not polled: the next one gets the lease. */
    handle = sp_acquire(f.pool);
    late = open_ticket(f.pool, MS);
    behind = open_ticket(f.pool, -1);
    sleep_ns(5 * MS);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    sp_ticket_free(late);
    handle = poll_ticket(behind);
    sp_ticket_free(behind);
    CHECK(handle > 0 && sp_release(f.pool, handle) == SP_OK);
    shut_pool(&f);
}

static void granted_ticket_is_cancelled(void) {
    sp_stats s;

    open_warm_pool(&f, 1, 0);
    sp_ticket_free(open_ticket(f.pool, -1));
    s = stats_of(f.pool);
    CHECK(s.idle_count == 1 && s.in_use_count == 0 && s.created_count == 1 && s.evict_count == 0);
    shut_pool(&f);
}

static void release_used(int64_t handle) {
    CHECK(handle > 0 && use(f.pool, handle) == 0 && sp_release(f.pool, handle) == SP_OK);
}

static void takeover_is_cancelled(void) {
    sp_ticket *ticket = NULL;
    sp_stats s;

    open_warm_pool(&f, 1, 0);
    sp_fake_hold(f.launcher, 1);
    release_used(sp_acquire(f.pool));
    CHECK(stats_of(f.pool).recycling_count == 1);
    ticket = open_ticket(f.pool, -1);
    s = stats_of(f.pool);
    CHECK(s.recycling_count == 0 && s.idle_count == 0 && s.in_use_count == 1 && s.hit_count == 2);
    sp_ticket_free(ticket);
    s = stats_of(f.pool);
    CHECK(s.recycling_count == 1 && s.idle_count == 1 && s.in_use_count == 0);
    sp_fake_hold(f.launcher, 0);
    CHECK(REACHED(stats_of(f.pool).recycle_count == 1, 5000));
    s = stats_of(f.pool);
    CHECK(s.idle_count == 1 && s.recycling_count == 0 && s.created_count == 1 && s.miss_count == 0);
    shut_pool(&f);
}

/* While the ticket holds the place of a recycling entry, the release of another lease fills the pool. */
static void cancelled_takeover_does_not_overfill(void) {
    int64_t first = 0;
    int64_t second = 0;
    sp_ticket *ticket = NULL;
    sp_stats s;

    open_warm_pool(&f, 1, 0);
    first = acquire(f.pool, -1);
    second = acquire(f.pool, -1);
    sp_fake_hold(f.launcher, 1);
    release_used(first);
    ticket = open_ticket(f.pool, -1);
    CHECK(stats_of(f.pool).in_use_count == 2 && stats_of(f.pool).idle_count == 0);
    release_used(second);
    CHECK(stats_of(f.pool).idle_count == 1);
    sp_ticket_free(ticket);
    s = stats_of(f.pool);
    CHECK(s.idle_count == 1 && s.in_use_count == 0);
    CHECK(s.created_count - s.evict_count == 1);
    sp_fake_hold(f.launcher, 0);
    CHECK(REACHED(stats_of(f.pool).recycling_count == 0, 5000));
    CHECK(stats_of(f.pool).idle_count == 1);
    CHECK(REACHED(sp_fake_live(f.launcher) == 1, 5000));
    shut_pool(&f);
}

static void takeover_gets_the_recycled_sandbox(void) {
    sp_ticket *ticket = NULL;
    int64_t handle = 0;
    sp_stats s;

    open_warm_pool(&f, 1, 0);
    sp_fake_hold(f.launcher, 1);
    release_used(sp_acquire(f.pool));
    ticket = open_ticket(f.pool, -1);
    sp_fake_hold(f.launcher, 0);
    handle = poll_ticket(ticket);
    sp_ticket_free(ticket);
    s = stats_of(f.pool);
    CHECK(handle > 0 && s.hit_count == 2 && s.miss_count == 0 && s.created_count == 1 && s.evict_count == 0);
    CHECK(s.recycle_count == 1 && s.in_use_count == 1);
    release_used(handle);
    shut_pool(&f);
}

static void failed_recycling_makes_a_takeover_create(void) {
    sp_ticket *ticket = NULL;
    int64_t handle = 0;
    sp_stats s;

    open_pool(&f, 0, 1, 0);
    handle = acquire(f.pool, -1);
    sp_fake_fail(f.launcher, 0, 1, SP_STAGE_CLONE, EAGAIN);
    sp_fake_hold(f.launcher, 1);
    release_used(handle);
    ticket = open_ticket(f.pool, -1);
    CHECK(stats_of(f.pool).recycling_count == 0);
    sp_fake_hold(f.launcher, 0);
    handle = poll_ticket(ticket);
    sp_ticket_free(ticket);
    s = stats_of(f.pool);
    CHECK(handle > 0 && s.create_error_count == 1 && s.evict_count == 1 && s.created_count == 2);
    CHECK(s.hit_count == 1 && s.miss_count == 1 && s.recycle_count == 0); /* one acquire, one hit */
    CHECK(s.in_use_count == 1 && s.idle_count == 0);
    release_used(handle);
    shut_pool(&f);
}

/* A ticket is freed before its birth has begun, and while it waits for the birth. */
static void creation_is_cancelled(void) {
    for (unsigned polls = 0; polls < 2; polls++) {
        sp_ticket *ticket = NULL;
        sp_error error;
        sp_stats s;

        open_pool(&f, 0, 1, 1);
        sp_fake_hold(f.launcher, 1);
        ticket = open_ticket(f.pool, -1);
        CHECK(polls == 0 || sp_ticket_poll(ticket, &error) == SP_AGAIN);
        s = stats_of(f.pool);
        CHECK(s.in_use_count == 1 && s.created_count == 1 && s.miss_count == 1);
        sp_ticket *behind = open_ticket(f.pool, -1);
        CHECK(stats_of(f.pool).waiting_count == 1);
        sp_ticket_free(ticket);
        CHECK(stats_of(f.pool).waiting_count == 0); /* it may create a sandbox */
        sp_fake_hold(f.launcher, 0);
        const int64_t handle = poll_ticket(behind);
        sp_ticket_free(behind);
        CHECK(handle > 0 && sp_release(f.pool, handle) == SP_OK);
        s = stats_of(f.pool);
        CHECK(s.in_use_count == 0 && s.created_count == 1 && s.miss_count == 2 && s.idle_count == 1);
        CHECK(s.create_error_count == 0 && sp_fake_live(f.launcher) == 1);
        shut_pool(&f);
    }
}

static void failed_creation_is_rolled_back(void) {
    sp_ticket *ticket = NULL;
    sp_error error;
    sp_stats s;
    int64_t rc = SP_AGAIN;

    open_pool(&f, 0, 1, 0);
    sp_fake_fail(f.launcher, 0, 1, SP_STAGE_IDMAP, EPERM);
    ticket = open_ticket(f.pool, -1);
    while (rc == SP_AGAIN) {
        rc = sp_ticket_poll(ticket, &error);
    }
    CHECK(rc == SP_E_CREATE && error.stage == SP_STAGE_IDMAP && error.err == EPERM);
    s = stats_of(f.pool);
    CHECK(s.in_use_count == 0 && s.created_count == 0 && s.miss_count == 1 && s.create_error_count == 1);
    sp_ticket_free(ticket);
    s = stats_of(f.pool);
    CHECK(s.in_use_count == 0 && s.created_count == 0);
    shut_pool(&f);
}

static void close_ends_tickets_in_every_state(void) {
    sp_ticket *tickets[3];
    int64_t handle = 0;

    open_warm_pool(&f, 1, 2);
    sp_fake_hold(f.launcher, 1);
    release_used(sp_acquire(f.pool));
    tickets[0] = open_ticket(f.pool, -1); /* TAKEOVER */
    tickets[1] = open_ticket(f.pool, -1); /* CREATING */
    tickets[2] = open_ticket(f.pool, -1); /* QUEUED */
    CHECK(sp_pool_close(f.pool, 5000 * MS) == SP_OK && sp_pool_close(f.pool, 0) == SP_OK);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(poll_ticket(tickets[i]) == SP_E_CLOSED);
        sp_ticket_free(tickets[i]);
    }
    handle = sp_acquire(f.pool);
    CHECK(handle == SP_E_CLOSED && sp_idle_len(f.pool) == SP_E_CLOSED);
    shut_pool(&f);
}

/* ---- many threads ---- */

#define WORKERS 4
#define SLOTS 1024
#define RESIZED 4 /* the largest max_size */

static struct {
    atomic_bool stop;   /* ends the workers */
    atomic_bool over;   /* ends the other two threads */
    atomic_bool closed; /* from now on calls may return SP_E_CLOSED */
    atomic_uint held;
    atomic_uint owner[SLOTS];
    atomic_uint leases, jobs, cancelled, snapshots, failures;
    bool resizes; /* the bounds of the pool change */
} crowd;

struct member {
    uint64_t seed;
    unsigned id;
    pthread_t thread;
};

/* Checks that a lease has one owner, and that there are never more leases than the bound. */
static void take_ownership(const struct member *me, int64_t handle) {
    const uint32_t bound = f.pool->options.max_in_use;
    const unsigned held = atomic_fetch_add(&crowd.held, 1) + 1;

    CHECK(slot_of(handle) < SLOTS);
    CHECK(atomic_exchange(&crowd.owner[slot_of(handle) % SLOTS], me->id) == 0);
    CHECK(bound == 0 || held <= bound);
    atomic_fetch_add(&crowd.leases, 1);
}

static void give_up_ownership(const struct member *me, int64_t handle) {
    int rc = 0;

    CHECK(atomic_exchange(&crowd.owner[slot_of(handle) % SLOTS], 0) == me->id);
    atomic_fetch_sub(&crowd.held, 1);
    rc = sp_release(f.pool, handle);
    CHECK(rc == SP_OK || (rc == SP_E_RELEASED && atomic_load(&crowd.closed)));
    CHECK(sp_release(f.pool, handle) == SP_E_RELEASED);
}

/* Acquires by a ticket, which is sometimes freed early, in any state. */
static int64_t acquire_by_ticket(struct member *me) {
    const uint32_t what = draw(&me->seed);
    sp_ticket *ticket = NULL;
    sp_error error;
    int64_t rc = sp_ticket_open(f.pool, what % 4 == 0 ? (int64_t)(what % 2000) * 1000 : -1, &ticket);

    if (rc != SP_OK) {
        return rc;
    }
    rc = SP_AGAIN;
    for (unsigned polls = what >> 16 & 7; rc == SP_AGAIN && (polls != 0 || what % 8 != 1);) {
        rc = sp_ticket_poll(ticket, &error);
        polls -= polls != 0;
    }
    sp_ticket_free(ticket);
    atomic_fetch_add(&crowd.cancelled, rc == SP_AGAIN);
    return rc;
}

static void work_with(struct member *me, int64_t handle) {
    take_ownership(me, handle);
    if (draw(&me->seed) % 3 == 0) {
        const int rc = use(f.pool, handle);

        CHECK(rc == 0 || rc == 1 || rc == SP_E_LOST || rc == SP_E_CREATE ||
              (rc == SP_E_CLOSED && atomic_load(&crowd.closed)));
        atomic_fetch_add(&crowd.jobs, 1);
    } else if (draw(&me->seed) % 16 == 0) {
        (void)sched_yield();
    }
    give_up_ownership(me, handle);
}

static void *work(void *arg) {
    struct member *me = arg;

    while (!atomic_load(&crowd.stop)) {
        int64_t rc = draw(&me->seed) % 4 != 0 ? sp_acquire(f.pool) : SP_SLOW;

        rc = rc == SP_SLOW ? acquire_by_ticket(me) : rc;
        if (rc > SP_AGAIN) {
            work_with(me, rc);
        } else if (rc == SP_E_CLOSED) {
            CHECK(atomic_load(&crowd.closed));
            break;
        } else {
            CHECK(rc == SP_AGAIN || rc == SP_E_TIMEOUT || rc == SP_E_CREATE);
        }
    }
    return NULL;
}

static uint64_t how_many(const sp_stats *s, unsigned latency) {
    uint64_t n = 0;

    for (unsigned i = 0; i < SP_HISTOGRAM_BUCKETS; i++) {
        n += s->latencies[latency].counts[i];
    }
    return n;
}

static void check_snapshot(const sp_stats *s) {
    uint64_t evicted = 0;

    for (unsigned i = 0; i < SP_EVICT_REASONS; i++) {
        evicted += s->evictions[i];
    }
    CHECK(evicted == s->evict_count);
    CHECK(how_many(s, SP_LATENCY_RECYCLE) == s->recycle_count);
    CHECK(how_many(s, SP_LATENCY_ACQUIRE_WAIT) <= s->hit_count + s->miss_count);
    CHECK(s->created_count - s->evict_count == (uint64_t)s->idle_count + s->in_use_count);
    CHECK(s->idle_count <= (crowd.resizes ? RESIZED : sp_pool_max_size(f.pool)));
    CHECK(s->recycling_count <= s->idle_count);
    CHECK(f.pool->options.max_in_use == 0 || s->in_use_count <= f.pool->options.max_in_use);
}

static void *observe(void *arg) {
    sp_stats last = {0};

    (void)arg;
    while (!atomic_load(&crowd.over)) {
        const sp_stats s = stats_of(f.pool);

        if (s.closed == 0) { /* close() ends entries without counting them as evicted */
            check_snapshot(&s);
        }
        CHECK(s.hit_count >= last.hit_count && s.miss_count >= last.miss_count && s.evict_count >= last.evict_count);
        last = s;
        atomic_fetch_add(&crowd.snapshots, 1);
        (void)sched_yield();
    }
    return NULL;
}

/* Disturbs the workers: failures at random stages, slow births, deaths, failed health checks, warm(), and resize(). */
static void *disturb(void *arg) {
    static const int stages[] = {SP_STAGE_USERNS, SP_STAGE_CLONE, SP_STAGE_LANDLOCK, SP_STAGE_SECCOMP};
    struct member *me = arg;
    sp_error error;

    while (!atomic_load(&crowd.over)) {
        const uint32_t what = draw(&me->seed);

        if (what % 8 == 0) {
            sp_fake_fail(f.launcher, what >> 8 & 3, 1 + (what >> 10 & 3), stages[what >> 12 & 3], EAGAIN);
            atomic_fetch_add(&crowd.failures, 1);
        } else if (what % 8 == 1) {
            sp_fake_delay(f.launcher, (int64_t)(what >> 8 & 3) * MS / 2);
        } else if (what % 8 == 2) {
            sp_fake_health(f.launcher, what >> 8 & 1); /* for all commands, not only for checks */
        } else if (what % 8 < 5) {
            const uint64_t made = sp_fake_created(f.launcher);

            (void)sp_fake_kill(f.launcher, (int64_t)(made - (made == 0 ? 0 : (what >> 8) % (made < 8 ? made : 8))));
        } else if (crowd.resizes && what % 8 < 7) {
            const int rc = sp_pool_resize(f.pool, what >> 8 & 1, 1 + (what >> 9) % RESIZED);

            CHECK(rc == SP_OK || (rc == SP_E_CLOSED && atomic_load(&crowd.closed)));
        } else {
            const int64_t n = sp_warm(f.pool, what >> 8 & 7, &error);

            CHECK(n >= 0 || n == SP_E_CREATE || (n == SP_E_CLOSED && atomic_load(&crowd.closed)));
        }
        sleep_ns(MS / 4);
    }
    return NULL;
}

static void start(struct member *member, void *(*body)(void *), unsigned id, uint64_t seed) {
    *member = (struct member){.seed = (seed + 1) * 0x9E3779B97F4A7C15U + id * 0xD1B54A32D192ED03U, .id = id};
    if (pthread_create(&member->thread, NULL, body, member) != 0) {
        abort();
    }
}

static void join(struct member *member) { CHECK(pthread_join(member->thread, NULL) == 0); }

static bool crowd_has_worked(void) {
    return atomic_load(&crowd.leases) > 100 && atomic_load(&crowd.jobs) > 10 && atomic_load(&crowd.snapshots) > 100 &&
           atomic_load(&crowd.cancelled) > 0 && atomic_load(&crowd.failures) > 0;
}

/*
 * Runs all threads for `ms`. Then they are stopped, on a busy machine once each kind of work was done; or the pool is
 * closed while they use it.
 */
static void run_crowd(const sp_pool_options *options, int64_t ms, uint64_t seed, bool closing) {
    struct member members[WORKERS + 2];

    memset((void *)&crowd, 0, sizeof crowd);
    crowd.resizes = seed % 2 == 1;
    open_pool_with(&f, options);
    for (unsigned i = 0; i < WORKERS; i++) {
        start(&members[i], work, i + 1, seed);
    }
    start(&members[WORKERS], observe, WORKERS + 1, seed);
    start(&members[WORKERS + 1], disturb, WORKERS + 2, seed);
    sleep_ns(ms * MS);
    if (closing) {
        atomic_store(&crowd.closed, true);
        CHECK(sp_pool_close(f.pool, 5000 * MS) == SP_OK);
    } else {
        const int64_t give_up = sp_now() + 20000 * MS;

        while (!crowd_has_worked() && sp_now() < give_up) {
            sleep_ns(MS);
        }
        atomic_store(&crowd.stop, true);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        join(&members[i]);
    }
    atomic_store(&crowd.over, true);
    join(&members[WORKERS]);
    join(&members[WORKERS + 1]);
    CHECK(atomic_load(&crowd.held) == 0);
}

static void crowd_leaves_the_pool_in_order(const sp_pool_options *options, uint64_t seed) {
    sp_stats s;

    run_crowd(options, UNDER_TSAN ? 1200 : 600, seed, false);
    crowd.resizes = false;
    s = stats_of(f.pool);
    check_snapshot(&s);
    CHECK(s.in_use_count == 0 && s.waiting_count == 0);
    CHECK(crowd_has_worked() && s.create_error_count > 0);
    CHECK(s.recycle_count > 0 && s.evict_count > 0);
    sp_fake_fail(f.launcher, 0, 0, 0, 0);
    sp_fake_health(f.launcher, 0);
    sp_fake_delay(f.launcher, 0);
    CHECK(REACHED(stats_of(f.pool).recycling_count == 0 && stats_of(f.pool).starting_count == 0 &&
                      sp_fake_live(f.launcher) == stats_of(f.pool).idle_count,
                  10000));
    shut_pool(&f);
}

static void counts_hold_without_a_bound(void) {
    sp_pool_options options = pool_options(1, 2, 0);

    crowd_leaves_the_pool_in_order(&options, 1);
    options = pool_options(0, 1, 0);
    crowd_leaves_the_pool_in_order(&options, 2);
}

static void counts_hold_with_a_bound(void) {
    sp_pool_options options = pool_options(1, 2, 3);

    crowd_leaves_the_pool_in_order(&options, 3);
    options = pool_options(1, 1, 1);
    crowd_leaves_the_pool_in_order(&options, 4);
}

static void counts_hold_with_checks_and_expiry(void) {
    sp_pool_options options = pool_options(2, 3, 0);

    options.health_check_interval = 2;
    options.max_idle_ns = 5 * MS;
    crowd_leaves_the_pool_in_order(&options, 5);
}

static void close_during_use(void) {
    for (uint64_t round = 0; round < (UNDER_TSAN ? 25 : 60); round++) {
        sp_pool_options options = pool_options(2, 4, round % 2 == 0 ? 0 : 2);

        options.health_check_interval = round % 3 == 0;
        run_crowd(&options, 1 + (int64_t)(round % 12), 100 + round, true);
        shut_pool(&f);
    }
}

/* ---- two releases at once ---- */

static struct {
    pthread_barrier_t barrier;
    _Atomic int64_t handle;
    atomic_int won;
    unsigned rounds;
} race;

static void *release_in_step(void *arg) {
    for (unsigned i = 0; i < race.rounds; i++) {
        (void)pthread_barrier_wait(&race.barrier);
        const int rc = sp_release(f.pool, atomic_load(&race.handle));

        CHECK(rc == SP_OK || rc == SP_E_RELEASED);
        atomic_fetch_add(&race.won, rc == SP_OK);
        (void)pthread_barrier_wait(&race.barrier);
    }
    return arg;
}

static void one_of_two_releases_counts(void) {
    pthread_t threads[2];

    open_pool(&f, 2, 2, 0);
    race.rounds = UNDER_TSAN ? 1000 : 3000;
    CHECK(pthread_barrier_init(&race.barrier, NULL, 3) == 0);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, release_in_step, NULL) == 0);
    }
    for (unsigned i = 0; i < race.rounds; i++) {
        const int64_t handle = acquire(f.pool, -1);

        CHECK(handle > 0 && (i % 8 != 0 || use(f.pool, handle) == 0));
        atomic_store(&race.handle, handle);
        atomic_store(&race.won, 0);
        (void)pthread_barrier_wait(&race.barrier);
        (void)pthread_barrier_wait(&race.barrier);
        CHECK(atomic_load(&race.won) == 1 && stats_of(f.pool).in_use_count == 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    (void)pthread_barrier_destroy(&race.barrier);
    CHECK(stats_of(f.pool).idle_count == 2);
    shut_pool(&f);
}

/* ---- a forked child ---- */

static int64_t parents_handle;
static sp_ticket *parents_ticket;
static sp_job *parents_job;

static void everything_is_refused(void) {
    const sp_exec_request request = request_for(1000 * MS);
    sp_ticket *ticket = NULL;
    sp_job *job = NULL;
    sp_stats stats;
    sp_error error;

    CHECK(sp_acquire(f.pool) == SP_E_FORKED);
    CHECK(sp_release(f.pool, parents_handle) == SP_E_FORKED);
    CHECK(sp_idle_len(f.pool) == SP_E_FORKED);
    CHECK(sp_snapshot(f.pool, &stats) == SP_E_FORKED);
    CHECK(sp_warm(f.pool, 2, &error) == SP_E_FORKED);
    CHECK(sp_lease_pid(f.pool, parents_handle) == SP_E_FORKED);
    CHECK(sp_ticket_open(f.pool, 0, &ticket) == SP_E_FORKED && ticket == NULL);
    CHECK(sp_ticket_poll(parents_ticket, &error) == SP_E_FORKED);
    CHECK(sp_job_start(f.pool, parents_handle, &request, &job, &error) == SP_E_FORKED && job == NULL);
    CHECK(sp_pool_close(f.pool, 1000 * MS) == SP_E_FORKED);
    CHECK(sp_pool_owner_pid(f.pool) == getppid());
    sp_ticket_free(parents_ticket);
    sp_pool_free(f.pool);
    sp_pool_free(f.pool); /* does nothing in a child, so it can be repeated */
}

/* Another thread may hold the pool's lock at the time of the fork, so the child must not need the lock. */
static void forked_child_touches_nothing(void) {
    sp_stats before;
    sp_stats after;

    open_warm_pool(&f, 2, 1);
    parents_handle = sp_acquire(f.pool);
    parents_ticket = open_ticket(f.pool, -1);
    before = stats_of(f.pool);
    CHECK(in_child(everything_is_refused, 20) == 0);
    pthread_mutex_lock(&f.pool->lock);
    const int locked = in_child(everything_is_refused, 20);
    pthread_mutex_unlock(&f.pool->lock);
    CHECK(locked == 0);
    after = stats_of(f.pool);
    CHECK(memcmp(&before, &after, sizeof after) == 0);
    CHECK(sp_fake_live(f.launcher) == 1);
    CHECK(use(f.pool, parents_handle) == 0 && sp_release(f.pool, parents_handle) == SP_OK);
    parents_handle = poll_ticket(parents_ticket);
    sp_ticket_free(parents_ticket);
    CHECK(parents_handle > 0 && use(f.pool, parents_handle) == 0 && sp_release(f.pool, parents_handle) == SP_OK);
    shut_pool(&f);
}

static void the_job_is_refused(void) {
    sp_exec_result result;
    sp_error error;

    CHECK(sp_job_poll(parents_job) == SP_E_FORKED);
    CHECK(sp_job_finish(parents_job, &result, &error) == SP_E_FORKED);
    sp_job_free(parents_job);
}

static void forked_child_does_not_touch_a_running_job(void) {
    const sp_exec_request request = request_for(1000 * MS);
    sp_exec_result result = {.exit_code = -2};
    sp_error error;

    open_warm_pool(&f, 1, 0);
    parents_handle = sp_acquire(f.pool);
    CHECK(sp_job_start(f.pool, parents_handle, &request, &parents_job, &error) == SP_OK);
    CHECK(in_child(the_job_is_refused, 10) == 0);
    CHECK(poll_to_end(parents_job) == SP_OK); /* init's records can still be received */
    CHECK(sp_job_finish(parents_job, &result, &error) == SP_OK);
    CHECK(result.exit_code == 0 && result.timed_out == 0);
    sp_job_free(parents_job);
    CHECK(sp_release(f.pool, parents_handle) == SP_OK);
    shut_pool(&f);
}

/* The counter of leases is at its maximum: one more would overflow into the bit that says that the pool is closed. */
static void a_lease_that_cannot_be_counted_is_refused(void) {
    struct fake_pool f;
    sp_error error = {0};
    const uint64_t others = SP_COUNT_MAX - 1;

    open_warm_pool(&f, 2, 0);
    int64_t handle = acquire(f.pool, INT64_MAX);
    CHECK(use(f.pool, handle) == 0);
    CHECK(sp_warm(f.pool, 1, &error) == 1);
    sp_ledger_add(f.pool, others * SP_LEDGER_IN_USE);
    for (int way = 0; way < 2; way++) { /* first with an idle entry, then with a ticket that is freed */
        sp_ticket *ticket = open_ticket(f.pool, INT64_MAX);

        CHECK(sp_acquire(f.pool) == SP_SLOW);
        if (way == 0) {
            CHECK(sp_ticket_poll(ticket, &error) == SP_E_CREATE && error.err == ENOSPC);
            CHECK(sp_ticket_poll(ticket, &error) == SP_E_CLOSED);
        }
        sp_ticket_free(ticket);
        const sp_stats stats = stats_of(f.pool);
        CHECK(stats.closed == 0 && stats.in_use_count == SP_COUNT_MAX && stats.waiting_count == 0);
        CHECK(stats.idle_count == 1 && stats.create_error_count == 1);
    }
    sp_ledger_add(f.pool, 0 - others * SP_LEDGER_IN_USE);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    handle = sp_acquire(f.pool);
    CHECK(handle > 0 && use(f.pool, handle) == 0 && sp_release(f.pool, handle) == SP_OK);
    shut_pool(&f);
}

int main(void) {
    RUN(a_lease_that_cannot_be_counted_is_refused);
    check_deadline(UNDER_TSAN ? 180 : 90);
    RUN(an_open_pool_is_warm);
    RUN(failed_warming_fails_the_constructor);
    RUN(stale_handles_are_refused);
    RUN(made_up_handles_are_refused);
    RUN(hits_beyond_the_ledger_are_counted);
    RUN(entries_expire);
    RUN(dead_idle_entries_are_replaced);
    RUN(queued_ticket_is_cancelled);
    RUN(queued_ticket_times_out);
    RUN(the_longest_timeout_is_no_timeout);
    RUN(a_hand_over_wins_over_a_passed_deadline);
    RUN(granted_ticket_is_cancelled);
    RUN(takeover_is_cancelled);
    RUN(cancelled_takeover_does_not_overfill);
    RUN(takeover_gets_the_recycled_sandbox);
    RUN(failed_recycling_makes_a_takeover_create);
    RUN(creation_is_cancelled);
    RUN(failed_creation_is_rolled_back);
    RUN(close_ends_tickets_in_every_state);
    RUN(counts_hold_without_a_bound);
    RUN(counts_hold_with_a_bound);
    RUN(counts_hold_with_checks_and_expiry);
    RUN(close_during_use);
    RUN(one_of_two_releases_counts);
    RUN(forked_child_touches_nothing);
    RUN(forked_child_does_not_touch_a_running_job);
    return check_report();
}
