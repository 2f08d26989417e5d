/*
 * A watch is a small set of descriptors behind one descriptor, which is readable while one of the set is ready: an
 * event loop waits for it. watch.c keeps the members; the set itself is in watch_linux.c (epoll) and watch_darwin.c
 * (kqueue).
 *
 * Each member has a place. A member must be taken out before its descriptor is closed: a child that was forked
 * meanwhile may hold a copy of it, and the kernel would go on reporting that one.
 */
#ifndef SANDPOOL_HOST_SYS_WATCH_H
#define SANDPOOL_HOST_SYS_WATCH_H

#include <stdbool.h>

#define SP_WATCH_PLACES 5

struct sp_watch_member {
    int fd; /* -1: the place is empty */
    bool write;
};

struct sp_watch {
    int set;  /* the descriptor to wait for; -1: the watch is not open */
    bool own; /* false: when the members were taken out, none was in it, so another part of the process replaced it */
    struct sp_watch_member members[SP_WATCH_PLACES];
};

/* 0 or -errno. */
int sp_watch_open(struct sp_watch *watch);
/* Takes all members out, before their descriptors are closed. Does nothing if the watch is not open, as the next. */
void sp_watch_empty(struct sp_watch *watch);
/* Empties the set, and closes it if it is still ours. */
void sp_watch_close(struct sp_watch *watch);
/* The member at this place is `fd` from now on; -1 empties it. 0 or -errno. */
int sp_watch_put(struct sp_watch *watch, unsigned place, int fd, bool write);
/* Takes `*fd` out, if it is a member, and closes it. `watch` may be NULL. Sets *fd to -1. */
void sp_watch_close_member(struct sp_watch *watch, int *fd);

/* ---- for each system ---- */
/* The set, or -errno. */
int sp_watch_set_open(void);
/* 0; -EEXIST if `fd` is in the set; or -errno. */
int sp_watch_set_add(int set, int fd, bool write);
/* 0, or -errno: `set` is no set of ours, or `fd` is not in it. */
int sp_watch_set_remove(int set, int fd, bool write);
/* Makes the set's own descriptor follow what its members are now, where the system does not do that by itself. */
void sp_watch_set_refresh(int set);

#endif
