/* How long to wait before the next attempt. The wait doubles each time, with jitter, so that many processes on one
 * overloaded machine do not all retry at the same time. */
#ifndef SANDPOOL_HOST_SYS_BACK_OFF_H
#define SANDPOOL_HOST_SYS_BACK_OFF_H

#include <stdint.h>

struct sp_back_off {
    int64_t delay;  /* 0: the last attempt succeeded */
    uint64_t noise; /* state of the random numbers; starts from any seed */
};

/* Returns a random wait from 0.5 to 1.5 of the delay. The delay doubles with each call, from `least` to `most`. */
static inline int64_t sp_back_off(struct sp_back_off *b, int64_t least, int64_t most) {
    b->delay = b->delay == 0 ? least : b->delay * 2;
    b->delay = b->delay > most ? most : b->delay;
    b->noise = b->noise * 6364136223846793005u + 1442695040888963407u;
    return b->delay / 2 + (int64_t)((b->noise >> 33) % (uint64_t)b->delay);
}

#endif
