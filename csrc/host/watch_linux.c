#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "host/watch.h"

#define BATCH 64

int sp_watch_open(struct sp_watch *watch) {
    watch->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch->set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = SP_WATCH_KICK};
    if (watch->kick == -1 || watch->set == -1 || epoll_ctl(watch->set, EPOLL_CTL_ADD, watch->kick, &event) != 0) {
        int err = errno;
        sp_watch_close(watch);
        return -err;
    }
    return 0;
}

void sp_watch_close(struct sp_watch *watch) {
    sp_fd_close(&watch->set);
    sp_fd_close(&watch->kick);
}

static int control(struct sp_watch *watch, int op, int fd, uint64_t key) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = key};
    return epoll_ctl(watch->set, op, fd, &event) == 0 ? 0 : -errno;
}

int sp_watch_add(struct sp_watch *watch, int fd, uint64_t key) { return control(watch, EPOLL_CTL_ADD, fd, key); }

int sp_watch_again(struct sp_watch *watch, int fd, uint64_t key) { return control(watch, EPOLL_CTL_MOD, fd, key); }

void sp_watch_kick(struct sp_watch *watch) { (void)eventfd_write(watch->kick, 1); }

unsigned sp_watch_wait(struct sp_watch *watch, uint64_t *keys, unsigned n, int64_t deadline) {
    struct epoll_event events[BATCH];
    int64_t left = deadline == SP_NEVER ? -1 : deadline - sp_now();
    /* Rounded up: a wake-up before the deadline would only spin. */
    int64_t ms = left < 0 ? (deadline == SP_NEVER ? -1 : 0) : (left + 999999) / 1000000;
    int got = epoll_wait(watch->set, events, (int)(n < BATCH ? n : BATCH), ms > INT32_MAX ? INT32_MAX : (int)ms);
    for (int i = 0; i < got; i++) {
        keys[i] = events[i].data.u64;
        if (keys[i] == SP_WATCH_KICK) {
            eventfd_t count;
            (void)eventfd_read(watch->kick, &count);
        }
    }
    return got > 0 ? (unsigned)got : 0;
}
