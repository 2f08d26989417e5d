/* The names in a directory, without a heap. */
#ifndef SANDPOOL_ZYGOTE_LISTING_H
#define SANDPOOL_ZYGOTE_LISTING_H

#include <stdint.h>

struct sp_listing {
    long filled, at;
    uint8_t type; /* of the last name: DT_*, DT_UNKNOWN where the file system does not say */
    char buffer[2048] __attribute__((aligned(8)));
};

/* The next name but "." and "..". NULL: at the end, or after an error, which is then a negative list->filled. The
 * listing starts as zeros. */
const char *sp_next_name(int dir, struct sp_listing *list);

#endif
