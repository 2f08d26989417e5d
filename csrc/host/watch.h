/* What the janitor sleeps on: many descriptors and a kick. Chosen by file: watch_linux.c (epoll, eventfd),
 * watch_darwin.c (kqueue). */
#ifndef SANDPOOL_HOST_WATCH_H
#define SANDPOOL_HOST_WATCH_H

#include <stdint.h>

struct sp_watch {
    int set;
    int kick;
};

#define SP_WATCH_KICK UINT64_MAX

int sp_watch_open(struct sp_watch *watch);
void sp_watch_close(struct sp_watch *watch);
/* Tells once when fd is readable; closing the fd ends the watch. Any thread. 0 or -errno. */
int sp_watch_add(struct sp_watch *watch, int fd, uint64_t key);
/* Watches an added fd once more. */
int sp_watch_again(struct sp_watch *watch, int fd, uint64_t key);
/* Wakes the sleeper; any thread, never blocks. */
void sp_watch_kick(struct sp_watch *watch);
/* Fills `keys` (SP_WATCH_KICK for a kick, already consumed) and returns their number; 0 at the deadline. */
unsigned sp_watch_wait(struct sp_watch *watch, uint64_t *keys, unsigned n, int64_t deadline);

#endif
