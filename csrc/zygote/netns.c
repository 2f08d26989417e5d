#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "zygote/zygote.h"

#define STASH_MAX (sizeof((struct sp_netns_stash *)0)->fds / sizeof(int))

/* The addresses 127.0.0.1 and ::1 come with the flag. */
static int raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    sp_auto_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return sock != -1 && ioctl(sock, SIOCSIFFLAGS, &request) == 0 ? 0 : -errno;
}

/* It belongs to the zygote's user namespace, not to the sandbox's: no sandbox ever has a capability over its own. */
static int new_netns(bool loopback) {
    if (unshare(CLONE_NEWNET) != 0) {
        return -errno;
    }
    int rc = loopback ? raise_loopback() : 0;
    if (rc != 0) {
        return rc;
    }
    int fd = openat(SP_PROC_FD, "self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd != -1 ? fd : -errno;
}

int sp_netns_make(struct sp_netns_stash *stash) {
    if (stash->count == STASH_MAX) {
        return -ENOSPC;
    }
    int fd = new_netns(stash->loopback);
    if (fd < 0) {
        return fd;
    }
    stash->fds[stash->count++] = fd;
    return 0;
}

int sp_netns_enter(struct sp_netns_stash *stash) {
    if (stash->count == 0) {
        return new_netns(stash->loopback);
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
