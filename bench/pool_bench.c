/*
 * acquire + release of an idle entry: no Python, no kernel behind the pool (the fake launcher), one thread.
 * pool_bench IDLE BATCHES BATCH prints nanoseconds per pair, one line per batch. Exits 1 when a pair goes wrong.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sandpool.h"

static int64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static sp_pool *open_idle(sp_launcher *launcher, uint32_t idle) {
    sp_error error = {0};
    /* Room for the lease that is out: else the janitor would fill its place, and its return would evict one. */
    const sp_pool_options options = {.size = sizeof options, .min_size = idle, .max_size = idle + 8};
    sp_pool *pool = sp_pool_open(launcher, &options, &error);
    if (pool == NULL) {
        (void)fprintf(stderr, "pool: %d at %s: %s\n", error.err, sp_stage_name(error.stage), error.detail);
    }
    return pool;
}

/* As the Python layer does it: the fast path, and now and then (it folds a counter) a ticket. */
static int64_t acquire(sp_pool *pool) {
    int64_t handle = sp_acquire(pool);
    sp_ticket *ticket = NULL;
    sp_error error;
    if (handle == SP_SLOW && sp_ticket_open(pool, -1, &ticket) == SP_OK) {
        do {
            handle = sp_ticket_poll(ticket, &error);
        } while (handle == SP_AGAIN);
        sp_ticket_free(ticket);
    }
    return handle;
}

static bool all_hits(sp_pool *pool) {
    sp_stats stats;
    return sp_snapshot(pool, &stats) == SP_OK && stats.miss_count == 0 && stats.in_use_count == 0;
}

/* Nanoseconds of `batch` pairs, or -1. */
static int64_t time_batch(sp_pool *pool, int64_t batch) {
    const int64_t start = now_ns();
    for (int64_t i = 0; i < batch; i++) {
        const int64_t handle = acquire(pool);
        if (handle <= 0 || sp_release(pool, handle) != SP_OK) {
            return -1;
        }
    }
    return now_ns() - start;
}

static int run(sp_pool *pool, int64_t batches, int64_t batch) {
    if (sp_idle_len(pool) <= 0 || time_batch(pool, batch) < 0) { /* the first one only warms the caches */
        return 1;
    }
    for (int64_t i = 0; i < batches; i++) {
        const int64_t elapsed = time_batch(pool, batch);
        if (elapsed < 0) {
            (void)fprintf(stderr, "an acquire or its release failed\n");
            return 1;
        }
        printf("%.3f\n", (double)elapsed / (double)batch);
    }
    return all_hits(pool) ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        (void)fprintf(stderr, "usage: pool_bench IDLE BATCHES BATCH\n");
        return 2;
    }
    sp_launcher *launcher = sp_launcher_fake();
    sp_pool *pool = launcher != NULL ? open_idle(launcher, (uint32_t)strtoul(argv[1], NULL, 10)) : NULL;
    if (pool == NULL) {
        return 1;
    }
    const int status = run(pool, strtoll(argv[2], NULL, 10), strtoll(argv[3], NULL, 10));
    sp_pool_free(pool);
    sp_launcher_unref(launcher);
    return status;
}
