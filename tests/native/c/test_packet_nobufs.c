/* sources: csrc/common/wire.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c */
/*
 * The kernel returns ENOBUFS when it has no memory for a packet, and ETOOMANYREFS when the user has too many
 * descriptors in flight; poll() says all the same that the socket is writable. The send must wait, and must not spin.
 */
#include <errno.h>
#include <limits.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "machine.h"

static unsigned refusals; /* how many sends are still refused */
static unsigned tries;
static unsigned raised; /* how many of them were made with the hard limit */
static int refusal = ENOBUFS;

static ssize_t refuse_send(int sock, const struct msghdr *msg) {
    tries++;
    if (refusals != 0) {
        refusals--;
        errno = refusal;
        return -1;
    }
    return sp_send_now(sock, msg);
}

static ssize_t refuse_send_at_hard_limit(int sock, const struct msghdr *msg) {
    raised++;
    return refuse_send(sock, msg);
}

/* NOLINTBEGIN(bugprone-suspicious-include): with two calls renamed */
#define sp_send_now refuse_send
#define sp_send_at_hard_limit refuse_send_at_hard_limit
#include "common/packet.c"
#undef sp_send_now
#undef sp_send_at_hard_limit
/* NOLINTEND(bugprone-suspicious-include) */

static const struct sp_record ack = {.type = SP_REC_ACK, .u.id.id = 7};

static int send_ack(int sock, unsigned refused, int64_t deadline) {
    tries = raised = 0;
    refusals = refused;
    return sp_packet_send(sock, &(struct sp_outgoing){.record = &ack}, deadline);
}

static void a_send_succeeds_when_there_is_memory_again(void) {
    int pair[2];
    struct sp_packet packet;
    CHECK(sp_stream_pair(pair) == 0);
    CHECK(send_ack(pair[0], 3, SP_NEVER) == 0 && tries == 4);
    CHECK(sp_packet_recv(pair[1], &packet, NULL, 0) == 0 && packet.record.u.id.id == 7);
    sp_packet_close(&packet);
    sp_fd_close(&pair[0]);
    sp_fd_close(&pair[1]);
}

static void a_send_does_not_spin_until_the_deadline(void) {
    int pair[2];
    CHECK(sp_stream_pair(pair) == 0);
    int64_t begun = sp_now();
    CHECK(send_ack(pair[0], UINT_MAX, begun + 30 * MS) == -ETIMEDOUT);
    CHECK(sp_now() - begun >= 30 * MS);
    CHECK(tries <= 31 + 1);
    CHECK(send_ack(pair[0], UINT_MAX, begun) == -ETIMEDOUT && tries == 1);
    sp_fd_close(&pair[0]);
    sp_fd_close(&pair[1]);
}

static void a_send_ends_with_the_peer(void) {
    int pair[2];
    CHECK(sp_stream_pair(pair) == 0);
    sp_fd_close(&pair[1]);
    CHECK(send_ack(pair[0], 1, SP_NEVER) == -EPIPE && tries == 2);
    sp_fd_close(&pair[0]);
}

static void a_send_succeeds_at_the_hard_limit(void) {
    int pair[2];
    CHECK(sp_stream_pair(pair) == 0);
    CHECK(send_ack(pair[0], 1, SP_NEVER) == 0 && tries == 2 && raised == 1);
    CHECK(send_ack(pair[0], 3, SP_NEVER) == 0 && tries == 4 && raised == 2);
    CHECK(send_ack(pair[0], UINT_MAX, sp_now() + 30 * MS) == -ETIMEDOUT && tries <= 2 * 31 + 2);
    sp_fd_close(&pair[0]);
    sp_fd_close(&pair[1]);
}

static void a_send_keeps_no_descriptor(void) {
    static unsigned before;
    CHECK(before == 0 || count_fds() == before);
    before = count_fds();
}

int main(void) {
    check_deadline(60);
    RUN(a_send_keeps_no_descriptor);
    RUN(a_send_succeeds_when_there_is_memory_again);
    RUN(a_send_does_not_spin_until_the_deadline);
    RUN(a_send_ends_with_the_peer);
    refusal = ETOOMANYREFS;
    RUN(a_send_succeeds_at_the_hard_limit);
    RUN(a_send_keeps_no_descriptor);
    return check_report();
}
