/* A pool over the fake launcher. Its close checks that no sandbox and no descriptor is left. */
#ifndef SANDPOOL_TESTS_FAKE_POOL_H
#define SANDPOOL_TESTS_FAKE_POOL_H

#include "check.h"
#include "common/clock.h"
#include "host/pool/state.h"
#include "machine.h"

struct fake_pool {
    sp_launcher *launcher;
    sp_pool *pool;
    unsigned fds_before;
};

static inline sp_pool_options pool_options(uint32_t min_size, uint32_t max_size, uint32_t max_in_use) {
    return (sp_pool_options){.size = sizeof(sp_pool_options),
                             .min_size = min_size,
                             .max_size = max_size,
                             .max_in_use = max_in_use,
                             .health_argc = 1,
                             .health_argv = "/bin/true",
                             .health_argv_len = sizeof "/bin/true"};
}

static inline void open_pool_with(struct fake_pool *f, const sp_pool_options *options) {
    sp_error error;

    f->fds_before = count_fds();
    f->launcher = sp_launcher_fake();
    if (f->launcher == NULL) {
        abort();
    }
    f->pool = sp_pool_open(f->launcher, options, &error);
    if (f->pool == NULL) {
        abort();
    }
}

static inline void open_pool(struct fake_pool *f, uint32_t min_size, uint32_t max_size, uint32_t max_in_use) {
    const sp_pool_options options = pool_options(min_size, max_size, max_in_use);

    open_pool_with(f, &options);
}

/* One idle entry and min_size 0, so that the janitor refills nothing during the test. */
static inline void open_warm_pool(struct fake_pool *f, uint32_t max_size, uint32_t max_in_use) {
    sp_error error;

    open_pool(f, 0, max_size, max_in_use);
    CHECK(sp_warm(f->pool, 1, &error) == 1);
}

static inline void shut_pool(struct fake_pool *f) {
    sp_pool_free(f->pool);
    CHECK(sp_fake_live(f->launcher) == 0);
    sp_launcher_unref(f->launcher);
    CHECK(count_fds() == f->fds_before);
}

static inline sp_stats stats_of(sp_pool *pool) {
    sp_stats stats = {0};

    CHECK(sp_snapshot(pool, &stats) == SP_OK);
    return stats;
}

/* Waits until another thread has made `what` true. False after `ms`. */
#define REACHED(what, ms)                             \
    __extension__({                                   \
        const int64_t give_up = sp_now() + (ms) * MS; \
        bool reached = (what);                        \
        while (!reached && sp_now() < give_up) {      \
            sleep_ns(MS / 2);                         \
            reached = (what);                         \
        }                                             \
        reached;                                      \
    })

static inline int64_t poll_ticket(sp_ticket *ticket) {
    sp_error error;
    int64_t rc = SP_AGAIN;

    while (rc == SP_AGAIN) {
        rc = sp_ticket_poll(ticket, &error);
    }
    return rc;
}

static inline sp_ticket *open_ticket(sp_pool *pool, int64_t timeout_ns) {
    sp_ticket *ticket = NULL;

    if (sp_ticket_open(pool, timeout_ns, &ticket) != SP_OK) {
        abort();
    }
    return ticket;
}

/* Acquires as the Python layer does: on the fast path, and with a ticket if that returns SP_SLOW. */
static inline int64_t acquire(sp_pool *pool, int64_t timeout_ns) {
    int64_t rc = sp_acquire(pool);

    if (rc == SP_SLOW) {
        sp_ticket *ticket = open_ticket(pool, timeout_ns);

        rc = poll_ticket(ticket);
        sp_ticket_free(ticket);
    }
    return rc;
}

static inline sp_exec_request request_for(int64_t timeout_ns) {
    return (sp_exec_request){.size = sizeof(sp_exec_request),
                             .argc = 1,
                             .argv = "/bin/true",
                             .argv_len = sizeof "/bin/true",
                             .timeout_ns = timeout_ns,
                             .max_output_bytes = 4096};
}

/* Polls as Python does: a poll that would wait longer returns SP_AGAIN in between. */
static inline int poll_to_end(sp_job *job) {
    int rc = SP_AGAIN;
    while (rc == SP_AGAIN) {
        rc = sp_job_poll(job);
    }
    return rc;
}

/* Runs one command. Returns its exit code, or SP_E_*. */
static inline int use(sp_pool *pool, int64_t handle) {
    const sp_exec_request request = request_for(10000 * MS);
    sp_exec_result result = {0};
    sp_job *job = NULL;
    sp_error error;
    int rc = sp_job_start(pool, handle, &request, &job, &error);

    rc = rc != SP_OK ? rc : poll_to_end(job);
    rc = rc != SP_OK ? rc : sp_job_finish(job, &result, &error);
    sp_job_free(job);
    return rc == SP_OK ? result.exit_code : rc;
}

static inline uint32_t slot_of(int64_t handle) { return (uint32_t)handle & SP_COUNT_MAX; }

#endif
