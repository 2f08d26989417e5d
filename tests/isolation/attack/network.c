/* Sockets: the host's loopback, its abstract and pathname sockets, and families that have no place in a sandbox. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "probe.h"

static void make(char **args) { JUDGE("socket", socket(atoi(args[0]), atoi(args[1]), atoi(args[2]))); }

static void tcp(char **args) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(args[0])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    JUDGE("tcp to the host's loopback", fd == -1 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to));
}

static socklen_t unix_address(struct sockaddr_un *to, const char *name) {
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    strncpy(to->sun_path, name, sizeof to->sun_path - 1);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    if (name[0] == '@') {
        to->sun_path[0] = '\0';
    }
    return len;
}

static void unix_stream(char **args) {
    struct sockaddr_un to;
    socklen_t len = unix_address(&to, args[0]);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    JUDGE(args[0], fd == -1 ? -1 : connect(fd, (struct sockaddr *)&to, len));
}

/* Half of a datagram pair can be sent to any address, with no socket() and no connect(). */
static void half_pair(char **args) {
    struct sockaddr_un to;
    socklen_t len = unix_address(&to, args[0]);
    static const int types[] = {SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM | SOCK_CLOEXEC};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, types[i], 0, pair) != 0) {
            continue;
        }
        /* Sent to its own other half it proves nothing: that half has to stay empty. */
        char byte;
        if (sendto(pair[0], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, len) == 1 &&
            recv(pair[1], &byte, 1, MSG_DONTWAIT) != 1) {
            reached("socketpair type %d", types[i]);
        }
    }
    held("no kind of pair can");
}

/* Whoever closes the last descriptor then waits for the peer: a receiver of the descriptor, or a thread of the kernel.
 */
static void lingering(char **args) {
    (void)args;
    struct linger wanted = {.l_onoff = 1, .l_linger = 60};
    struct linger found = {0};
    socklen_t len = sizeof found;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int rc = fd == -1 ? -1 : setsockopt(fd, SOL_SOCKET, SO_LINGER, &wanted, sizeof wanted);
    int why = errno;
    if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_LINGER, &found, &len) == 0 && found.l_onoff != 0) {
        reached("a close that takes %d s", found.l_linger);
    }
    held("SO_LINGER: %s", rc == 0 ? "without effect" : strerror(why));
}

/* socket(7): whoever has the uid of a server that shares its port gets a part of its connections. */
static void share_port(char **args) {
    const struct sockaddr_in of = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(args[0])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0) {
        held("SO_REUSEPORT: %s", strerror(errno));
    }
    JUDGE("a port of the host's", bind(fd, (const struct sockaddr *)&of, sizeof of) != 0 ? -1 : listen(fd, 1));
}

/* The first and the last socket that has one of these let the kernel patch its code, on all processors. */
static void patch_kernel(char **args) {
    int value = atoi(args[2]);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    JUDGE("the kernel's code was patched", setsockopt(fd, atoi(args[0]), atoi(args[1]), &value, sizeof value));
}

/* The same, by asking when the last packet has come; of none, the answer is ENOENT. */
static void patch_by_request(char **args) {
    (void)args;
    static const unsigned long requests[] = {0x8906, 0x8907, 0x80108906, 0x80108907};
    struct timespec when;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        if (ioctl(fd, requests[i], &when) == 0 || errno == ENOENT) {
            reached("request %lx", requests[i]);
        }
    }
    held("no such request: %s", strerror(errno));
}

/* The machine has 4,096, and keeps each for seconds. */
static void flow_label(char **args) {
    (void)args;
    struct {
        struct in6_addr to;
        uint32_t label;
        uint8_t action, share;
        uint16_t flags, expires, linger;
        uint32_t unused;
    } request = {.to = IN6ADDR_LOOPBACK_INIT, .share = 1, .flags = 1 /* IPV6_FL_F_CREATE, with IPV6_FL_S_EXCL */};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    JUDGE("one of the machine's labels", setsockopt(fd, IPPROTO_IPV6, 32, &request, sizeof request));
}

/* Each is a part of lists that the kernel goes through, and none is a descriptor. */
static void join_groups(char **args) {
    struct ipv6_mreq group = {.ipv6mr_interface = 1};
    int wanted = atoi(args[0]);
    int n = 0;
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    group.ipv6mr_multiaddr.s6_addr[0] = 0xff;
    group.ipv6mr_multiaddr.s6_addr[1] = 0x01;
    for (; n < wanted; n++) {
        memcpy(&group.ipv6mr_multiaddr.s6_addr[12], &(int){n + 1}, sizeof n);
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof group) != 0) {
            held("%d groups: %s", n, strerror(errno));
        }
    }
    reached("%d groups of one socket", n);
}

PROBES({"make", make}, {"tcp", tcp}, {"unix", unix_stream}, {"half-pair", half_pair}, {"lingering", lingering},
       {"share-port", share_port}, {"patch-kernel", patch_kernel}, {"patch-by-request", patch_by_request},
       {"flow-label", flow_label}, {"join-groups", join_groups})
