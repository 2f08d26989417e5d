#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "common/fd.h"
#include "zygote/zygote.h"

#define STASH_MAX (sizeof((struct sp_netns_stash *)0)->fds / sizeof(int))

/* It belongs to the zygote's user namespace, not to the sandbox's: no sandbox ever has a capability over its own. */
static int new_netns(void) {
    if (unshare(CLONE_NEWNET) != 0) {
        return -errno;
    }
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd != -1 ? fd : -errno;
}

int sp_netns_make(struct sp_netns_stash *stash) {
    if (stash->count == STASH_MAX) {
        return -ENOSPC;
    }
    int fd = new_netns();
    if (fd < 0) {
        return fd;
    }
    stash->fds[stash->count++] = fd;
    return 0;
}

int sp_netns_enter(struct sp_netns_stash *stash) {
    if (stash->count == 0) {
        return new_netns();
    }
    int fd = stash->fds[--stash->count];
    if (setns(fd, CLONE_NEWNET) != 0) {
        int err = errno;
        sp_fd_close(&fd);
        return -err;
    }
    return fd;
}

void sp_netns_return(struct sp_netns_stash *stash, int fd) {
    if (fd != -1 && stash->count < STASH_MAX) {
        stash->fds[stash->count++] = fd;
    } else {
        sp_fd_close(&fd);
    }
}
