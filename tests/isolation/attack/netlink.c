/* NETLINK_ROUTE: whoever may list the interfaces changes none; and no other protocol of netlink is there. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "hoard.h"

#define LO 1 /* the index of lo in every network namespace */

struct request {
    struct nlmsghdr head;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
        struct ndmsg neighbour;
        struct tcmsg queue;
        struct nlmsgerr answer;
        char bytes[512];
    };
};

static void start(struct request *r, unsigned type, size_t body) {
    memset(r, 0, sizeof *r);
    r->head.nlmsg_type = (unsigned short)type;
    r->head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    r->head.nlmsg_len = (unsigned)NLMSG_LENGTH(body);
}

static void add(struct request *r, unsigned type, const void *value, size_t size) {
    struct rtattr *at = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));
    at->rta_type = (unsigned short)type;
    at->rta_len = (unsigned short)RTA_LENGTH(size);
    memcpy(RTA_DATA(at), value, size);
    r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(at->rta_len);
}

static int open_route(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (fd == -1) {
        held("no socket: %s", strerror(errno));
    }
    return fd;
}

/* What the kernel answers: 0 or an errno. */
static int ask(int fd, struct request *r) {
    struct request answer;
    if (send(fd, r, r->head.nlmsg_len, 0) == -1) {
        return errno;
    }
    ssize_t n = recv(fd, &answer, sizeof answer, 0);
    return n < (ssize_t)NLMSG_LENGTH(sizeof answer.answer) || answer.head.nlmsg_type != NLMSG_ERROR
               ? EPROTO
               : -answer.answer.error;
}

static void judge(const char *what, int err) {
    if (err == 0) {
        reached("%s", what);
    }
    held("%s: %s", what, strerror(err));
}

/* An address, lo's flags, a route, a neighbour, a queue: what a program of a network's administrator changes. */
static void build(struct request *r, const char *what) {
    const struct in_addr there = {htonl(0x0a090909)};
    const unsigned index = LO;
    if (strcmp(what, "newaddr") == 0 || strcmp(what, "deladdr") == 0) {
        start(r, what[0] == 'n' ? RTM_NEWADDR : RTM_DELADDR, sizeof r->address);
        r->address = (struct ifaddrmsg){.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = LO};
        add(r, IFA_LOCAL, &there, sizeof there);
    } else if (strcmp(what, "newlink") == 0 || strcmp(what, "setlink") == 0) {
        start(r, what[0] == 'n' ? RTM_NEWLINK : RTM_SETLINK, sizeof r->link);
        r->head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
        r->link = (struct ifinfomsg){.ifi_index = LO, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    } else if (strcmp(what, "newroute") == 0) {
        start(r, RTM_NEWROUTE, sizeof r->route);
        r->route = (struct rtmsg){.rtm_family = AF_INET,
                                  .rtm_dst_len = 32,
                                  .rtm_table = RT_TABLE_MAIN,
                                  .rtm_protocol = RTPROT_STATIC,
                                  .rtm_scope = RT_SCOPE_LINK,
                                  .rtm_type = RTN_UNICAST};
        add(r, RTA_DST, &there, sizeof there);
        add(r, RTA_OIF, &index, sizeof index);
    } else if (strcmp(what, "newneigh") == 0) {
        start(r, RTM_NEWNEIGH, sizeof r->neighbour);
        r->neighbour = (struct ndmsg){.ndm_family = AF_INET, .ndm_ifindex = LO, .ndm_flags = NTF_PROXY};
        add(r, NDA_DST, &there, sizeof there);
    } else {
        start(r, RTM_NEWQDISC, sizeof r->queue);
        r->queue = (struct tcmsg){.tcm_ifindex = LO, .tcm_parent = TC_H_ROOT, .tcm_handle = 1u << 16};
        add(r, TCA_KIND, "pfifo", sizeof "pfifo");
    }
}

static void change(char **args) {
    int fd = open_route();
    struct request r;
    build(&r, "setlink"); /* a route needs a link that is up; an address to remove has to be there */
    (void)ask(fd, &r);
    if (strcmp(args[0], "deladdr") == 0) {
        build(&r, "newaddr");
        (void)ask(fd, &r);
    }
    build(&r, args[0]);
    judge(args[0], ask(fd, &r));
}

/* Every kind of message that is no question, also of later kernels: all end at the same check. */
static void change_anything(char **args) {
    (void)args;
    int fd = open_route();
    for (unsigned type = RTM_BASE; type < 256; type++) {
        struct request r;
        start(&r, type, sizeof r.bytes - 64);
        int err = type % 4 == 2 /* GET */ ? EPERM : ask(fd, &r);
        if (err != EPERM && err != EOPNOTSUPP) {
            reached("message %u: %s", type, strerror(err));
        }
    }
    held("no message is taken in");
}

/* Between two sockets, past the kernel's own end. */
static void to_another(char **args) {
    (void)args;
    struct sockaddr_nl other = {.nl_family = AF_NETLINK};
    socklen_t len = sizeof other;
    int from = open_route();
    int to = open_route();
    struct request r;
    if (bind(to, (struct sockaddr *)&other, len) != 0 || getsockname(to, (struct sockaddr *)&other, &len) != 0) {
        held("bind: %s", strerror(errno));
    }
    start(&r, NLMSG_DONE, 0);
    JUDGE("to another socket", sendto(from, &r, r.head.nlmsg_len, MSG_DONTWAIT, (struct sockaddr *)&other, len));
}

/* As if a link had changed, for all who listen. */
static void forge_event(char **args) {
    (void)args;
    struct sockaddr_nl all = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int from = open_route();
    struct request r;
    build(&r, "newlink");
    JUDGE("an event for all", sendto(from, &r, r.head.nlmsg_len, MSG_DONTWAIT, (struct sockaddr *)&all, sizeof all));
}

/* NETFILTER, AUDIT, KOBJECT_UEVENT, GENERIC, SOCK_DIAG, CRYPTO and all others. */
static void other_protocols(char **args) {
    (void)args;
    for (int protocol = 1; protocol < 32; protocol++) {
        if (socket(AF_NETLINK, SOCK_RAW, protocol) != -1 || socket(AF_NETLINK, SOCK_DGRAM, protocol) != -1) {
            reached("protocol %d", protocol);
        }
    }
    held("no other protocol: %s", strerror(errno));
}

/* ---- memory ---- */

/* Asks for the list of links again and again, and reads none. Returns the bytes that wait to be read. */
static long fill(int fd) {
    struct request r;
    long n = 0;
    for (;;) {
        start(&r, RTM_GETLINK, sizeof r.link);
        r.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        unsigned figures[9] = {0}; /* of SO_MEMINFO: the first is what the receive queue takes */
        socklen_t len = sizeof figures;
        if (send(fd, &r, r.head.nlmsg_len, MSG_DONTWAIT) == -1 ||
            getsockopt(fd, SOL_SOCKET, SO_MEMINFO, figures, &len) != 0 || figures[0] <= (unsigned long)n) {
            return n;
        }
        n = figures[0];
    }
}

static void queues(char **args) {
    long wanted = atol(args[0]) * MIB;
    long n = 0;
    raise_descriptors();
    for (int fd; n < wanted && (fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)) != -1;) {
        n += fill(fd);
    }
    settle_with(n, args[1]);
    count("MiB in queues of netlink", n / MIB, wanted / MIB);
}

PROBES({"change", change}, {"change-anything", change_anything}, {"to-another", to_another},
       {"forge-event", forge_event}, {"other-protocols", other_protocols}, {"queues", queues})
