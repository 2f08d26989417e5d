/* Checks of the calls that make sockets, name them and set their buffers. */
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "host/seccomp/leaf.h"
#include "sandpool.h"

/* Constants that some supported headers do not have yet. */
#define SP_SO_PEERGROUPS 59
#define SP_SO_PEERPIDFD 77

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

/* Where only socket pairs exist, init counts each socket as full, with the size that it was created with. So setting
 * the size has no effect, but succeeds, as setting too large a size does. */
static void check_sndbuf(struct block *b, const struct sp_seccomp_policy *policy) {
    bool only_pairs = policy->profile == SP_SECCOMP_ESSENTIAL && !policy->allow_unix_sockets;
    if (only_pairs || policy->own_network) {
        refuse(b, 0);
    } else {
        emit_verdict(b, SECCOMP_RET_ALLOW);
    }
}

/*
 * The buffers of TCP come out of one budget of the machine (tcp_mem). In a network namespace of the sandbox's own they
 * are small and must stay small. The kernel itself silently grants less than what a program asks for, too.
 */
static void check_rcvbuf(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->own_network) {
        refuse(b, 0);
    } else {
        emit_verdict(b, SECCOMP_RET_ALLOW);
    }
}

/* In the host's network a tenant that has the uid of one of its servers would get a part of its connections. */
static void check_reuseport(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->own_network) {
        emit_verdict(b, SECCOMP_RET_ALLOW);
    } else {
        refuse(b, ENOPROTOOPT);
    }
}

/* The other end of a session's channel is the host's: SO_PEERPIDFD is a descriptor of the host's process, whatever the
 * namespaces are, and SO_PEERGROUPS tells how many groups it has. */
static void check_getsockopt(struct block *b, const struct sp_seccomp_policy *policy) {
    (void)policy;
    load_low(b, 1);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 5);
    load_low(b, 2);
    refuse_if_equal(b, SP_SO_PEERGROUPS, ENOPROTOOPT);
    refuse_if_equal(b, SP_SO_PEERPIDFD, ENOPROTOOPT);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/* The low 4 bits are the type, the others flags such as SOCK_CLOEXEC. */
static void load_socket_type(struct block *b) {
    load_low(b, 1);
    emit(b, BPF_ALU | BPF_AND | BPF_K, 0xf, 0, 0);
}

/*
 * getifaddrs() and its relatives list the interfaces by NETLINK_ROUTE. To change anything, the kernel demands a
 * capability over the network namespace, which no tenant has. Every other protocol is a subsystem of its own
 * (netfilter, audit, crypto, ...). The jumps of a socket that is not allowed here lead to the end of this function.
 */
static void allow_route_netlink(struct block *b) {
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 7);
    load_socket_type(b);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, SOCK_RAW, 1, 0);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, SOCK_DGRAM, 0, 3);
    load_low(b, 2);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, NETLINK_ROUTE, 0, 1);
    emit_verdict(b, SECCOMP_RET_ALLOW);
    load_low(b, 0);
}

/*
 * A family that is not allowed looks as if the kernel did not have it, because libc and language runtimes handle that
 * case: netlink (glibc then does without interface lists), inet6 (they fall back to inet), unix (no nscd, no syslog).
 * Of inet only TCP and UDP are allowed: for another protocol the kernel would load its module (SCTP, DCCP, SMC), and
 * Landlock's TCP rules do not cover MPTCP.
 */
static void check_socket(struct block *b, const struct sp_seccomp_policy *policy) {
    static const uint32_t families[] = {AF_INET, AF_INET6};
    static const uint32_t types[] = {SOCK_STREAM, SOCK_DGRAM};
    static const uint32_t protocols[] = {0, IPPROTO_TCP, IPPROTO_UDP};
    load_low(b, 0);
    if (policy->allow_unix_sockets) {
        emit(b, BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1);
        emit_verdict(b, SECCOMP_RET_ALLOW);
    }
    if (policy->profile != SP_SECCOMP_NETWORK) {
        refuse(b, EAFNOSUPPORT);
        return;
    }
    if (policy->list_interfaces) {
        allow_route_netlink(b);
    }
    require_one_of(b, families, LENGTH(families), EAFNOSUPPORT);
    load_socket_type(b);
    require_one_of(b, types, LENGTH(types), EPERM);
    load_low(b, 2);
    require_one_of(b, protocols, LENGTH(protocols), EPROTONOSUPPORT);
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

/*
 * One end of a datagram pair (or SOCK_RAW, which is the same) is a complete AF_UNIX socket: it can send and connect to
 * any address. So without allow_unix_sockets only the connected types are allowed, whose peer cannot be changed.
 */
static void check_socketpair(struct block *b, const struct sp_seccomp_policy *policy) {
    static const uint32_t families[] = {AF_UNIX};
    static const uint32_t types[] = {SOCK_STREAM, SOCK_SEQPACKET};
    load_low(b, 0);
    require_one_of(b, families, LENGTH(families), EAFNOSUPPORT);
    if (!policy->allow_unix_sockets) {
        load_socket_type(b);
        require_one_of(b, types, LENGTH(types), ESOCKTNOSUPPORT);
    }
    emit_verdict(b, SECCOMP_RET_ALLOW);
}

static void check_named(struct block *b, const struct sp_seccomp_policy *policy) {
    if (policy->profile == SP_SECCOMP_NETWORK || policy->allow_unix_sockets) {
        emit_verdict(b, SECCOMP_RET_ALLOW);
    } else {
        refuse(b, EPERM);
    }
}

static void (*const write_socket[])(struct block *, const struct sp_seccomp_policy *) = {
    [CHECK_SNDBUF - CHECK_SNDBUF] = check_sndbuf,       [CHECK_RCVBUF - CHECK_SNDBUF] = check_rcvbuf,
    [CHECK_REUSEPORT - CHECK_SNDBUF] = check_reuseport, [CHECK_GETSOCKOPT - CHECK_SNDBUF] = check_getsockopt,
    [CHECK_SOCKET - CHECK_SNDBUF] = check_socket,       [CHECK_SOCKETPAIR - CHECK_SNDBUF] = check_socketpair,
    [CHECK_NAMED - CHECK_SNDBUF] = check_named,
};

void sp_seccomp_write_socket(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy) {
    write_socket[leaf - CHECK_SNDBUF](b, policy);
}
