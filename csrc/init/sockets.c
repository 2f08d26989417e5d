#include "init/sockets.h"

#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "init/lines.h"
#include "init/proc.h"

#define KIB UINT64_C(1024)
#define PAIR_DEFAULT (208 * KIB) /* net.core.wmem_default of most machines */
/* A queue of N bytes may take twice as much memory, and a socket that is in use always takes some pages. */
#define BUSY_SOCKET (32 * KIB)
#define NETLINK_SOCKET (2 * KIB) /* the structure of the kernel, which is not charged to a cgroup either */
#define BUDGET_LINES 32          /* between two checks of the budget */

uint64_t sp_sockets_pair_bytes(void) {
    static uint64_t bytes;
    int ends[2] = {-1, -1};
    int size = 0;
    socklen_t len = sizeof size;
    if (bytes != 0) {
        return bytes;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
        (void)getsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, &len);
        sp_fd_close(&ends[0]);
        sp_fd_close(&ends[1]);
    }
    bytes = size > 0 ? (uint64_t)size : PAIR_DEFAULT;
    return bytes;
}

/* "sockets: used 5", "TCP: inuse 1 orphan 0 ...", "UDP6: inuse 0": see proc_pid_net(5). */
struct sp_sockets sp_sockets_count(int proc) {
    static const char *const inet[] = {"\nTCP: inuse ", "\nUDP: inuse ", "\nTCP6: inuse ", "\nUDP6: inuse "};
    char text[1024];
    uint64_t used = 0;
    struct sp_sockets sum = {0};
    text[0] = '\n';
    for (int version = 0; version < 2; version++) {
        if (!sp_read_text(proc, version == 0 ? "net/sockstat" : "net/sockstat6", text + 1, sizeof text - 1)) {
            continue;
        }
        (void)(version == 0 && sp_find_number(text, "\nsockets: used ", &used));
        for (size_t i = 0; i < sizeof inet / sizeof inet[0]; i++) {
            uint64_t n = 0;
            sum.inet += sp_find_number(text, inet[i], &n) ? (unsigned)n : 0;
        }
    }
    sum.local = used > sum.inet ? (unsigned)used - sum.inet : 0;
    return sum;
}

/* "   0: 0100007F:0050 00000000:0000 0A 0000001A:00000000 00:...": the fifth word is the length of the send queue and
 * of the receive queue. */
static uint64_t bytes_of_line(const char *line) {
    for (int word = 0; word < 4; word++) {
        line = sp_next_word(line);
    }
    uint64_t out = sp_number(&line, 16);
    uint64_t in = sp_number(&line, 16);
    return out + in == 0 ? 0 : 2 * (out + in) + BUSY_SOCKET;
}

static bool add_table(int proc, const char *name, const struct sp_budget *budget, uint64_t *bytes) {
    struct sp_lines lines;
    const char *line;
    sp_auto_fd int fd = sp_lines_open(&lines, proc, name);
    (void)(fd != -1 ? sp_lines_next(&lines) : NULL); /* the heading */
    for (unsigned n = 1; fd != -1 && (line = sp_lines_next(&lines)) != NULL; n++) {
        *bytes += bytes_of_line(line);
        if (sp_budget_ends(budget, n, BUDGET_LINES)) {
            return false;
        }
    }
    return true;
}

bool sp_sockets_queued(int proc, const struct sp_budget *budget, uint64_t *bytes) {
    static const char *const tables[] = {"net/tcp", "net/tcp6", "net/udp", "net/udp6"};
    *bytes = 0;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (!add_table(proc, tables[i], budget, bytes)) {
            return false;
        }
    }
    return true;
}

/* "0000000000000000 0   1234       00000111 212736   0        0     2        0        12345": the fifth word is what
 * the receive queue takes, in bytes of memory. */
static uint64_t bytes_of_netlink(const char *line) {
    for (int word = 0; word < 4; word++) {
        line = sp_next_word(line);
    }
    return NETLINK_SOCKET + sp_number(&line, 10);
}

bool sp_sockets_netlink(int proc, uint64_t *bytes) {
    struct sp_lines lines;
    const char *line;
    sp_auto_fd int fd = sp_lines_open(&lines, proc, "net/netlink");
    *bytes = 0;
    (void)(fd != -1 ? sp_lines_next(&lines) : NULL); /* the heading */
    while (fd != -1 && *bytes <= SP_SOCKETS_NETLINK_MAX && (line = sp_lines_next(&lines)) != NULL) {
        *bytes += bytes_of_netlink(line);
    }
    return *bytes <= SP_SOCKETS_NETLINK_MAX;
}

/* "0000000000000000: 00000002 00000000 00000000 0001 02 0 @name": the state is "connecting" and the inode 0, because
 * the socket belongs to no file yet. */
static bool is_not_accepted(const char *line) {
    for (int word = 0; word < 5; word++) {
        line = sp_next_word(line);
    }
    const char *inode = sp_next_word(line);
    return sp_number(&line, 16) == 2 && sp_number(&inode, 10) == 0;
}

bool sp_sockets_wait(int proc, const struct sp_budget *budget) {
    struct sp_lines lines;
    const char *line;
    sp_auto_fd int fd = sp_lines_open(&lines, proc, "net/unix");
    (void)(fd != -1 ? sp_lines_next(&lines) : NULL); /* the heading */
    for (unsigned n = 1; fd != -1 && (line = sp_lines_next(&lines)) != NULL; n++) {
        if (is_not_accepted(line) || sp_budget_ends(budget, n, BUDGET_LINES)) {
            return true;
        }
    }
    return false;
}
