/* What the fuzz targets share: they read the input piece by piece, and abort when a rule is broken. */
#ifndef SANDPOOL_TESTS_FUZZ_H
#define SANDPOOL_TESTS_FUZZ_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts if the condition is false. The fuzzer reports the input of a run that aborts. */
#define MUST(what)                                                                      \
    do {                                                                                \
        if (!(what)) {                                                                  \
            (void)fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                                    \
        }                                                                               \
    } while (0)

/* An input, which is read from its start. At its end come zeroes. */
struct feed {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t feed_byte(struct feed *feed) {
    if (feed->left == 0) {
        return 0;
    }
    feed->left--;
    return *feed->at++;
}

static inline uint64_t feed_number(struct feed *feed, unsigned bytes) {
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)feed_byte(feed) << (8 * i);
    }
    return value;
}

static inline size_t feed_bytes(struct feed *feed, void *to, size_t wanted) {
    size_t n = wanted < feed->left ? wanted : feed->left;

    if (n != 0) {
        memcpy(to, feed->at, n);
        feed->at += n;
        feed->left -= n;
    }
    return n;
}

/* The set of the lowest descriptors that are open. A run must leave them as they were; it never needs so many. */
#define WATCHED_FDS 64

static inline uint64_t open_fds(void) {
    uint64_t open = 0;

    for (int fd = 0; fd < WATCHED_FDS; fd++) {
        open |= (uint64_t)(fcntl(fd, F_GETFD) != -1) << fd;
    }
    return open;
}

#endif
