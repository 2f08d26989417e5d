/*
 * The poller waits for many descriptors at once, and can be woken by a kick. The janitor sleeps in it. There is one
 * file for each system: poller_linux.c (epoll) and poller_darwin.c (kqueue).
 */
#ifndef SANDPOOL_HOST_SYS_POLLER_H
#define SANDPOOL_HOST_SYS_POLLER_H

#include <stdatomic.h>
#include <stdint.h>

#include "host/sys/own.h"

/* `users` counts the threads that are using the two descriptors: sp_poller_close() waits for them before it closes. */
struct sp_poller {
    atomic_int set;
    atomic_int kick;
    atomic_uint users;
    struct sp_identity kick_identity;
};

#define SP_POLLER_KICK UINT64_MAX

/* 0 or -errno. */
int sp_poller_open(struct sp_poller *poller);
/* After it, the calls below have no effect. */
void sp_poller_close(struct sp_poller *poller);
/* Reports `key` once when fd is readable. Closing fd removes it. Any thread. 0 or -errno. */
int sp_poller_add(struct sp_poller *poller, int fd, uint64_t key);
/* Makes the poller report an added fd once more. 0 or -errno. */
int sp_poller_rearm(struct sp_poller *poller, int fd, uint64_t key);
/* Wakes the waiting thread. Any thread; never blocks. 0, or -errno when another part of this process has closed the
 * poller's descriptors; then nothing was touched. */
int sp_poller_kick(struct sp_poller *poller);
/* Whether the descriptors are still the poller's. Any thread; wakes nobody. */
bool sp_poller_is_own(struct sp_poller *poller);
/* Called by the waiting thread before it looks for work: cancels the kicks so far. Returns as sp_poller_kick(). */
int sp_poller_begin_turn(struct sp_poller *poller);
/* Waits; fills `keys` and returns their number, 0 at the deadline. SP_POLLER_KICK stands for a kick. */
unsigned sp_poller_wait(struct sp_poller *poller, uint64_t *keys, unsigned n, int64_t deadline);

#endif
