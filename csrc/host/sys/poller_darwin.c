#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/event.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/sys/poller.h"

#define BATCH 64
#define KICK_IDENT 1 /* an EVFILT_USER event has a number, not a descriptor */

static int change(struct sp_watch *watch, const struct kevent *event) {
    /* seq_cst, before the number is read: pairs with sp_watch_close(), which takes it away and then looks here. */
    atomic_fetch_add(&watch->users, 1);
    int rc = kevent(atomic_load(&watch->set), event, 1, NULL, 0, NULL) == -1 ? -errno : 0;
    atomic_fetch_sub(&watch->users, 1);
    return rc;
}

int sp_watch_open(struct sp_watch *watch) {
    struct kevent kick;
    int set = kqueue(); /* close-on-exec, and not inherited over fork */
    atomic_store(&watch->kick, -1);
    atomic_store(&watch->set, set);
    if (set == -1) {
        return -errno;
    }
    EV_SET(&kick, KICK_IDENT, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
    int rc = change(watch, &kick);
    if (rc != 0) {
        atomic_store(&watch->set, -1);
        sp_fd_close(&set);
    }
    return rc;
}

/* The kick's event proves that the queue is ours: another one does not know it. */
void sp_watch_close(struct sp_watch *watch) {
    bool own = sp_watch_kick(watch) == 0;
    int set = atomic_exchange(&watch->set, -1);
    while (atomic_load(&watch->users) != 0) {
        (void)sched_yield();
    }
    if (own) {
        sp_fd_close(&set);
    }
}

/* A key is kept in the pointer that the kernel hands back. */
int sp_watch_add(struct sp_watch *watch, int fd, uint64_t key) {
    struct kevent event;
    EV_SET(&event, (uintptr_t)fd, EVFILT_READ, EV_ADD | EV_ONESHOT, 0, 0, (void *)(uintptr_t)key);
    return change(watch, &event);
}

int sp_watch_again(struct sp_watch *watch, int fd, uint64_t key) { return sp_watch_add(watch, fd, key); }

int sp_watch_kick(struct sp_watch *watch) {
    struct kevent event;
    EV_SET(&event, KICK_IDENT, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
    return change(watch, &event);
}

/* Changes nothing: a kick that came until now only wakes once more. */
int sp_watch_begin_turn(struct sp_watch *watch) {
    struct kevent event;
    EV_SET(&event, KICK_IDENT, EVFILT_USER, 0, NOTE_FFNOP, 0, NULL);
    return change(watch, &event);
}

bool sp_watch_is_own(struct sp_watch *watch) { return sp_watch_begin_turn(watch) == 0; }

unsigned sp_watch_wait(struct sp_watch *watch, uint64_t *keys, unsigned n, int64_t deadline) {
    struct kevent events[BATCH];
    const struct timespec ts = sp_timespec_of(deadline == SP_NEVER ? 0 : sp_left_until(deadline));
    int got = kevent(atomic_load(&watch->set), NULL, 0, events, (int)(n < BATCH ? n : BATCH),
                     deadline == SP_NEVER ? NULL : &ts);
    for (int i = 0; i < got; i++) {
        keys[i] = events[i].filter == EVFILT_USER ? SP_WATCH_KICK : (uint64_t)(uintptr_t)events[i].udata;
    }
    return got > 0 ? (unsigned)got : 0;
}
