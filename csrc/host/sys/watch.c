#include "host/sys/watch.h"

#include <errno.h>

#include "common/fd.h"

int sp_watch_open(struct sp_watch *watch) {
    for (unsigned i = 0; i < SP_WATCH_PLACES; i++) {
        watch->members[i] = (struct sp_watch_member){.fd = -1};
    }
    int set = sp_watch_set_open();
    watch->own = true;
    watch->set = set < 0 ? -1 : set;
    return set < 0 ? set : 0;
}

/* What was closed without being taken out has left the set already. Returns whether it was there. */
static bool take_out(struct sp_watch *watch, struct sp_watch_member *m) {
    bool found = m->fd != -1 && sp_watch_set_remove(watch->set, m->fd, m->write) == 0;
    m->fd = -1;
    return found;
}

void sp_watch_empty(struct sp_watch *watch) {
    bool members = false;
    bool found = false;
    for (unsigned i = 0; i < SP_WATCH_PLACES && watch->set != -1; i++) {
        members = members || watch->members[i].fd != -1;
        found = take_out(watch, &watch->members[i]) || found;
    }
    watch->own = members ? found : watch->own;
}

void sp_watch_close(struct sp_watch *watch) {
    sp_watch_empty(watch);
    if (watch->own) {
        sp_fd_close(&watch->set);
    }
    watch->set = -1;
}

int sp_watch_put(struct sp_watch *watch, unsigned place, int fd, bool write) {
    struct sp_watch_member *m = &watch->members[place];
    if (m->fd == fd && (fd == -1 || m->write == write)) {
        return 0;
    }
    (void)take_out(watch, m);
    int rc = fd == -1 ? 0 : sp_watch_set_add(watch->set, fd, write);
    if (rc == 0) {
        *m = (struct sp_watch_member){.fd = fd, .write = write};
    }
    return rc;
}

void sp_watch_close_member(struct sp_watch *watch, int *fd) {
    for (unsigned i = 0; watch != NULL && *fd != -1 && i < SP_WATCH_PLACES; i++) {
        if (watch->members[i].fd == *fd) {
            (void)take_out(watch, &watch->members[i]);
        }
    }
    sp_fd_close(fd);
}
