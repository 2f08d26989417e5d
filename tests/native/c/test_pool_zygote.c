/*
 * A pool over real sandboxes, used by threads that share only the pool, as in a host without a GIL. test_pool.c does
 * the same with the fake launcher; this program runs the launcher of Linux, its sessions and its jobs.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fake_pool.h"
#include "host/linux/late.h"
#include "host/sandbox/launch.h"
#include "lacks.h"

#ifndef ZYGOTE /* c_build.py compiles one for these tests */
#define ZYGOTE "pysandpool/_bin/sandpool-zygote"
#endif
#define THREADS 4

static sp_launcher *open_launcher(void) {
    const sp_sandbox_options options = {.size = sizeof options,
                                        .network = SP_NET_NONE,
                                        .zygote_path = ZYGOTE,
                                        .scratch_bytes = 16 << 20,
                                        .scratch_inodes = 1024,
                                        .allow_fork = 1,
                                        .landlock_abi_max = UINT32_MAX};
    sp_error error = {0};
    sp_launcher *launcher = sp_launcher_open(&options, &error);

    if (launcher == NULL) {
        (void)fprintf(stderr, "%s: errno %d: %s\n", sp_stage_name(error.stage), error.err, error.detail);
        abort();
    }
    return launcher;
}

struct crowd {
    sp_pool *pool;
    unsigned rounds;
    _Atomic unsigned ran, lost, failed;
    _Atomic bool over;
};

/* Runs "echo" with a word that belongs to this thread. Sets *own if exactly that word was printed. */
static int echo(sp_pool *pool, int64_t handle, uint32_t word, bool *own) {
    char argv[32] = "/bin/echo";
    char expected[16];
    sp_exec_request request = request_for(20000 * MS);
    sp_exec_result result = {0};
    sp_job *job = NULL;
    sp_error error;
    int len = snprintf(expected, sizeof expected, "%u\n", word);

    memcpy(argv + sizeof "/bin/echo", expected, (size_t)len - 1);
    request.argc = 2;
    request.argv = argv;
    request.argv_len = sizeof "/bin/echo" + (size_t)len;
    int rc = sp_job_start(pool, handle, &request, &job, &error);
    rc = rc != SP_OK ? rc : poll_to_end(job);
    rc = rc != SP_OK ? rc : sp_job_finish(job, &result, &error);
    *own = rc == SP_OK && result.exit_code == 0 && result.out_len == (size_t)len &&
           memcmp(result.out, expected, (size_t)len) == 0;
    sp_job_free(job);
    return rc;
}

static void *live(void *argument) {
    struct crowd *crowd = argument;
    uint64_t state = (uint64_t)(uintptr_t)&state | 1;

    for (unsigned i = 0; i < crowd->rounds; i++) {
        int64_t handle = acquire(crowd->pool, 30000 * MS);
        bool own = false;
        if (handle <= 0) {
            atomic_fetch_add(&crowd->failed, 1);
            continue;
        }
        if (draw(&state) % 4 != 0) {
            int rc = echo(crowd->pool, handle, draw(&state), &own);
            atomic_fetch_add(rc == SP_E_LOST ? &crowd->lost : own ? &crowd->ran : &crowd->failed, 1);
        }
        (void)sp_release(crowd->pool, handle);
    }
    return NULL;
}

/* Another thread calls the functions that only read. */
static void *look_on(void *argument) {
    struct crowd *crowd = argument;
    sp_error error;

    while (!atomic_load(&crowd->over)) {
        sp_stats stats;
        CHECK(sp_snapshot(crowd->pool, &stats) == SP_OK && stats.in_use_count <= THREADS);
        CHECK(sp_idle_len(crowd->pool) >= 0 && sp_warm(crowd->pool, 1, &error) >= SP_E_CREATE);
        sleep_ns(5 * MS);
    }
    return NULL;
}

/* A reaper that has not ended when its zygote is freed keeps its descriptor until it has: see late.h. */
static bool is_as_before(unsigned fds) {
    sp_late_reap();
    return count_fds() == fds;
}

static void run_crowd(unsigned rounds, bool kill_zygote) {
    const unsigned fds_before = count_fds();
    sp_pool_options options = pool_options(2, 3, THREADS - 1);
    pthread_t threads[THREADS + 1];
    sp_error error;
    sp_launcher *launcher = open_launcher();
    struct crowd crowd = {.pool = sp_pool_open(launcher, &options, &error), .rounds = rounds};

    if (crowd.pool == NULL) {
        abort();
    }
    for (unsigned i = 0; i < THREADS + 1; i++) {
        CHECK(pthread_create(&threads[i], NULL, i < THREADS ? live : look_on, &crowd) == 0);
    }
    for (unsigned i = 0; kill_zygote && i < 3; i++) {
        sleep_ns(100 * MS);
        int64_t zygote = sp_pool_zygote_pid(crowd.pool);
        CHECK(zygote <= 0 || kill((pid_t)zygote, SIGKILL) == 0 || errno == ESRCH);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    atomic_store(&crowd.over, true);
    (void)pthread_join(threads[THREADS], NULL);
    CHECK(crowd.ran != 0 && (kill_zygote || (crowd.lost == 0 && crowd.failed == 0)));
    CHECK(sp_pool_close(crowd.pool, 10000 * MS) == SP_OK);
    sp_pool_free(crowd.pool);
    sp_launcher_unref(launcher);
    CHECK(REACHED(is_as_before(fds_before), 20000));
}

static void threads_get_their_own_output(void) { run_crowd(30, false); }

static void threads_go_on_when_the_zygote_is_killed(void) { run_crowd(30, true); }

/* One thread closes the pool while the others are in any call. */
static void close_during_use(void) {
    for (unsigned i = 0; i < 3; i++) {
        const unsigned fds_before = count_fds();
        sp_pool_options options = pool_options(1, 3, 0);
        pthread_t threads[THREADS];
        sp_error error;
        sp_launcher *launcher = open_launcher();
        struct crowd crowd = {.pool = sp_pool_open(launcher, &options, &error), .rounds = 200};

        if (crowd.pool == NULL) {
            abort();
        }
        for (unsigned t = 0; t < THREADS; t++) {
            CHECK(pthread_create(&threads[t], NULL, live, &crowd) == 0);
        }
        sleep_ns((int64_t)(10 + i * 20) * MS);
        CHECK(sp_pool_close(crowd.pool, 10000 * MS) == SP_OK);
        for (unsigned t = 0; t < THREADS; t++) {
            (void)pthread_join(threads[t], NULL);
        }
        sp_pool_free(crowd.pool);
        sp_launcher_unref(launcher);
        CHECK(REACHED(is_as_before(fds_before), 20000));
    }
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(UNDER_TSAN ? 180 : 90);
    RUN_WITHOUT(lack, threads_get_their_own_output);
    RUN_WITHOUT(lack, threads_go_on_when_the_zygote_is_killed);
    RUN_WITHOUT(lack, close_during_use);
    return check_report();
}
