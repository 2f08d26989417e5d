#include <errno.h>
#include <stddef.h>
#include <sys/event.h>
#include <sys/time.h>
#include <sys/types.h>

#include "host/sys/watch.h"

int sp_watch_set_open(void) {
    int set = kqueue(); /* close-on-exec, and not inherited over fork */
    return set == -1 ? -errno : set;
}

static int change(int set, int fd, bool write, unsigned short flags) {
    struct kevent event;
    EV_SET(&event, (uintptr_t)fd, write ? EVFILT_WRITE : EVFILT_READ, flags, 0, 0, NULL);
    return kevent(set, &event, 1, NULL, 0, NULL) == -1 ? -errno : 0;
}

int sp_watch_set_add(int set, int fd, bool write) { return change(set, fd, write, EV_ADD); }

int sp_watch_set_remove(int set, int fd, bool write) { return change(set, fd, write, EV_DELETE); }

/* A queue that holds an event stays readable, although the descriptor is not ready any more, until it was looked at. */
void sp_watch_set_refresh(int set) {
    struct kevent events[SP_WATCH_PLACES];
    const struct timespec at_once = {0};
    (void)kevent(set, NULL, 0, events, SP_WATCH_PLACES, &at_once);
}
