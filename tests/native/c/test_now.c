/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c */
/* Reads and writes of an open file whose flags another process can change. A call that waited would meet the deadline.
 */
#include <sys/socket.h>

#include "check.h"
#include "common/fd.h"
#include "refused.h"

static char bytes[1 << 20];

static void nothing_waits(const int pair[2]) {
    CHECK(sp_read_now(pair[0], bytes, sizeof bytes) == -1 && errno == EAGAIN);
    CHECK(fcntl(pair[0], F_SETFL, 0) == 0 && fcntl(pair[1], F_SETFL, 0) == 0);
    CHECK(sp_write_now(pair[1], "text", 4) == 4 && sp_read_now(pair[0], bytes, sizeof bytes) == 4);
    CHECK(memcmp(bytes, "text", 4) == 0);
    CHECK(sp_read_now(pair[0], bytes, sizeof bytes) == -1 && errno == EAGAIN);
    while (sp_write_now(pair[1], bytes, 4096) > 0) {
        CHECK(fcntl(pair[1], F_SETFL, 0) == 0);
    }
    CHECK(errno == EAGAIN);
    while (sp_read_now(pair[0], bytes, 4096) > 0) {
        CHECK(fcntl(pair[0], F_SETFL, 0) == 0);
    }
    CHECK(errno == EAGAIN);
    CHECK(close(pair[1]) == 0 && sp_read_now(pair[0], bytes, sizeof bytes) == 0);
    CHECK(close(pair[0]) == 0);
}

static void of_pipes_and_sockets(void) {
    int pair[2];
    CHECK(sp_pipe(pair) == 0);
    nothing_waits(pair);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    nothing_waits(pair);
}

static int refusal;

static void of_an_older_kernel(void) {
    refuse(__NR_preadv2, refusal);
    refuse(__NR_pwritev2, refusal);
    of_pipes_and_sockets();
}

static void with_and_without_the_calls_of_the_kernel(void) {
    static const int refusals[] = {EOPNOTSUPP, ENOSYS, EPERM};
    CHECK(in_child(of_pipes_and_sockets, 10) == 0);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        refusal = refusals[i];
        CHECK(in_child(of_an_older_kernel, 10) == 0);
    }
}

int main(void) {
    check_deadline(60);
    RUN(with_and_without_the_calls_of_the_kernel);
    return check_report();
}
