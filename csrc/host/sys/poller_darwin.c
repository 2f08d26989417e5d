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

static int change(struct sp_poller *poller, const struct kevent *event) {
    /* seq_cst, before the number is read: pairs with sp_poller_close(), which replaces the number and then reads
     * `users`. */
    atomic_fetch_add(&poller->users, 1);
    int rc = kevent(atomic_load(&poller->set), event, 1, NULL, 0, NULL) == -1 ? -errno : 0;
    atomic_fetch_sub(&poller->users, 1);
    return rc;
}

int sp_poller_open(struct sp_poller *poller) {
    struct kevent kick;
    int set = kqueue(); /* close-on-exec, and not inherited over fork */
    atomic_store(&poller->kick, -1);
    atomic_store(&poller->set, set);
    if (set == -1) {
        return -errno;
    }
    EV_SET(&kick, KICK_IDENT, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
    int rc = change(poller, &kick);
    if (rc != 0) {
        atomic_store(&poller->set, -1);
        sp_fd_close(&set);
    }
    return rc;
}

/* The kick proves that the queue is ours: kevent() fails on a queue that has no such event. */
void sp_poller_close(struct sp_poller *poller) {
    bool own = sp_poller_kick(poller) == 0;
    int set = atomic_exchange(&poller->set, -1);
    while (atomic_load(&poller->users) != 0) {
        (void)sched_yield();
    }
    if (own) {
        sp_fd_close(&set);
    }
}

/* The key is stored in the pointer that the kernel returns with the event. */
int sp_poller_add(struct sp_poller *poller, int fd, uint64_t key) {
    struct kevent event;
    EV_SET(&event, (uintptr_t)fd, EVFILT_READ, EV_ADD | EV_ONESHOT, 0, 0, (void *)(uintptr_t)key);
    return change(poller, &event);
}

int sp_poller_rearm(struct sp_poller *poller, int fd, uint64_t key) { return sp_poller_add(poller, fd, key); }

int sp_poller_kick(struct sp_poller *poller) {
    struct kevent event;
    EV_SET(&event, KICK_IDENT, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
    return change(poller, &event);
}

/* Cancels nothing here: an earlier kick only wakes the waiting thread once more. Proves that the queue is ours. */
int sp_poller_begin_turn(struct sp_poller *poller) {
    struct kevent event;
    EV_SET(&event, KICK_IDENT, EVFILT_USER, 0, NOTE_FFNOP, 0, NULL);
    return change(poller, &event);
}

bool sp_poller_is_own(struct sp_poller *poller) { return sp_poller_begin_turn(poller) == 0; }

unsigned sp_poller_wait(struct sp_poller *poller, uint64_t *keys, unsigned n, int64_t deadline) {
    struct kevent events[BATCH];
    const struct timespec ts = sp_timespec_of(deadline == SP_NEVER ? 0 : sp_left_until(deadline));
    int got = kevent(atomic_load(&poller->set), NULL, 0, events, (int)(n < BATCH ? n : BATCH),
                     deadline == SP_NEVER ? NULL : &ts);
    for (int i = 0; i < got; i++) {
        keys[i] = events[i].filter == EVFILT_USER ? SP_POLLER_KICK : (uint64_t)(uintptr_t)events[i].udata;
    }
    return got > 0 ? (unsigned)got : 0;
}
