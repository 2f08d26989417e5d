#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>

#include "host/sys/watch.h"

int sp_watch_set_open(void) {
    int set = epoll_create1(EPOLL_CLOEXEC);
    return set == -1 ? -errno : set;
}

/* Level-triggered: the set is readable as long as the descriptor is ready, though nobody calls epoll_wait() on it. */
int sp_watch_set_add(int set, int fd, bool write) {
    struct epoll_event event = {.events = write ? EPOLLOUT : EPOLLIN};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int sp_watch_set_remove(int set, int fd, bool write) {
    (void)write;
    return epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : -errno;
}

void sp_watch_set_refresh(int set) { (void)set; }
