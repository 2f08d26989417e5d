/* Which thread kills a sandbox, and that it holds no lock meanwhile. */
#include <pthread.h>
#include <stdatomic.h>

#include "fake_pool.h"
#include "host/execute/job.h"
#include "host/pool/births.h"

/* ---- a launcher that records which thread kills ---- */

static struct {
    const struct sp_launch_ops *ops; /* the real ones */
    sp_pool *pool;
    pthread_t caller;
    atomic_int kills, by_caller, locked;
    atomic_bool held; /* the first kill lasts while this is set */
} seen;

/* Another thread may hold the lock for a moment. If this thread holds it, trylock never succeeds. */
static bool is_locked_by_me(void) {
    int rc = pthread_mutex_trylock(&seen.pool->lock);

    for (int i = 0; i < 2000 && rc != 0; i++) {
        sleep_ns(MS);
        rc = pthread_mutex_trylock(&seen.pool->lock);
    }
    if (rc == 0) {
        pthread_mutex_unlock(&seen.pool->lock);
    }
    return rc != 0;
}

static void kill_and_record(struct sp_session *session) {
    atomic_fetch_add(&seen.locked, is_locked_by_me());
    atomic_fetch_add(&seen.by_caller, pthread_equal(pthread_self(), seen.caller) != 0);
    seen.ops->kill_sandbox(session);
    bool first = atomic_fetch_add(&seen.kills, 1) == 0;
    while (first && atomic_load(&seen.held)) {
        sleep_ns(MS);
    }
}

/* An empty pool over that launcher. The janitor reads the table of ops, so it is replaced before the pool exists. */
static void open_watched(struct fake_pool *f, uint32_t max_size) {
    static struct sp_launch_ops ops;
    const sp_pool_options options = pool_options(0, max_size, 0);
    sp_error error;

    f->fds_before = count_fds();
    f->launcher = sp_launcher_fake();
    seen.ops = f->launcher->ops;
    ops = *seen.ops;
    ops.kill_sandbox = kill_and_record;
    f->launcher->ops = &ops;
    f->pool = sp_pool_open(f->launcher, &options, &error);
    seen.pool = f->pool;
    seen.caller = pthread_self();
    atomic_store(&seen.kills, 0);
    atomic_store(&seen.by_caller, 0);
    atomic_store(&seen.locked, 0);
}

static sp_job *start_endless(struct fake_pool *f, int64_t handle) {
    const sp_exec_request request = request_for(INT64_MAX);
    sp_job *job = NULL;
    sp_error error;

    sp_fake_mute(f->launcher, 1);
    CHECK(sp_job_start(f->pool, handle, &request, &job, &error) == SP_OK);
    return job;
}

/* sp_release() keeps the GIL and kills nothing itself, even if the sandbox still runs a command. */
static void release_leaves_the_kill_to_the_janitor(void) {
    struct fake_pool f;

    open_watched(&f, 1);
    for (int turn = 0; turn < 2; turn++) {
        int64_t handle = acquire(f.pool, INT64_MAX);
        sp_exec_result result;
        sp_error error;
        sp_job *job = turn == 0 ? NULL : start_endless(&f, handle);

        CHECK(turn != 0 || use(f.pool, handle) == 0);
        CHECK(sp_release(f.pool, handle) == SP_OK);
        CHECK(REACHED(atomic_load(&seen.kills) == turn + 1, 5000));
        CHECK(atomic_load(&seen.by_caller) == 0);
        if (job != NULL) {
            CHECK(poll_to_end(job) == SP_OK && sp_job_finish(job, &result, &error) == SP_E_RELEASED);
            sp_job_free(job);
        }
    }
    CHECK(atomic_load(&seen.locked) == 0);
    shut_pool(&f);
}

static void close_kills_under_no_lock(void) {
    struct fake_pool f;
    sp_exec_result result;
    sp_error error;

    open_watched(&f, 2);
    int64_t busy = acquire(f.pool, INT64_MAX);
    int64_t used = acquire(f.pool, INT64_MAX);
    CHECK(use(f.pool, used) == 0);
    sp_job *job = start_endless(&f, busy);

    CHECK(sp_pool_close(f.pool, 5000 * MS) == SP_OK);
    CHECK(atomic_load(&seen.kills) == 2);
    CHECK(poll_to_end(job) == SP_OK && sp_job_finish(job, &result, &error) == SP_E_CLOSED);
    sp_job_free(job);
    CHECK(atomic_load(&seen.locked) == 0);
    shut_pool(&f);
}

static void *end_the_hold(void *arg) {
    sleep_ns(50 * MS);
    atomic_store(&seen.held, false);
    return arg;
}

static int end_of(sp_job *job) {
    sp_exec_result result;
    sp_error error;
    int rc = poll_to_end(job);

    rc = rc != SP_OK ? rc : sp_job_finish(job, &result, &error);
    sp_job_free(job);
    return rc;
}

/* A job that ends before the janitor gets to it removes itself from the list. A job whose sandbox the janitor is just
 * killing waits for the end of the kill. */
static void jobs_end_before_their_kill(void) {
    struct fake_pool f;
    pthread_t helper;

    open_watched(&f, 2);
    int64_t first = acquire(f.pool, INT64_MAX);
    int64_t second = acquire(f.pool, INT64_MAX);
    int64_t pid = sp_lease_pid(f.pool, second);
    sp_job *jobs[2] = {start_endless(&f, first), start_endless(&f, second)};

    atomic_store(&seen.held, true);
    CHECK(sp_release(f.pool, first) == SP_OK);
    CHECK(REACHED(atomic_load(&seen.kills) == 1, 5000)); /* the janitor is in the kill, and stays there */
    CHECK(sp_release(f.pool, second) == SP_OK);
    CHECK(sp_fake_kill(f.launcher, pid) == SP_OK);
    CHECK(end_of(jobs[1]) == SP_E_RELEASED);
    CHECK(pthread_create(&helper, NULL, end_the_hold, NULL) == 0);
    CHECK(end_of(jobs[0]) == SP_E_RELEASED);
    CHECK(!atomic_load(&seen.held));
    pthread_join(helper, NULL);
    shut_pool(&f);
}

/* A close without time leaves the end to whoever frees the pool, and who waits for the janitor there. */
static void a_free_waits_for_the_janitor(void) {
    struct fake_pool f;
    pthread_t helper;

    open_watched(&f, 1);
    int64_t handle = acquire(f.pool, INT64_MAX);
    sp_job *job = start_endless(&f, handle);

    atomic_store(&seen.held, true);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(REACHED(atomic_load(&seen.kills) == 1, 5000)); /* the janitor is in the kill, and stays there */
    CHECK(sp_pool_close(f.pool, 0) == SP_OK && !f.pool->wound_up);
    CHECK(pthread_create(&helper, NULL, end_the_hold, NULL) == 0);
    CHECK(end_of(job) == SP_E_RELEASED);
    shut_pool(&f);
    pthread_join(helper, NULL);
}

/* The list has the later one first. */
static void a_job_withdraws_its_claim_from_anywhere_in_the_list(void) {
    sp_pool *pool = calloc(1, sizeof *pool);
    struct sp_claim claims[2] = {{0}, {0}};
    if (pool == NULL) {
        abort();
    }
    sp_claim_orphan(pool, &claims[0], SP_E_RELEASED);
    sp_claim_orphan(pool, &claims[1], SP_E_CLOSED);
    sp_claim_withdraw(pool, &claims[0]);
    CHECK(pool->orphans == &claims[1] && claims[1].next == NULL && !claims[0].queued_for_kill);
    sp_claim_withdraw(pool, &claims[0]); /* not in the list any more */
    sp_claim_withdraw(pool, &claims[1]);
    CHECK(pool->orphans == NULL && atomic_load(&claims[1].orphan) == SP_E_CLOSED);
    free(pool);
}

/* Another part of the process may have put its own descriptors under the number of the poller. */
static void a_key_that_is_no_births_is_passed_over(void) {
    struct sp_births births = {.n = 1};
    births.tasks[0].phase = births.tasks[1].phase = SP_BIRTH_STARTED; /* would be looked at */
    sp_births_attend(&births, SP_BIRTH_KEY - 1);
    sp_births_attend(&births, SP_BIRTH_KEY + 1);
    CHECK(births.tasks[0].phase == SP_BIRTH_STARTED && births.tasks[1].phase == SP_BIRTH_STARTED);
}

static void a_closed_pool_renews_nothing(void) {
    struct fake_pool f;
    sp_renewal renewal = {0};
    sp_error error;

    open_pool(&f, 0, 1, 0);
    CHECK(sp_pool_close(f.pool, 0) == SP_OK && sp_renew(f.pool, &renewal, 0, &error) == SP_E_CLOSED);
    shut_pool(&f);
}

int main(void) {
    RUN(release_leaves_the_kill_to_the_janitor);
    RUN(close_kills_under_no_lock);
    RUN(jobs_end_before_their_kill);
    RUN(a_free_waits_for_the_janitor);
    RUN(a_job_withdraws_its_claim_from_anywhere_in_the_list);
    RUN(a_key_that_is_no_births_is_passed_over);
    RUN(a_closed_pool_renews_nothing);
    return check_report();
}
