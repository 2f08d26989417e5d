#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "init/proc.h"
#include "zygote/zygote.h"

/* So long a namespace that nobody needs is kept, at least. */
#define TRIM_NS SP_SEC(5)

/* Setting the flag IFF_UP also assigns the addresses 127.0.0.1 and ::1. */
static int raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    sp_auto_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return sock != -1 && ioctl(sock, SIOCSIFFLAGS, &request) == 0 ? 0 : -errno;
}

/*
 * Bounds the queues of TCP sockets. Their memory comes out of one budget of the whole machine, net.ipv4.tcp_mem. With
 * the kernel's default bounds of 6 MiB and 4 MiB, a few dozen connections of one sandbox would slow down those of the
 * host. The owner of a netns may lower the bounds; where the kernel does not allow it, they stay as they are.
 */
static void bound_queues(void) {
    static const char *const bounds[][2] = {
        {"sys/net/ipv4/tcp_rmem", "4096 65536 131072"}, /* minimum, initial, maximum; IPv6 uses them, too */
        {"sys/net/ipv4/tcp_wmem", "4096 16384 65536"},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        sp_auto_fd int fd = openat(SP_PROC_FD, bounds[i][0], O_WRONLY | O_CLOEXEC);
        if (fd != -1) {
            (void)!write(fd, bounds[i][1], strlen(bounds[i][1]));
        }
    }
}

/* The new netns belongs to the user namespace of the zygote, so that no sandbox has a capability over its own netns. */
static int new_netns(bool loopback) {
    if (unshare(CLONE_NEWNET) != 0) {
        return -errno;
    }
    int rc = loopback ? raise_loopback() : 0;
    if (rc != 0) {
        return rc;
    }
    if (loopback) {
        bound_queues();
    }
    int fd = openat(SP_PROC_FD, "self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd != -1 ? fd : -errno;
}

int sp_netns_make(struct sp_netns_stash *stash) {
    if (stash->count == SP_STASH_MAX) {
        return -ENOSPC;
    }
    int fd = new_netns(stash->loopback);
    if (fd < 0) {
        return fd;
    }
    stash->fds[stash->count++] = fd;
    return 0;
}

static int enter(int fd) { return setns(fd, CLONE_NEWNET) == 0 ? 0 : -errno; }

/*
 * Reads the kernel's count of sockets of all families in the current netns. Sockets of a tenant may outlive it: sockets
 * that are in flight in each other's queues form cycles, which live until the kernel's collector runs, and the next
 * tenant of the netns would see them.
 */
static bool has_no_socket(void) {
    char text[256];
    uint64_t sockets = 0;
    return sp_read_text(SP_PROC_FD, "self/net/sockstat", text, sizeof text) &&
           sp_find_number(text, "sockets: used ", &sockets) && sockets == 0;
}

bool sp_netns_check_used(struct sp_netns_stash *stash) {
    if (stash->n_used == 0) {
        return false;
    }
    int fd = stash->used[--stash->n_used];
    if (stash->count < SP_STASH_MAX && enter(fd) == 0 && has_no_socket()) {
        stash->fds[stash->count++] = fd;
    } else {
        sp_fd_close(&fd);
    }
    return true;
}

int sp_netns_enter(struct sp_netns_stash *stash) {
    while (stash->count == 0 && sp_netns_check_used(stash)) {
    }
    const unsigned left = stash->count + stash->n_used;
    stash->least = left == 0 ? 0 : left - 1 < stash->least ? left - 1 : stash->least;
    if (stash->count == 0) {
        return new_netns(stash->loopback);
    }
    int fd = stash->fds[--stash->count];
    if (enter(fd) != 0) {
        sp_fd_close(&fd);
        return new_netns(stash->loopback);
    }
    return fd;
}

/*
 * A busy pool ends dozens of sandboxes at once, and soon asks for as many: to destroy their namespaces would have them
 * made anew, which takes longer than the rest of a clone. So they are kept until some seconds have shown how many are
 * not needed.
 */
void sp_netns_return(struct sp_netns_stash *stash, int fd) {
    if (fd != -1 && stash->count + stash->n_used < SP_STASH_MAX) {
        stash->used[stash->n_used++] = fd;
    } else {
        sp_fd_close(&fd);
    }
}

void sp_netns_trim(struct sp_netns_stash *stash, int64_t now) {
    if (now < stash->trim_at) {
        return;
    }
    while (stash->least > SP_STASH_SPARE && stash->count != 0) {
        sp_fd_close(&stash->fds[--stash->count]);
        stash->least--;
    }
    stash->least = stash->count + stash->n_used;
    stash->trim_at = now + TRIM_NS;
}
