/* The options of sockets, by their levels: as option.c. */
#include <stddef.h>

#include "host/seccomp/leaf.h"

/*
 * Options that setsockopt() may set. Left out: filters (26, 50 - 52) and their lock (44), because each descriptor's
 * filter takes kernel memory, and a part of the machine's memory for compiled filters, as seccomp filters do; ZEROCOPY
 * (60), because sent data then stays in pages that the socket pins; RESERVE_MEM (73); options of network cards.
 * LINGER (13) has no effect: it makes whoever closes the last descriptor of a TCP socket wait, for as long as the
 * option says. That is the host when a tenant has sent the descriptor over the channel of an interpreter, and a thread
 * of the kernel, which then closes no other file of the machine, when the socket was in a cycle of queues.
 */
static const struct option_range socket_levels[] = {
    {0, 0, ALLOW}, /* IP */
    {1, 1, CHOOSE_SOCKET_OPTION},
    {6, 6, CHOOSE_TCP_OPTION},
    {17, 17, ALLOW}, /* UDP */
    {41, 41, ALLOW}, /* IPv6 */
};

static const struct option_range socket_options[] = {
    {1, 6, ALLOW}, /* DEBUG, REUSEADDR, TYPE, ERROR, DONTROUTE, BROADCAST */
    {7, 7, CHECK_SNDBUF}, {8, 8, CHECK_RCVBUF}, {9, 12, ALLOW}, /* KEEPALIVE, OOBINLINE, NO_CHECK, PRIORITY */
    {13, 13, PRETEND},                                          /* LINGER */
    {14, 21, ALLOW}, /* BSDCOMPAT, REUSEPORT, PASSCRED, PEERCRED, LOWAT, TIMEO */
    {25, 25, ALLOW}, /* BINDTODEVICE */
    {29, 43, ALLOW}, /* TIMESTAMP - NOFCS; those with FORCE and MARK need a capability */
    {46, 47, ALLOW}, /* BUSY_POLL, MAX_PACING_RATE */
    {49, 49, ALLOW}, /* INCOMING_CPU */
    {62, 67, ALLOW}, /* BINDTOIFINDEX, TIMESTAMP and TIMEO with 64 bits */
    {75, 76, ALLOW}, /* RCVMARK, PASSPIDFD */
    {83, 83, ALLOW}, /* PASSRIGHTS */
};

/* Left out: signatures of segments (14, 32, 38 and above), repair (19 - 22), and ULP (31), which loads kernel code for
 * protocols above TCP. */
static const struct option_range tcp_options[] = {
    {1, 13, ALLOW},
    {15, 18, ALLOW},
    {23, 30, ALLOW},
    {33, 37, ALLOW},
};

static const struct options choices[] = {
    [CHOOSE_LEVEL - CHOOSE_LEVEL] = {RANGES(socket_levels), 1, REFUSE_ENOPROTOOPT, false},
    [CHOOSE_SOCKET_OPTION - CHOOSE_LEVEL] = {RANGES(socket_options), 2, REFUSE_ENOPROTOOPT, false},
    [CHOOSE_TCP_OPTION - CHOOSE_LEVEL] = {RANGES(tcp_options), 2, REFUSE_ENOPROTOOPT, false},
};

const struct options *sp_seccomp_socket_options(enum leaf leaf) {
    return leaf < LEAF_COUNT ? &choices[leaf - CHOOSE_LEVEL] : NULL;
}
