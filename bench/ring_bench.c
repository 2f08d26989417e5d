/* What a push and a take cost: one thread alone, and 2 and 4 on one ring. The twin of tests/native/c/test_ring.c. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "host/pool/ring.h"

#define PAIRS 1000 /* per batch */
#define BATCHES 2000
#define MAX_THREADS 4
#define MAX_ENTRIES 1024

static _Atomic uint64_t links[MAX_ENTRIES];
static struct sp_ring ring;
static pthread_barrier_t start;
static double samples[MAX_THREADS * BATCHES]; /* ns per pair, by batch */

static double now_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void batch(void) {
    for (unsigned i = 0; i < PAIRS; i++) {
        const uint32_t index = sp_ring_take(&ring);

        if (index == SP_RING_EMPTY) { /* there are more entries than threads */
            (void)fprintf(stderr, "an entry was lost\n");
            abort();
        }
        sp_ring_push(&ring, index);
    }
}

static void *run_batches(void *arg) {
    double *mine = arg;

    (void)pthread_barrier_wait(&start);
    for (unsigned i = 0; i < BATCHES; i++) {
        const double begin = now_ns();

        batch();
        mine[i] = (now_ns() - begin) / PAIRS;
    }
    return NULL;
}

static void fill(uint32_t entries) {
    for (uint32_t i = 0; i < MAX_ENTRIES; i++) {
        atomic_init(&links[i], 0);
    }
    sp_ring_init(&ring, links, MAX_ENTRIES);
    for (uint32_t i = 0; i < entries; i++) {
        sp_ring_push(&ring, i);
    }
}

static void run_threads(unsigned count) {
    pthread_t threads[MAX_THREADS];

    (void)pthread_barrier_init(&start, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, run_batches, samples + (size_t)i * BATCHES) != 0) {
            abort();
        }
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    (void)pthread_barrier_destroy(&start);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static void row(unsigned count, uint32_t entries) {
    const size_t n = (size_t)count * BATCHES;

    fill(entries);
    run_threads(count);
    qsort(samples, n, sizeof samples[0], by_value);
    (void)printf("%8u %8u %8zu %9.1f %9.1f %9.1f\n", count, entries, n, samples[0], samples[n / 2],
                 samples[n * 99 / 100]);
}

int main(void) {
    (void)printf("take + push, ns per pair and thread, over batches of %d pairs\n", PAIRS);
    (void)printf("%8s %8s %8s %9s %9s %9s\n", "threads", "entries", "N", "min", "median", "p99");
    row(1, 10);
    row(1, MAX_ENTRIES);
    row(2, 10);
    row(2, MAX_ENTRIES);
    row(4, 10);
    row(4, MAX_ENTRIES);
    return EXIT_SUCCESS;
}
