/* The queue of events for the log: equal events are merged, each lost one is counted, and the reader ends with the last
 * pool. */
#include "fake_pool.h"

#include <errno.h>
#include <pthread.h>

#include "common/clock.h"
#include "common/stage.h"
#include "host/sys/events.h"

#define REPORTERS 4
#define REPORTS 20000u

static sp_event event_of(uint32_t pool, uint32_t reason) {
    return (sp_event){.pool = pool, .kind = SP_EVENT_CREATE_FAILED, .reason = reason, .count = 1};
}

static void report(sp_events *events, uint32_t pool, uint32_t reason) {
    const sp_event event = event_of(pool, reason);

    sp_events_report(events, &event);
}

static void equal_events_are_merged(void) {
    sp_events *events = sp_events_new();
    sp_event found[8];

    report(events, 1, 7);
    report(events, 2, 7);
    report(events, 1, 8);
    report(events, 1, 7);
    CHECK(sp_events_take(events, found, 2, 0) == 2); /* the oldest first */
    CHECK(found[0].pool == 1 && found[0].reason == 7 && found[0].count == 2);
    CHECK(found[1].pool == 2 && found[1].count == 1);
    CHECK(sp_events_take(events, found, 8, 0) == 1 && found[0].reason == 8 && found[0].count == 1);
    CHECK(sp_events_take(events, found, 8, -1) == 0);
    sp_events_leave(events);
    sp_events_unref(events);
}

static void events_without_a_place_are_counted(void) {
    sp_events *events = sp_events_new();
    sp_event found[128];
    int n = 0;

    for (uint32_t i = 0; i < 100; i++) {
        report(events, 1, i);
        report(events, 1, i);
    }
    n = sp_events_take(events, found, 128, 0);
    CHECK(n > 1 && n < 100 && found[n - 1].kind == SP_EVENT_DROPPED);
    CHECK(found[n - 1].count + 2 * (uint64_t)(n - 1) == 200);
    CHECK(sp_events_take(events, found, 128, -1) == 0);
    sp_events_unref(events);
}

static void events_are_collected_after_some_were_taken(void) {
    sp_events *events = sp_events_new();
    sp_event found[8];
    int64_t start = 0;

    report(events, 1, 1);
    CHECK(sp_events_take(events, found, 8, 30 * MS) == 1);
    start = sp_now();
    report(events, 1, 2);
    CHECK(sp_events_take(events, found, 8, 0) == 1 && sp_now() - start > 20 * MS);
    report(events, 1, 2);
    sp_events_leave(events); /* the queue has ended: a take does not wait any more */
    CHECK(sp_events_take(events, found, 8, 1000000 * MS) == 1 && sp_events_take(events, found, 8, 0) == 0);
    CHECK(!sp_events_enter(events));
    sp_events_unref(events);
}

static void *report_many(void *arg) {
    sp_events *events = arg;

    for (uint32_t i = 0; i < REPORTS; i++) {
        report(events, 1 + i % 3, i % 50);
    }
    sp_events_leave(events);
    return NULL;
}

static void threads_lose_no_event(void) {
    sp_events *events = sp_events_new();
    pthread_t threads[REPORTERS];
    sp_event found[16];
    uint64_t taken = 0;

    for (unsigned i = 0; i < REPORTERS; i++) {
        CHECK(sp_events_enter(events));
        CHECK(pthread_create(&threads[i], NULL, report_many, events) == 0);
    }
    sp_events_leave(events);
    for (int n; (n = sp_events_take(events, found, 16, 0)) != 0;) {
        for (int i = 0; i < n; i++) {
            taken += found[i].count;
        }
    }
    CHECK(taken == (uint64_t)REPORTERS * REPORTS);
    for (unsigned i = 0; i < REPORTERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    sp_events_unref(events);
}

static void *read_until_end(void *arg) {
    sp_event found[16];
    uint64_t *taken = NULL;
    sp_events *events = arg;

    taken = calloc(8, sizeof *taken);
    for (int n; (n = sp_events_take(events, found, 16, 0)) != 0;) {
        for (int i = 0; i < n; i++) {
            taken[found[i].kind] += found[i].count;
        }
    }
    return taken;
}

/* A thread reads the events of a pool from its open to its close, and ends with the pool. */
static void a_pool_reports_what_happens(void) {
    struct fake_pool f;
    sp_pool_options options = pool_options(0, 2, 0);
    pthread_t reader;
    uint64_t *taken = NULL;
    sp_error error;

    options.number = 5;
    options.events = sp_events_new();
    CHECK(pthread_create(&reader, NULL, read_until_end, options.events) == 0);
    open_pool_with(&f, &options);
    sp_events_leave(options.events); /* now the pool is the only reporter */
    CHECK(sp_warm(f.pool, 2, &error) == 2);
    CHECK(sp_fake_kill(f.launcher, 1) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).evictions[SP_EVICT_DEATH] == 1, 5000));
    sp_fake_fail(f.launcher, 0, 1, SP_STAGE_CLONE, EAGAIN);
    CHECK(sp_warm(f.pool, 2, &error) == SP_E_CREATE);
    CHECK(sp_acquire(f.pool) > 0);
    CHECK(sp_pool_close(f.pool, 5000 * MS) == SP_OK);
    CHECK(pthread_join(reader, (void **)&taken) == 0);
    CHECK(taken[SP_EVENT_EVICTED] == 1 && taken[SP_EVENT_CREATE_FAILED] == 1 && taken[SP_EVENT_LEASES_KILLED] == 1);
    CHECK(taken[SP_EVENT_LOST] == 0 && taken[SP_EVENT_DROPPED] == 0);
    free(taken);
    shut_pool(&f);
    sp_events_unref(options.events);
}

int main(void) {
    RUN(equal_events_are_merged);
    RUN(events_without_a_place_are_counted);
    RUN(events_are_collected_after_some_were_taken);
    RUN(threads_lose_no_event);
    RUN(a_pool_reports_what_happens);
    return check_report();
}
