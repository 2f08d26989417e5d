/* What the janitor sleeps on: many descriptors and a kick. Chosen by file: poller_linux.c (epoll), poller_darwin.c
 * (kqueue). */
#ifndef SANDPOOL_HOST_SYS_POLLER_H
#define SANDPOOL_HOST_SYS_POLLER_H

#include <stdatomic.h>
#include <stdint.h>

#include "host/sys/own.h"

/* A kick may come while the watch is closed: who uses the numbers is counted, and the close waits for them. */
struct sp_watch {
    atomic_int set;
    atomic_int kick;
    atomic_uint users;
    struct sp_identity kick_identity;
};

#define SP_WATCH_KICK UINT64_MAX

int sp_watch_open(struct sp_watch *watch);
/* Later calls of the others do nothing. */
void sp_watch_close(struct sp_watch *watch);
/* Tells once when fd is readable; closing the fd ends the watch. Any thread. 0 or -errno. */
int sp_watch_add(struct sp_watch *watch, int fd, uint64_t key);
/* Watches an added fd once more. */
int sp_watch_again(struct sp_watch *watch, int fd, uint64_t key);
/* Wakes the sleeper; any thread, never blocks. 0 or -errno: the watch is no longer ours, and nothing was touched. */
int sp_watch_kick(struct sp_watch *watch);
/* Whether it still is ours. Any thread, wakes nobody. */
bool sp_watch_is_own(struct sp_watch *watch);
/* By the sleeper, before it looks for work: takes back kicks that came until now. 0 or -errno, as a kick. */
int sp_watch_begin_turn(struct sp_watch *watch);
/* Fills `keys` (SP_WATCH_KICK for a kick, already consumed) and returns their number; 0 at the deadline. */
unsigned sp_watch_wait(struct sp_watch *watch, uint64_t *keys, unsigned n, int64_t deadline);

#endif
