/*
 * An epoll, and a socket in it that is always writable, whose registration is the kick: to arm it wakes the sleeper. So
 * a kick writes nothing anywhere, and proves by itself that the epoll is ours: another one does not know the socket
 * (ENOENT). That the socket is ours its inode tells; an eventfd would share one with every other.
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

int sp_watch_open(struct sp_watch *watch) {
    int kick = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLONESHOT, .data.u64 = SP_WATCH_KICK};
    int err = kick == -1 || set == -1 || epoll_ctl(set, EPOLL_CTL_ADD, kick, &event) != 0 ? errno : 0;
    if (err != 0) {
        sp_fd_close(&set);
        sp_fd_close(&kick);
    }
    watch->kick_identity = sp_identity_of(kick);
    atomic_store(&watch->set, set);
    atomic_store(&watch->kick, kick);
    return -err;
}

/* What epoll_ctl says of our set; -EBADF when it is not ours, or closed. fd -1: the kick itself. */
static int control(struct sp_watch *watch, int op, int fd, struct epoll_event *event) {
    int rc = -EBADF;
    /* seq_cst, before the numbers are read: pairs with sp_watch_close(), which takes them away and then looks here. */
    atomic_fetch_add(&watch->users, 1);
    int set = atomic_load(&watch->set);
    int kick = atomic_load(&watch->kick);
    if (set != -1 && sp_is_own(kick, &watch->kick_identity)) {
        rc = epoll_ctl(set, op, fd != -1 ? fd : kick, event) == 0 ? 0 : -errno;
    }
    atomic_fetch_sub(&watch->users, 1);
    return rc;
}

static int arm(struct sp_watch *watch, uint32_t events) {
    return control(watch, EPOLL_CTL_MOD, -1,
                   &(struct epoll_event){.events = events | EPOLLONESHOT, .data.u64 = SP_WATCH_KICK});
}

int sp_watch_kick(struct sp_watch *watch) { return arm(watch, EPOLLOUT); }

bool sp_watch_is_own(struct sp_watch *watch) { return sp_is_own(atomic_load(&watch->kick), &watch->kick_identity); }

int sp_watch_begin_turn(struct sp_watch *watch) { return arm(watch, 0); }

/* The kick proves that the set is ours. */
void sp_watch_close(struct sp_watch *watch) {
    bool own = sp_watch_begin_turn(watch) == 0;
    int set = atomic_exchange(&watch->set, -1);
    int kick = atomic_exchange(&watch->kick, -1);
    while (atomic_load(&watch->users) != 0) {
        (void)sched_yield();
    }
    if (own) {
        sp_fd_close(&set);
    }
    sp_close_own(&kick, &watch->kick_identity);
}

static int watch_fd(struct sp_watch *watch, int op, int fd, uint64_t key) {
    return fd == -1 ? -EBADF
                    : control(watch, op, fd, &(struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u64 = key});
}

int sp_watch_add(struct sp_watch *watch, int fd, uint64_t key) { return watch_fd(watch, EPOLL_CTL_ADD, fd, key); }

int sp_watch_again(struct sp_watch *watch, int fd, uint64_t key) { return watch_fd(watch, EPOLL_CTL_MOD, fd, key); }

unsigned sp_watch_wait(struct sp_watch *watch, uint64_t *keys, unsigned n, int64_t deadline) {
    struct epoll_event events[BATCH];
    int64_t ms = deadline == SP_NEVER ? -1 : sp_ms_until(deadline);
    int got = epoll_wait(atomic_load(&watch->set), events, (int)(n < BATCH ? n : BATCH),
                         ms > INT32_MAX ? INT32_MAX : (int)ms);
    for (int i = 0; i < got; i++) {
        keys[i] = events[i].data.u64;
    }
    return got > 0 ? (unsigned)got : 0;
}
