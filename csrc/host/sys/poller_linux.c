/*
 * An epoll set that contains one socket, which is always writable. A kick arms that socket, which wakes the waiting
 * thread. So a kick writes nothing to any descriptor, and it proves that the set is ours: another set does not contain
 * the socket (ENOENT). The inode shows that the socket is ours; an eventfd would share its inode with every other one.
 */
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/sys/poller.h"

#define BATCH 64

int sp_poller_open(struct sp_poller *poller) {
    int kick = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLONESHOT, .data.u64 = SP_POLLER_KICK};
    int err = kick == -1 || set == -1 || epoll_ctl(set, EPOLL_CTL_ADD, kick, &event) != 0 ? errno : 0;
    if (err != 0) {
        sp_fd_close(&set);
        sp_fd_close(&kick);
    }
    poller->kick_identity = sp_identity_of(kick);
    atomic_store(&poller->set, set);
    atomic_store(&poller->kick, kick);
    return -err;
}

/* epoll_ctl() on our set; fd -1 stands for the kick's socket. 0 or -errno; -EBADF: the set is closed or not ours. */
static int control(struct sp_poller *poller, int op, int fd, struct epoll_event *event) {
    int rc = -EBADF;
    /* seq_cst, before the numbers are read: pairs with sp_poller_close(), which replaces them, then reads `users`. */
    atomic_fetch_add(&poller->users, 1);
    int set = atomic_load(&poller->set);
    int kick = atomic_load(&poller->kick);
    if (set != -1 && sp_is_own(kick, &poller->kick_identity)) {
        rc = epoll_ctl(set, op, fd != -1 ? fd : kick, event) == 0 ? 0 : -errno;
    }
    atomic_fetch_sub(&poller->users, 1);
    return rc;
}

static int arm(struct sp_poller *poller, uint32_t events) {
    return control(poller, EPOLL_CTL_MOD, -1,
                   &(struct epoll_event){.events = events | EPOLLONESHOT, .data.u64 = SP_POLLER_KICK});
}

int sp_poller_kick(struct sp_poller *poller) { return arm(poller, EPOLLOUT); }

bool sp_poller_is_own(struct sp_poller *poller) {
    atomic_fetch_add(&poller->users, 1);
    const bool own = sp_is_own(atomic_load(&poller->kick), &poller->kick_identity);
    atomic_fetch_sub(&poller->users, 1);
    return own;
}

int sp_poller_begin_turn(struct sp_poller *poller) { return arm(poller, 0); }

/* Changing the kick's socket proves that the set is ours. */
void sp_poller_close(struct sp_poller *poller) {
    bool own = sp_poller_begin_turn(poller) == 0;
    int set = atomic_exchange(&poller->set, -1);
    int kick = atomic_exchange(&poller->kick, -1);
    while (atomic_load(&poller->users) != 0) {
        (void)sched_yield();
    }
    if (own) {
        sp_fd_close(&set);
    }
    sp_close_own(&kick, &poller->kick_identity);
}

static int control_fd(struct sp_poller *poller, int op, int fd, uint64_t key) {
    return fd == -1 ? -EBADF
                    : control(poller, op, fd, &(struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u64 = key});
}

int sp_poller_add(struct sp_poller *poller, int fd, uint64_t key) { return control_fd(poller, EPOLL_CTL_ADD, fd, key); }

int sp_poller_rearm(struct sp_poller *poller, int fd, uint64_t key) {
    return control_fd(poller, EPOLL_CTL_MOD, fd, key);
}

unsigned sp_poller_wait(struct sp_poller *poller, uint64_t *keys, unsigned n, int64_t deadline) {
    struct epoll_event events[BATCH];
    int64_t ms = deadline == SP_NEVER ? -1 : sp_ms_until(deadline);
    int got = epoll_wait(atomic_load(&poller->set), events, (int)(n < BATCH ? n : BATCH),
                         ms > INT32_MAX ? INT32_MAX : (int)ms);
    for (int i = 0; i < got; i++) {
        keys[i] = events[i].data.u64;
    }
    return got > 0 ? (unsigned)got : 0;
}
