/*
 * Failures of the calls that the pool makes: memory, threads, the poller, births, one at a time. Files of host/pool are
 * part of this program with other names for their functions, and with these calls replaced.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "fake_pool.h"

/* The n-th call from now on fails; 0: none does. */
static atomic_uint refuse_calloc;
static atomic_uint refuse_malloc;
static atomic_uint refuse_thread;
static atomic_uint refuse_poller_open;
static atomic_uint refuse_poller_add;
static atomic_uint refuse_mark;
static atomic_uint refuse_births; /* the number of births to refuse */

static bool refused(atomic_uint *which) {
    const unsigned before = atomic_load(which);

    if (before != 0) {
        atomic_store(which, before - 1);
    }
    return before == 1;
}

static void *faulty_calloc(size_t n, size_t size) { return refused(&refuse_calloc) ? NULL : calloc(n, size); }

static void *faulty_malloc(size_t size) { return refused(&refuse_malloc) ? NULL : malloc(size); }

static int faulty_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *), void *arg) {
    return refused(&refuse_thread) ? EAGAIN : pthread_create(thread, attr, main, arg);
}

static int faulty_poller_open(struct sp_poller *poller) {
    return refused(&refuse_poller_open) ? -EMFILE : sp_poller_open(poller);
}

static int faulty_poller_add(struct sp_poller *poller, int fd, uint64_t key) {
    return refused(&refuse_poller_add) ? -ENOSPC : sp_poller_add(poller, fd, key);
}

volatile const uint8_t *sp_fork_mark_new(void);

static volatile const uint8_t *faulty_mark(void) { return refused(&refuse_mark) ? NULL : sp_fork_mark_new(); }

static int faulty_birth(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    if (atomic_load(&refuse_births) != 0) {
        atomic_fetch_sub(&refuse_births, 1);
        birth->session = NULL;
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, EMFILE, "refused");
    }
    return sp_birth_begin(launcher, birth, error);
}

#define sp_warm faulty_warm
#define sp_warm_create_missing faulty_warm_create_missing
#define sp_births_begin faulty_births_begin
#define sp_births_attend faulty_births_attend
#define sp_births_attend_overdue faulty_births_attend_overdue
#define sp_births_due faulty_births_due
#define sp_births_end faulty_births_end
#define sp_births_put_refills_off faulty_births_put_refills_off
#define sp_pool_open faulty_pool_open
#define sp_pool_close faulty_pool_close
#define sp_pool_free faulty_pool_free
#define sp_pool_owner_pid faulty_pool_owner_pid
#define sp_janitor_main faulty_janitor_main
#define sp_waiters_grant faulty_waiters_grant
#define sp_waiters_join faulty_waiters_join
#define sp_waiters_leave faulty_waiters_leave
#define sp_waiters_give_takeover_up faulty_waiters_give_takeover_up
#define sp_waiters_hand_over faulty_waiters_hand_over
#define sp_waiters_hand_failure faulty_waiters_hand_failure
#define sp_waiters_close faulty_waiters_close
#define sp_ticket_open faulty_ticket_open
#define sp_ticket_poll faulty_ticket_poll
#define sp_ticket_turn faulty_ticket_turn
#define sp_ticket_free faulty_ticket_free
#define sp_ticket_turn faulty_ticket_turn
#define sp_ticket_close faulty_ticket_close
#define calloc faulty_calloc
#define malloc faulty_malloc
#define pthread_create faulty_thread
#define sp_poller_open faulty_poller_open
#define sp_poller_add faulty_poller_add
#define sp_fork_mark_new faulty_mark
#define sp_birth_begin faulty_birth
sp_pool *sp_pool_open(sp_launcher *launcher, const sp_pool_options *options, sp_error *error);
int sp_pool_close(sp_pool *pool, int64_t timeout_ns);
void sp_pool_free(sp_pool *pool);
int64_t sp_warm(sp_pool *pool, uint32_t target, sp_error *error);
int64_t sp_pool_owner_pid(sp_pool *pool);
void *sp_janitor_main(void *pool);
void sp_waiters_grant(sp_pool *pool);
bool sp_waiters_hand_over(sp_pool *pool, uint32_t index);
bool sp_waiters_hand_failure(sp_pool *pool);
void sp_waiters_close(sp_pool *pool);
int sp_ticket_open(sp_pool *pool, int64_t timeout_ns, sp_ticket **out);
int64_t sp_ticket_poll(sp_ticket *ticket, sp_error *error);
void sp_ticket_free(sp_ticket *ticket);
void sp_ticket_close(sp_ticket **ticket);
/* NOLINTBEGIN(bugprone-suspicious-include): renamed symbols, see above */
#define begin_birth begin_birth_of_janitor
#define earlier earlier_of_births
#include "host/pool/births.c"
#undef begin_birth
#undef earlier
#include "host/pool/close.c"
#include "host/pool/janitor.c"
#include "host/pool/pool.c"
#include "host/pool/ticket.c"
#include "host/pool/waiters.c"
#include "host/pool/warm.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef calloc
#undef malloc

static struct fake_pool f;

static void open_faulty(uint32_t min_size, uint32_t max_size, uint32_t max_in_use) {
    const sp_pool_options options = pool_options(min_size, max_size, max_in_use);
    sp_error error;

    f.fds_before = count_fds();
    f.launcher = sp_launcher_fake();
    f.pool = sp_pool_open(f.launcher, &options, &error);
    if (f.pool == NULL) {
        abort();
    }
}

static void shut_faulty(void) {
    sp_pool_free(f.pool);
    CHECK(sp_fake_live(f.launcher) == 0);
    sp_launcher_unref(f.launcher);
    CHECK(count_fds() == f.fds_before);
}

static void check_balance(void) {
    const sp_stats s = stats_of(f.pool);

    CHECK(s.created_count - s.evict_count == (uint64_t)s.idle_count + s.in_use_count);
}

static int64_t acquire_faulty(sp_error *error) {
    sp_ticket *ticket = NULL;
    int64_t rc = SP_AGAIN;

    if (sp_ticket_open(f.pool, -1, &ticket) != SP_OK) {
        abort();
    }
    while (rc == SP_AGAIN) {
        rc = sp_ticket_poll(ticket, error);
    }
    sp_ticket_free(ticket);
    return rc;
}

/* ---- open ---- */

static void nothing_is_left_of_a_pool_that_does_not_open(atomic_uint *which, unsigned n, int code, int err) {
    const sp_pool_options options = pool_options(2, 4, 0);
    const unsigned fds_before = count_fds();
    sp_launcher *launcher = sp_launcher_fake();
    sp_error error = {0};

    atomic_store(which, n);
    CHECK(sp_pool_open(launcher, &options, &error) == NULL);
    CHECK(error.code == code && error.err == err);
    CHECK(atomic_load(which) == 0);
    CHECK(sp_fake_live(launcher) == 0);
    sp_launcher_unref(launcher);
    CHECK(count_fds() == fds_before);
}

static void each_step_of_opening_may_fail(void) {
    for (unsigned n = 1; n <= 3; n++) { /* the pool, its slots, the links */
        nothing_is_left_of_a_pool_that_does_not_open(&refuse_calloc, n, SP_E_NOMEM, ENOMEM);
    }
    nothing_is_left_of_a_pool_that_does_not_open(&refuse_malloc, 1, SP_E_NOMEM, ENOMEM); /* the health command */
    nothing_is_left_of_a_pool_that_does_not_open(&refuse_mark, 1, SP_E_NOMEM, ENOMEM);
    nothing_is_left_of_a_pool_that_does_not_open(&refuse_poller_open, 1, SP_E_CREATE, EMFILE);
    nothing_is_left_of_a_pool_that_does_not_open(&refuse_births, 1, SP_E_CREATE, EMFILE);
    nothing_is_left_of_a_pool_that_does_not_open(&refuse_thread, 1, SP_E_CREATE, EAGAIN);
}

static void invalid_options_are_refused(void) {
    sp_launcher *launcher = sp_launcher_fake();
    sp_error error;

    for (unsigned i = 0; i < 6; i++) {
        sp_pool_options o = pool_options(1, 2, 0);

        o.size -= i == 0;
        o.min_size = i == 1 ? 3 : o.min_size;
        o.max_size = i == 2 ? SP_COUNT_MAX + 1 : o.max_size;
        o.max_in_use = i == 3 ? SP_COUNT_MAX + 1 : o.max_in_use;
        o.refill_concurrency = i == 4 ? SP_BIRTHS_MAX + 1 : 0;
        o.health_timeout_ns = i == 5 ? -1 : 0;
        CHECK(sp_pool_open(launcher, &o, &error) == NULL && error.code == SP_E_INVAL);
    }
    sp_launcher_unref(launcher);
}

/* ---- births that cannot begin ---- */

static void warm_returns_the_error(void) {
    sp_error error = {0};

    open_faulty(0, 8, 0);
    atomic_store(&refuse_births, 1);
    CHECK(sp_warm(f.pool, 4, &error) == SP_E_CREATE && error.stage == SP_STAGE_HOST_SOCKET && error.err == EMFILE);
    CHECK(stats_of(f.pool).starting_count == 0 && stats_of(f.pool).create_error_count == 1);
    CHECK(sp_warm(f.pool, 4, &error) == 4);
    check_balance();
    shut_faulty();
}

static void acquire_returns_the_error(void) {
    sp_error error = {0};
    int64_t handle = 0;

    open_faulty(0, 1, 1);
    atomic_store(&refuse_births, 1);
    CHECK(acquire_faulty(&error) == SP_E_CREATE && error.err == EMFILE);
    CHECK(stats_of(f.pool).in_use_count == 0 && stats_of(f.pool).miss_count == 1);
    handle = acquire_faulty(&error); /* the failed acquire has given its place back */
    CHECK(handle > 0 && sp_release(f.pool, handle) == SP_OK);
    check_balance();
    shut_faulty();
}

/* After each failure the next ticket of the queue tries to create a sandbox. */
static void after_a_failure_the_next_ticket_tries(void) {
    sp_ticket *tickets[3];
    sp_error error = {0};

    open_faulty(0, 1, 1);
    for (unsigned i = 0; i < 3; i++) {
        if (sp_ticket_open(f.pool, -1, &tickets[i]) != SP_OK) {
            abort();
        }
    }
    CHECK(stats_of(f.pool).waiting_count == 2);
    atomic_store(&refuse_births, 2);
    CHECK(sp_ticket_poll(tickets[0], &error) == SP_E_CREATE && stats_of(f.pool).waiting_count == 1);
    CHECK(sp_ticket_poll(tickets[1], &error) == SP_E_CREATE && stats_of(f.pool).waiting_count == 0);
    int64_t handle = SP_AGAIN;
    while (handle == SP_AGAIN) {
        handle = sp_ticket_poll(tickets[2], &error);
    }
    CHECK(handle > 0 && sp_release(f.pool, handle) == SP_OK);
    for (unsigned i = 0; i < 3; i++) {
        sp_ticket_free(tickets[i]);
    }
    CHECK(stats_of(f.pool).create_error_count == 2 && stats_of(f.pool).miss_count == 3);
    check_balance();
    shut_faulty();
}

static void no_memory_for_a_ticket(void) {
    sp_ticket *ticket = NULL;

    open_faulty(0, 1, 0);
    atomic_store(&refuse_calloc, 1);
    CHECK(sp_ticket_open(f.pool, -1, &ticket) == SP_E_NOMEM && ticket == NULL);
    CHECK(stats_of(f.pool).waiting_count == 0);
    shut_faulty();
}

static void a_refill_that_cannot_begin_is_tried_again(void) {
    open_faulty(1, 1, 0);
    atomic_store(&refuse_births, 2);
    CHECK(sp_fake_kill(f.launcher, 1) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).create_error_count == 2 && stats_of(f.pool).idle_count == 1, 5000));
    CHECK(stats_of(f.pool).starting_count == 0);
    check_balance();
    shut_faulty();
}

static void a_recycle_that_cannot_begin_is_evicted(void) {
    sp_error error;
    int64_t handle = 0;

    open_faulty(0, 1, 0);
    handle = acquire_faulty(&error);
    CHECK(use(f.pool, handle) == 0);
    atomic_store(&refuse_births, 1);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).evict_count == 1 && stats_of(f.pool).recycling_count == 0, 5000));
    CHECK(stats_of(f.pool).idle_count == 0 && REACHED(sp_settle(f.pool, 50 * MS) == SP_OK, 5000));
    check_balance();
    shut_faulty();
}

/* ---- the poller ---- */

/* The first descriptor that the janitor adds to the poller is the birth's socket: without it the answer would not be
 * received. */
static void a_birth_that_cannot_be_polled_fails(void) {
    sp_error error;
    int64_t handle = 0;

    open_faulty(0, 1, 0);
    handle = acquire_faulty(&error);
    CHECK(use(f.pool, handle) == 0);
    atomic_store(&refuse_poller_add, 1);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).evict_count == 1, 5000));
    CHECK(stats_of(f.pool).create_error_count == 1 && stats_of(f.pool).recycling_count == 0);
    CHECK(REACHED(sp_fake_live(f.launcher) == 0, 5000));
    check_balance();
    shut_faulty();
}

/* The janitor does not notice the death of this lease's sandbox. Its first command gets another sandbox all the same.
 */
static void a_lease_that_cannot_be_polled_is_replaced_when_used(void) {
    sp_error error;
    int64_t handle = 0;

    open_faulty(0, 1, 0);
    atomic_store(&refuse_poller_add, 1);
    handle = acquire_faulty(&error);
    CHECK(handle > 0 && atomic_load(&refuse_poller_add) == 0);
    CHECK(sp_fake_kill(f.launcher, sp_lease_pid(f.pool, handle)) == SP_OK);
    CHECK(use(f.pool, handle) == 0 && sp_lease_pid(f.pool, handle) == 2);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    check_balance();
    shut_faulty();
}

/* ---- checks ---- */

/* The health command is longer than a request may be, so that the check cannot be sent. */
static void a_check_that_cannot_begin_evicts(void) {
    sp_pool_options options = pool_options(0, 1, 0);
    const size_t len = SP_PAYLOAD_MAX + 1;
    char *words = malloc(len);
    sp_error error;

    if (words == NULL) {
        abort();
    }
    memset(words, 'x', len);
    words[len - 1] = '\0';
    options.health_check_interval = 1;
    options.health_argv = words;
    options.health_argv_len = len;
    f.fds_before = count_fds();
    f.launcher = sp_launcher_fake();
    f.pool = sp_pool_open(f.launcher, &options, &error);
    CHECK(f.pool != NULL);
    const int64_t handle = acquire_faulty(&error);
    CHECK(use(f.pool, handle) == 0 && sp_release(f.pool, handle) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).evictions[SP_EVICT_HEALTH_CHECK] == 1, 5000));
    CHECK(stats_of(f.pool).health_check_count == 1 && stats_of(f.pool).create_error_count == 0);
    CHECK(REACHED(sp_fake_live(f.launcher) == 0, 5000));
    check_balance();
    shut_faulty();
    free(words);
}

int main(void) {
    check_deadline(90);
    RUN(each_step_of_opening_may_fail);
    RUN(invalid_options_are_refused);
    RUN(warm_returns_the_error);
    RUN(acquire_returns_the_error);
    RUN(after_a_failure_the_next_ticket_tries);
    RUN(no_memory_for_a_ticket);
    RUN(a_refill_that_cannot_begin_is_tried_again);
    RUN(a_recycle_that_cannot_begin_is_evicted);
    RUN(a_birth_that_cannot_be_polled_fails);
    RUN(a_lease_that_cannot_be_polled_is_replaced_when_used);
    RUN(a_check_that_cannot_begin_evicts);
    return check_report();
}
