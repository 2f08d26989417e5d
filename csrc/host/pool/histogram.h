/*
 * Latencies in log buckets: four to an octave, from 1 us to 134 s, so that a bucket is at most a quarter wide. Bucket i
 * holds what is below its bound and not below the one before; the last has no bound. Adding is a few instructions, and
 * whoever adds holds the lock that guards the histogram: the places where a latency ends hold it anyway.
 */
#ifndef SANDPOOL_HOST_POOL_HISTOGRAM_H
#define SANDPOOL_HOST_POOL_HISTOGRAM_H

#include "sandpool.h"

static inline unsigned sp_histogram_bucket(uint64_t us) {
    if (us < 4) {
        return (unsigned)us;
    }
    /* The highest bit is the octave, the two below it the quarter. */
    unsigned octave = 63 - (unsigned)__builtin_clzll(us);
    unsigned bucket = (octave - 1) * 4 + (unsigned)(us >> (octave - 2) & 3);
    return bucket < SP_HISTOGRAM_BUCKETS ? bucket : SP_HISTOGRAM_BUCKETS - 1;
}

/* In microseconds. */
static inline uint64_t sp_histogram_bound(unsigned bucket) {
    unsigned next = bucket + 1;
    if (next >= SP_HISTOGRAM_BUCKETS) {
        return UINT64_MAX;
    }
    return next < 4 ? next : (uint64_t)(4 + next % 4) << (next / 4 - 1);
}

static inline void sp_histogram_add(sp_histogram *histogram, int64_t ns) {
    uint64_t length = ns > 0 ? (uint64_t)ns : 0;
    histogram->sum_ns += length;
    histogram->counts[sp_histogram_bucket(length / 1000)]++;
}

#endif
