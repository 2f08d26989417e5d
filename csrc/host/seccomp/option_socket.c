/* The options of sockets, by their levels: as option.c. */
#include <stddef.h>

#include "host/seccomp/leaf.h"

/*
 * Options that setsockopt() may set. Left out: filters (26, 50 - 52) and their lock (44), because each descriptor's
 * filter takes kernel memory, and a part of the machine's memory for compiled filters, as seccomp filters do; ZEROCOPY
 * (60), because sent data then stays in pages that the socket pins; RESERVE_MEM (73); options of network cards;
 * TIMESTAMP, TIMESTAMPNS and TIMESTAMPING (29, 35, 37, 63 - 65): with the first and the last socket that has one of
 * them the kernel patches its own code, as for ENCAP below, and between the two it reads the clock for each packet of
 * the machine.
 * PASSPIDFD (76) is SO_PEERPIDFD of each sender: socket.c.
 * LINGER (13) has no effect: it makes whoever closes the last descriptor of a TCP socket wait, for as long as the
 * option says. That is the host when a tenant has sent the descriptor over the channel of an interpreter, and a thread
 * of the kernel, which then closes no other file of the machine, when the socket was in a cycle of queues.
 */
static const struct option_range socket_levels[] = {
    {0, 0, CHOOSE_IP_OPTION},    {1, 1, CHOOSE_SOCKET_OPTION}, {6, 6, CHOOSE_TCP_OPTION},
    {17, 17, CHOOSE_UDP_OPTION}, {41, 41, CHOOSE_IPV6_OPTION},
};

static const struct option_range socket_options[] = {
    {1, 6, ALLOW}, /* DEBUG, REUSEADDR, TYPE, ERROR, DONTROUTE, BROADCAST */
    {7, 7, CHECK_SNDBUF}, {8, 8, CHECK_RCVBUF},      {9, 12, ALLOW},  /* KEEPALIVE, OOBINLINE, NO_CHECK, PRIORITY */
    {13, 13, PRETEND},                                                /* LINGER */
    {14, 14, ALLOW},      {15, 15, CHECK_REUSEPORT}, {16, 21, ALLOW}, /* BSDCOMPAT; PASSCRED, PEERCRED, LOWAT, TIMEO */
    {25, 25, ALLOW},                                                  /* BINDTODEVICE */
    {30, 34, ALLOW}, /* ACCEPTCONN, PEERSEC, PASSSEC; those with FORCE need a capability, as MARK does */
    {36, 36, ALLOW}, /* MARK */
    {38, 43, ALLOW}, /* PROTOCOL - NOFCS */
    {46, 47, ALLOW}, /* BUSY_POLL, MAX_PACING_RATE */
    {49, 49, ALLOW}, /* INCOMING_CPU */
    {62, 62, ALLOW}, /* BINDTOIFINDEX */
    {66, 67, ALLOW}, /* TIMEO with 64 bits */
    {75, 75, ALLOW}, /* RCVMARK */
    {83, 83, ALLOW}, /* PASSRIGHTS */
};

/* Left out: signatures of segments (14, 32, 38 and above), repair (19 - 22), ULP (31), which loads kernel code for
 * protocols above TCP, and TX_DELAY (37), with which the kernel patches its code once for the machine. */
static const struct option_range tcp_options[] = {
    {1, 13, ALLOW},
    {15, 18, ALLOW},
    {23, 30, ALLOW},
    {33, 36, ALLOW},
};

/* Left out: options of raw sockets (5, 52), IPsec (16, 17), packet filters (64 and above), and MINTTL (21), for the
 * reason of TX_DELAY. The kernel bounds how many groups a socket joins. */
static const struct option_range ip_options[] = {
    {1, 4, ALLOW},   /* TOS - OPTIONS */
    {6, 15, ALLOW},  /* RECVOPTS - FREEBIND */
    {18, 20, ALLOW}, /* PASSSEC, TRANSPARENT, ORIGDSTADDR */
    {22, 26, ALLOW}, /* NODEFRAG - RECVERR_RFC4884 */
    {32, 51, ALLOW}, /* MULTICAST_IF - LOCAL_PORT_RANGE */
};

/*
 * Left out: 1, which makes it a socket of IPv4; what a socket adds to each packet (6, 54, 55, 57, 59), because it keeps
 * the text, and with 2292PKTOPTIONS 64 KiB of any text, in kernel memory that nothing counts; groups (20, 27, 42 - 48),
 * of which a socket joins any number; FLOWLABEL_MGR (32), whose labels come out of one budget of the machine; and what
 * is left out of IPv4.
 */
static const struct option_range ipv6_options[] = {
    {2, 5, ALLOW},   /* 2292PKTINFO, and which parts of a packet are received */
    {7, 11, ALLOW},  /* CHECKSUM - FLOWINFO */
    {16, 19, ALLOW}, /* UNICAST_HOPS, MULTICAST_IF, _HOPS, _LOOP */
    {23, 26, ALLOW}, /* MTU_DISCOVER, MTU, RECVERR, V6ONLY */
    {29, 29, ALLOW}, /* MULTICAST_ALL */
    {31, 31, ALLOW}, /* RECVERR_RFC4884 */
    {33, 33, ALLOW}, /* FLOWINFO_SEND */
    {49, 53, ALLOW}, /* RECVPKTINFO - RECVHOPOPTS */
    {56, 56, ALLOW}, /* RECVRTHDR */
    {58, 58, ALLOW}, /* RECVDSTOPTS */
    {60, 62, ALLOW}, /* RECVPATHMTU - DONTFRAG */
    {66, 67, ALLOW}, /* RECVTCLASS, TCLASS */
    {70, 70, ALLOW}, /* AUTOFLOWLABEL */
    {72, 72, ALLOW}, /* ADDR_PREFERENCES; MINHOPCOUNT is the MINTTL of IPv6 */
    {74, 78, ALLOW}, /* ORIGDSTADDR - FREEBIND */
};

/* Left out: ENCAP and GRO (100, 104). With the first and the last socket that has one of them the kernel patches its
 * own code, which interrupts every processor of the machine several times; and what belongs to ENCAP (101, 102). */
static const struct option_range udp_options[] = {
    {1, 1, ALLOW},     /* CORK */
    {103, 103, ALLOW}, /* SEGMENT */
};

static const struct options choices[] = {
    [CHOOSE_LEVEL - CHOOSE_LEVEL] = {RANGES(socket_levels), 1, REFUSE_ENOPROTOOPT, false},
    [CHOOSE_SOCKET_OPTION - CHOOSE_LEVEL] = {RANGES(socket_options), 2, REFUSE_ENOPROTOOPT, false},
    [CHOOSE_TCP_OPTION - CHOOSE_LEVEL] = {RANGES(tcp_options), 2, REFUSE_ENOPROTOOPT, false},
    [CHOOSE_IP_OPTION - CHOOSE_LEVEL] = {RANGES(ip_options), 2, REFUSE_ENOPROTOOPT, false},
    [CHOOSE_IPV6_OPTION - CHOOSE_LEVEL] = {RANGES(ipv6_options), 2, REFUSE_ENOPROTOOPT, false},
    [CHOOSE_UDP_OPTION - CHOOSE_LEVEL] = {RANGES(udp_options), 2, REFUSE_ENOPROTOOPT, false},
};

const struct options *sp_seccomp_socket_options(enum leaf leaf) {
    return leaf < LEAF_COUNT ? &choices[leaf - CHOOSE_LEVEL] : NULL;
}
