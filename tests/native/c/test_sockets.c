/* sources: csrc/init/sockets.c csrc/init/lines.c csrc/init/proc.c csrc/common/fd.c */
/* What the memory watch reads about sockets, with a plain directory in place of /proc. */
#include "init/sockets.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "refused.h"

static char folder[] = "/tmp/sandpool-sockets-XXXXXX";
static int proc = -1;

static void write_file(const char *name, const char *text) {
    int fd = openat(proc, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    (void)close(fd);
}

static const struct sp_budget enough = {INT64_MAX}, spent = {0};

/* More lines than are read however long that takes. */
static void write_many(const char *name, const char *line) {
    static char text[SP_BUDGET_UNTIMED * 256];
    size_t at = 0;
    for (unsigned n = 0; n < 2 * SP_BUDGET_UNTIMED; n++) {
        const int wrote = snprintf(text + at, sizeof text - at, "%s", line);
        CHECK(wrote > 0 && (size_t)wrote < sizeof text - at);
        at += (size_t)wrote;
    }
    write_file(name, text);
}

static void sockets_are_counted_by_kind(void) {
    write_file("net/sockstat", "sockets: used 12\nTCP: inuse 3 orphan 0 tw 0\nUDP: inuse 2 mem 0\n");
    CHECK(sp_sockets_count(proc).inet == 5 && sp_sockets_count(proc).local == 7);
    write_file("net/sockstat6", "TCP6: inuse 4\nUDP6: inuse 20\n");
    CHECK(sp_sockets_count(proc).inet == 29 && sp_sockets_count(proc).local == 0);
    CHECK(unlinkat(proc, "net/sockstat", 0) == 0 && unlinkat(proc, "net/sockstat6", 0) == 0);
    CHECK(sp_sockets_count(proc).inet == 0 && sp_sockets_count(proc).local == 0);
}

static void queues_are_added_up(void) {
    static const char tcp[] = "  sl  local_address rem_address   st tx_queue rx_queue tr\n"
                              "   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000\n"
                              "   1: 0100007F:0050 0100007F:1234 01 00000010:00000020 00:00000000\n";
    uint64_t bytes = 0;
    CHECK(sp_sockets_queued(proc, &enough, &bytes) && bytes == 0); /* no table at all */
    write_file("net/tcp", tcp);
    write_file("net/udp6", tcp);
    CHECK(sp_sockets_queued(proc, &enough, &bytes) && bytes == UINT64_C(2) * (2 * 0x30 + 32 * 1024));
    CHECK(sp_sockets_queued(proc, &spent, &bytes)); /* so few lines are read on any machine */
    write_many("net/udp6", "   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000\n");
    CHECK(sp_sockets_queued(proc, &enough, &bytes) && !sp_sockets_queued(proc, &spent, &bytes));
}

static void connections_that_wait_are_seen(void) {
    static const char heading[] = "Num       RefCount Protocol Flags    Type St Inode Path\n";
    char text[512];
    CHECK(!sp_sockets_wait(proc, &enough));
    (void)snprintf(text, sizeof text, "%s%s", heading,
                   "0000000000000000: 00000002 00000000 00010000 0001 01 1234 @listens\n"
                   "0000000000000000: 00000002 00000000 00000000 0001 02 77 @connects\n");
    write_file("net/unix", text);
    CHECK(!sp_sockets_wait(proc, &enough) && !sp_sockets_wait(proc, &spent));
    write_many("net/unix", "0000000000000000: 00000003 00000000 00000000 0001 03 18123774\n");
    CHECK(!sp_sockets_wait(proc, &enough) && sp_sockets_wait(proc, &spent)); /* there may be one */
    (void)snprintf(text, sizeof text, "%s%s", heading,
                   "0000000000000000: 00000002 00000000 00000000 0001 02 0 @not accepted\n");
    write_file("net/unix", text);
    CHECK(sp_sockets_wait(proc, &enough));
}

static void without_sockets(void) {
    refuse(SYS_socketpair, EMFILE);
    CHECK(sp_sockets_pair_bytes() == UINT64_C(208) * 1024);
}

static void a_pair_is_as_large_as_usual_where_none_can_be_made(void) {
    CHECK(in_child(without_sockets, 10) == 0);
    const uint64_t bytes = sp_sockets_pair_bytes();
    CHECK(bytes != 0 && sp_sockets_pair_bytes() == bytes);
}

int main(void) {
    static const char *const files[] = {"net/tcp", "net/udp6", "net/unix"};
    check_deadline(60);
    if (mkdtemp(folder) == NULL) {
        return EXIT_FAILURE;
    }
    proc = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(mkdirat(proc, "net", 0700) == 0);
    RUN(sockets_are_counted_by_kind);
    RUN(queues_are_added_up);
    RUN(connections_that_wait_are_seen);
    RUN(a_pair_is_as_large_as_usual_where_none_can_be_made);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        (void)unlinkat(proc, files[i], 0);
    }
    CHECK(unlinkat(proc, "net", AT_REMOVEDIR) == 0 && rmdir(folder) == 0);
    return check_report();
}
