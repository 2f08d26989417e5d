/* Tickets of an event loop: turns that never wait, and the descriptors that the loop polls meanwhile. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "fake_pool.h"
#include "host/pool/waiters.h"

struct lease {
    sp_pool *pool;
    int64_t handle;
};

static bool is_readable(int fd) { return sp_wait_fd(fd, POLLIN, 0) == 0; }

static int64_t turn_ticket_to_end(sp_ticket *ticket) {
    sp_error error;
    sp_due look;
    int64_t rc = sp_ticket_turn(ticket, &error, &look);
    while (rc == SP_AGAIN) {
        (void)sp_wait_fd(look.fd, POLLIN, sp_now() + look.after_ns);
        rc = sp_ticket_turn(ticket, &error, &look);
    }
    return rc;
}

static void *release_later(void *arg) {
    const struct lease *lease = arg;
    sleep_ns(20 * MS);
    CHECK(sp_release(lease->pool, lease->handle) == SP_OK);
    return NULL;
}

static void a_release_rings(void) {
    struct fake_pool f;
    sp_error error;
    sp_due look;
    pthread_t thread;

    open_pool(&f, 1, 1, 1);
    int64_t handle = acquire(f.pool, -1);
    sp_ticket *ticket = open_ticket(f.pool, -1);
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_AGAIN && look.fd >= 0 && !is_readable(look.fd));
    CHECK(pthread_create(&thread, NULL, release_later, &(struct lease){f.pool, handle}) == 0);
    CHECK(sp_wait_fd(look.fd, POLLIN, sp_now() + 2000 * MS) == 0);
    handle = turn_ticket_to_end(ticket);
    CHECK(handle > 0);
    sp_ticket_free(ticket);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    shut_pool(&f);
}

/* The lease was used, so that the ticket is rung twice: for the recycling entry, and when that is ready. */
static void a_takeover_rings_twice(void) {
    struct fake_pool f;
    sp_error error;
    sp_due look;

    open_pool(&f, 0, 1, 1);
    int64_t handle = acquire(f.pool, -1);
    CHECK(use(f.pool, handle) == 0);
    sp_ticket *ticket = open_ticket(f.pool, -1);
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_AGAIN);
    sp_fake_hold(f.launcher, 1);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(is_readable(look.fd));
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_AGAIN && !is_readable(look.fd));
    CHECK(ticket->state == SP_TICKET_TAKEOVER);
    sp_fake_hold(f.launcher, 0);
    CHECK(sp_wait_fd(look.fd, POLLIN, sp_now() + 5000 * MS) == 0);
    handle = turn_ticket_to_end(ticket);
    CHECK(handle > 0);
    sp_ticket_free(ticket);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    shut_pool(&f);
}

static void a_ticket_creates_in_turns(void) {
    struct fake_pool f;
    sp_error error;
    sp_due look;

    open_pool(&f, 0, 1, 0);
    sp_fake_hold(f.launcher, 1);
    sp_ticket *ticket = open_ticket(f.pool, -1);
    const int64_t before = sp_now();
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_AGAIN && look.fd >= 0 && sp_now() - before < 500 * MS);
    CHECK(!is_readable(look.fd));
    sp_fake_hold(f.launcher, 0);
    CHECK(sp_wait_fd(look.fd, POLLIN, sp_now() + 5000 * MS) == 0);
    int64_t handle = turn_ticket_to_end(ticket);
    CHECK(handle > 0);
    sp_ticket_free(ticket);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    sp_fake_fail(f.launcher, 0, 1, SP_STAGE_CLONE, EAGAIN);
    handle = acquire(f.pool, -1);
    ticket = open_ticket(f.pool, -1);
    CHECK(turn_ticket_to_end(ticket) == SP_E_CREATE);
    sp_ticket_free(ticket);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    shut_pool(&f);
}

static void a_ticket_times_out_and_is_freed_in_each_state(void) {
    struct fake_pool f;
    sp_error error;
    sp_due look;

    open_pool(&f, 1, 1, 1);
    int64_t handle = acquire(f.pool, -1);
    sp_ticket *ticket = open_ticket(f.pool, 20 * MS);
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_AGAIN && look.after_ns <= 20 * MS);
    CHECK(turn_ticket_to_end(ticket) == SP_E_TIMEOUT);
    sp_ticket_free(ticket);
    ticket = open_ticket(f.pool, 0);
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_E_TIMEOUT);
    sp_ticket_free(ticket);
    ticket = open_ticket(f.pool, -1);
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_AGAIN);
    CHECK(sp_release(f.pool, handle) == SP_OK); /* the ticket has the lease, and nobody asks for it */
    sp_ticket_free(ticket);
    CHECK(stats_of(f.pool).in_use_count == 0);
    handle = acquire(f.pool, 0);
    CHECK(handle > 0);
    ticket = open_ticket(f.pool, -1);
    CHECK(sp_ticket_turn(ticket, &error, &look) == SP_AGAIN);
    CHECK(sp_pool_close(f.pool, 1000 * MS) == SP_OK);
    CHECK(is_readable(look.fd) && sp_ticket_turn(ticket, &error, &look) == SP_E_CLOSED);
    sp_ticket_free(ticket);
    shut_pool(&f);
}

static void a_ticket_that_waits_needs_a_descriptor(void) {
    struct fake_pool f;
    sp_error error;
    sp_due due;
    struct rlimit before;

    open_pool(&f, 1, 1, 1);
    int64_t handle = acquire(f.pool, -1);
    sp_ticket *ticket = open_ticket(f.pool, -1);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_max = before.rlim_max}) == 0);
    CHECK(sp_ticket_turn(ticket, &error, &due) == SP_E_CREATE && error.err == EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    sp_ticket_free(ticket);
    CHECK(stats_of(f.pool).waiting_count == 0);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    shut_pool(&f);
}

int main(void) {
    check_deadline(60);
    RUN(a_release_rings);
    RUN(a_takeover_rings_twice);
    RUN(a_ticket_creates_in_turns);
    RUN(a_ticket_times_out_and_is_freed_in_each_state);
    RUN(a_ticket_that_waits_needs_a_descriptor);
    return check_report();
}
