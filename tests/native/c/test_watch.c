/* sources: csrc/host/sys/watch_linux.c csrc/common/fd.c */
/* A set of descriptors that are watched: it can be read when one of them is ready, and each failure has its errno. */
#include "host/sys/watch.h"

#include <errno.h>
#include <poll.h>

#include "check.h"
#include "common/fd.h"
#include "nth.h"

static bool is_ready(int set) {
    struct pollfd p = {.fd = set, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void a_set_is_ready_with_one_of_its_descriptors(void) {
    int ends[2];
    int set = sp_watch_set_open();
    CHECK(set >= 0 && pipe(ends) == 0);
    CHECK(sp_watch_set_add(set, ends[0], false) == 0 && !is_ready(set));
    CHECK(write(ends[1], "x", 1) == 1 && is_ready(set) && is_ready(set));
    CHECK(sp_watch_set_remove(set, ends[0], false) == 0 && !is_ready(set));
    CHECK(sp_watch_set_add(set, ends[1], true) == 0 && is_ready(set));
    sp_watch_set_refresh(set);
    sp_fd_close(&set);
    sp_fd_close(&ends[0]);
    sp_fd_close(&ends[1]);
}

static void what_cannot_be_watched_is_reported(void) {
    int ends[2];
    int set = sp_watch_set_open();
    CHECK(pipe(ends) == 0);
    CHECK(sp_watch_set_add(set, -1, false) == -EBADF && sp_watch_set_remove(set, ends[0], false) == -ENOENT);
    sp_fd_close(&set);
    sp_fd_close(&ends[0]);
    sp_fd_close(&ends[1]);
}

static void nothing(void) {}

static int open_and_close(void) {
    int set = sp_watch_set_open();
    int rc = set < 0 ? set : 0;
    sp_fd_close(&set);
    return rc;
}

static void a_set_that_cannot_be_opened_is_reported(void) {
    const struct sweep sweep = {.prepare = nothing, .act = open_and_close, .err = EMFILE};
    CHECK(count_fatal(&sweep, SYS_epoll_create1) == 1);
}

int main(void) {
    check_deadline(30);
    RUN(a_set_is_ready_with_one_of_its_descriptors);
    RUN(what_cannot_be_watched_is_reported);
    RUN(a_set_that_cannot_be_opened_is_reported);
    return check_report();
}
