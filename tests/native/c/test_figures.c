/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/common/text.c csrc/init/files.c csrc/init/proc.c csrc/init/lines.c csrc/init/machine.c
 * csrc/init/sockets.c csrc/common/mountinfo_linux.c csrc/init/mount_flags.c */
/* The figures of memory and sockets, read from this machine and from made-up texts. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "check.h"
#include "common/fd.h"
#include "init/machine.h"
#include "init/sockets.h"

#define MIB (UINT64_C(1024) * 1024)

static char folder[] = "/tmp/sandpool-figures-XXXXXX";
static int fake = -1;

static void write_text(const char *name, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        abort();
    }
    (void)fputs(text, file);
    (void)fclose(file);
}

static struct sp_machine_kernel kernel_of(int proc) {
    sp_auto_fd int meminfo = openat(proc, "meminfo", O_RDONLY | O_CLOEXEC);
    return sp_machine_kernel(meminfo);
}

static void kernel_memory_is_the_rest_of_the_total(void) {
    CHECK(kernel_of(fake).used == 0); /* 0: unknown */
    write_text("meminfo", "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable: 300 kB\nBuffers: 20 kB\nCached: 30 kB\n"
                          "SwapCached: 1 kB\nActive: 9 kB\nAnonPages: 49 kB\nSReclaimable: 100 kB\nSUnreclaim: 50 kB\n"
                          "VmallocTotal: 9000 kB\nVmallocUsed: 14 kB\n");
    CHECK(kernel_of(fake).used == UINT64_C(700) * 1024);
    CHECK(kernel_of(fake).objects == UINT64_C(64) * 1024);
    write_text("meminfo", "MemTotal:  1000 kB\nMemFree: 2000 kB\n");
    CHECK(kernel_of(fake).used == 0);
}

static void a_reading_serves_for_a_few_milliseconds(void) {
    struct sp_machine_reading reading = {.at = 0};
    write_text("meminfo", "MemTotal:  1000 kB\nMemFree: 900 kB\n");
    sp_machine_read_sometimes(&reading, fake);
    CHECK(reading.at != 0 && reading.kernel.used == UINT64_C(100) * 1024);
    write_text("meminfo", "MemTotal:  1000 kB\nMemFree: 800 kB\n");
    reading.at = sp_now() + SP_SEC(60); /* taken just now, however slow this machine is */
    sp_machine_read_sometimes(&reading, fake);
    CHECK(reading.kernel.used == UINT64_C(100) * 1024);
    reading.at = sp_now() - SP_MS(6);
    sp_machine_read_sometimes(&reading, fake);
    CHECK(reading.kernel.used == UINT64_C(200) * 1024);
}

static void free_pages_of_processors_are_added_up(void) {
    CHECK(sp_machine_free_lists(fake) == 0);
    write_text("zoneinfo", "Node 0, zone DMA\n  pagesets\n    cpu: 0\n              count:    3\n"
                           "              high:     9\n    cpu: 1\n              count: 5\n");
    CHECK(sp_machine_free_lists(fake) == 8 * (uint64_t)sysconf(_SC_PAGESIZE));
}

static void this_machine_has_figures(void) {
    sp_auto_fd int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    sp_auto_fd int memfd = memfd_create("x", MFD_CLOEXEC);
    CHECK(kernel_of(proc).used > MIB && kernel_of(proc).objects > MIB);
    CHECK(sp_machine_processors() >= 1);
    CHECK(memfd != -1 && fallocate(memfd, 0, 0, (off_t)MIB) == 0 && sp_machine_shared() >= MIB);
}

static void sockets_are_counted_by_family(void) {
    write_text("net/sockstat", "sockets: used 100\nTCP: inuse 10 orphan 0 tw 0 alloc 900 mem 1\nUDP: inuse 5 mem 0\n");
    struct sp_sockets sockets = sp_sockets_count(fake);
    CHECK(sockets.inet == 15 && sockets.local == 85);
    write_text("net/sockstat6", "TCP6: inuse 7\nUDP6: inuse 3\n");
    sockets = sp_sockets_count(fake);
    CHECK(sockets.inet == 25 && sockets.local == 75);
    write_text("net/sockstat", "sockets: used 4\n");
    sockets = sp_sockets_count(fake);
    CHECK(sockets.inet == 10 && sockets.local == 0);
}

#define TCP_HEAD "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n"

static void bytes_queued_in_sockets_are_counted(void) {
    const struct sp_budget enough = sp_budget_of(INT64_C(10000000000));
    uint64_t bytes = 1;
    CHECK(sp_sockets_queued(fake, &enough, &bytes) && bytes == 0);
    write_text("net/tcp", TCP_HEAD "   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000\n");
    CHECK(sp_sockets_queued(fake, &enough, &bytes) && bytes == 0);
    write_text("net/udp", TCP_HEAD "  12: 0100007F:0050 00000000:0000 0A 0000000A:00000100 00:00000000\n");
    CHECK(sp_sockets_queued(fake, &enough, &bytes) && bytes == 2 * (10 + 256) + UINT64_C(32) * 1024);
}

#define NETLINK_HEAD "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
#define NETLINK_LINE(rmem) "0000000000000000 0   4294963 00000000 " rmem " 0        0     2        0        22\n"

static void what_netlink_sockets_take_is_counted(void) {
    uint64_t bytes = 1;
    CHECK(sp_sockets_netlink(fake, &bytes) && bytes == 0);
    write_text("net/netlink", NETLINK_HEAD NETLINK_LINE("0       ") NETLINK_LINE("212736  "));
    CHECK(sp_sockets_netlink(fake, &bytes) && bytes == 2 * UINT64_C(2048) + 212736);
    write_text("net/netlink", NETLINK_HEAD NETLINK_LINE("8386560 ")); /* SP_SOCKETS_NETLINK_MAX with the socket */
    CHECK(sp_sockets_netlink(fake, &bytes));
    write_text("net/netlink", NETLINK_HEAD NETLINK_LINE("8386561 "));
    CHECK(!sp_sockets_netlink(fake, &bytes));
}

#define UNIX_HEAD "Num       RefCount Protocol Flags    Type St Inode Path\n"
#define UNIX_PAIR "0000000000000000: 00000003 00000000 00000000 0001 03 18123774\n"
#define UNIX_LISTENER "0000000000000000: 00000002 00000000 00010000 0001 01 18123771 @02 0\n"

static void connections_that_wait_are_found(void) {
    const struct sp_budget enough = sp_budget_of(INT64_C(10000000000));
    CHECK(!sp_sockets_wait(fake, &enough));
    write_text("net/unix", UNIX_HEAD UNIX_PAIR UNIX_LISTENER UNIX_PAIR);
    CHECK(!sp_sockets_wait(fake, &enough));
    write_text("net/unix",
               UNIX_HEAD UNIX_PAIR "0000000000000000: 00000003 00000000 00000000 0001 02     0 @02 0\n" UNIX_LISTENER);
    CHECK(sp_sockets_wait(fake, &enough));
}

static void the_size_of_a_socket_pair_is_measured(void) {
    CHECK(sp_sockets_pair_bytes() >= 4096);
    CHECK(sp_sockets_pair_bytes() == sp_sockets_pair_bytes());
}

static void remove_the_texts(void) {
    static const char *const names[] = {"meminfo", "zoneinfo", "net/sockstat", "net/sockstat6", "net/tcp",
                                        "net/udp", "net/unix", "net/netlink",  "net",           ""};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        CHECK(remove(path) == 0);
    }
}

int main(void) {
    check_deadline(60);
    if (mkdtemp(folder) == NULL) {
        return EXIT_FAILURE;
    }
    fake = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(mkdirat(fake, "net", 0700) == 0);
    RUN(kernel_memory_is_the_rest_of_the_total);
    RUN(a_reading_serves_for_a_few_milliseconds);
    RUN(free_pages_of_processors_are_added_up);
    RUN(this_machine_has_figures);
    RUN(sockets_are_counted_by_family);
    RUN(connections_that_wait_are_found);
    RUN(bytes_queued_in_sockets_are_counted);
    RUN(what_netlink_sockets_take_is_counted);
    RUN(the_size_of_a_socket_pair_is_measured);
    RUN(remove_the_texts);
    return check_report();
}
