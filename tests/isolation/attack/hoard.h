/* What the probes that take much of something share. */
#ifndef SANDPOOL_ATTACK_HOARD_H
#define SANDPOOL_ATTACK_HOARD_H

#include <poll.h>
#include <sys/resource.h>

#include "probe.h"

#define MIB (1024l * 1024)

static inline void count(const char *what, long got, long wanted) {
    int err = errno;
    if (got >= wanted) {
        reached("%ld %s", got, what);
    }
    held("%ld of %ld %s: %s", got, wanted, what, strerror(err));
}

/* To have it is to keep it, as long as it may take to be seen: milliseconds. */
static inline void settle(const char *how_long) { (void)poll(NULL, 0, atoi(how_long)); }

/* The same for a probe that may get nothing at all, which nobody can see: it does not wait then. */
static inline void settle_with(long got, const char *how_long) {
    if (got > 0) {
        settle(how_long);
    }
}

static inline void raise_descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

#endif
