/* sources: none */
/* Logarithmic buckets: the bounds rise, each value lies between the bounds of its bucket, and sums are exact. */
#include "host/pool/histogram.h"

#include "check.h"

static void check_bucket(uint64_t us) {
    const unsigned bucket = sp_histogram_bucket(us);

    CHECK(bucket < SP_HISTOGRAM_BUCKETS);
    CHECK(us < sp_histogram_bound(bucket) || us == UINT64_MAX);
    CHECK(bucket == 0 || us >= sp_histogram_bound(bucket - 1));
}

static void values_lie_in_their_buckets(void) {
    for (uint64_t us = 0; us < 5000; us++) {
        check_bucket(us);
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        check_bucket((UINT64_C(1) << bit) - 1);
        check_bucket(UINT64_C(1) << bit);
        check_bucket((UINT64_C(1) << bit) + (UINT64_C(1) << bit) / 3);
    }
    check_bucket(UINT64_MAX);
}

static void bounds_rise_by_a_quarter_at_most(void) {
    for (unsigned i = 1; i + 1 < SP_HISTOGRAM_BUCKETS; i++) {
        const uint64_t low = sp_histogram_bound(i - 1);
        const uint64_t high = sp_histogram_bound(i);

        CHECK(high > low && (low < 4 ? high - low == 1 : (high - low) * 4 <= low));
    }
    CHECK(sp_histogram_bound(SP_HISTOGRAM_BUCKETS - 2) == UINT64_C(1) << 27); /* 134 s */
    CHECK(sp_histogram_bound(SP_HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
}

static void sums_are_exact(void) {
    sp_histogram h = {0};

    sp_histogram_add(&h, 999);
    sp_histogram_add(&h, 1000);
    sp_histogram_add(&h, -5); /* no time is negative, but if one were, nothing must break */
    sp_histogram_add(&h, INT64_MAX);
    CHECK(h.sum_ns == (uint64_t)INT64_MAX + 1999);
    CHECK(h.counts[0] == 2 && h.counts[1] == 1 && h.counts[SP_HISTOGRAM_BUCKETS - 1] == 1);
}

int main(void) {
    RUN(values_lie_in_their_buckets);
    RUN(bounds_rise_by_a_quarter_at_most);
    RUN(sums_are_exact);
    return check_report();
}
