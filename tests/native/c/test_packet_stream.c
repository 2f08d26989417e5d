/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c */
/* The same records over a stream of bytes, as on macOS: only their sizes separate them. */
#include "common/clock.h"
#include "common/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "common/fd.h"
#include "machine.h"

static int near_end;
static int far_end;
static unsigned fds_before;

static void open_ends(void) {
    int pair[2];

    fds_before = count_fds();
    CHECK(sp_stream_pair(pair) == 0);
    CHECK((fcntl(pair[0], F_GETFD) & fcntl(pair[1], F_GETFD) & FD_CLOEXEC) != 0);
    near_end = pair[0];
    far_end = pair[1];
}

static void close_ends(void) {
    sp_fd_close(&near_end);
    sp_fd_close(&far_end);
    CHECK(count_fds() == fds_before);
}

static struct sp_record ack_of(uint32_t id) { return (struct sp_record){.type = SP_REC_ACK, .u.id.id = id}; }

static void records_stay_apart(void) {
    open_ends();
    for (uint32_t id = 1; id <= 3; id++) {
        struct sp_record ack = ack_of(id);
        const int sent[1] = {far_end};
        CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack, .fds = sent, .n_fds = id == 2}, 0) == 0);
    }
    for (uint32_t id = 1; id <= 3; id++) {
        struct sp_packet packet;
        CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0);
        CHECK(packet.record.u.id.id == id && packet.n_fds == (id == 2) && packet.payload_len == 0);
        sp_packet_close(&packet);
    }
    struct sp_packet none;
    CHECK(sp_packet_recv(near_end, &none, NULL, 0) == -EAGAIN);
    close_ends();
}

static char large[300 * 1024];

static void *send_large(void *len) {
    struct sp_record exec = {.type = SP_REC_EXEC,
                             .u.exec = {.id = 1, .argc = 1, .payload_len = (uint32_t) * (size_t *)len}};
    const int fds[2] = {far_end, far_end};
    struct sp_outgoing out = {.record = &exec, .payload = large, .payload_len = *(size_t *)len, .fds = fds, .n_fds = 2};
    CHECK(sp_packet_send(far_end, &out, SP_NEVER) == 0);
    return NULL;
}

/* Far more bytes than the socket holds: the sender has to wait in the middle of many chunks. */
static void payloads_arrive(void) {
    static const size_t lengths[] = {2, SP_PACKET_MAX - 1, SP_PACKET_MAX, SP_PACKET_MAX + 1, sizeof large};
    static char got[sizeof large];
    const int small = 4096;

    for (size_t i = 0; i < sizeof large; i++) {
        large[i] = (char)(i * 7 + i / 251);
    }
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t len = lengths[i];
        pthread_t sender;
        struct sp_packet packet;

        open_ends();
        CHECK(setsockopt(far_end, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        CHECK(pthread_create(&sender, NULL, send_large, &len) == 0);
        CHECK(sp_wait_fd(near_end, POLLIN, SP_NEVER) == 0);
        CHECK(sp_packet_recv(near_end, &packet, got, SP_PACKET_MAX) == 0);
        CHECK(packet.n_fds == 2 && packet.record.u.exec.payload_len == len && packet.payload_len <= len);
        CHECK(sp_payload_recv(near_end, got, packet.payload_len, len, SP_NEVER) == 0);
        CHECK(memcmp(got, large, len) == 0);
        CHECK(pthread_join(sender, NULL) == 0);
        sp_packet_close(&packet);
        close_ends();
    }
}

static void a_part_of_a_record_is_malformed(void) {
    uint8_t bytes[SP_RECORD_SIZE];
    struct sp_record ack = ack_of(1);

    sp_wire_pack(&ack, bytes);
    for (size_t len = 1; len < sizeof bytes; len += 42) {
        struct sp_packet packet;
        open_ends();
        CHECK(write(far_end, bytes, len) == (ssize_t)len);
        CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -EBADMSG);
        close_ends();
    }
}

static void end_of_file_is_seen(void) {
    struct sp_packet packet;
    struct sp_record ack = ack_of(1);
    char byte;

    open_ends();
    sp_fd_close(&far_end);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -ECONNRESET);
    CHECK(sp_payload_recv(near_end, &byte, 0, 1, SP_NEVER) == -ECONNRESET);
    CHECK(sp_packet_send(near_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) ==
          -EPIPE); /* and SIGPIPE is not raised */
    close_ends();
}

static void a_sender_gives_up_at_its_deadline(void) {
    struct sp_record exec = {.type = SP_REC_EXEC, .u.exec = {.id = 1, .argc = 1, .payload_len = sizeof large}};
    struct sp_outgoing out = {.record = &exec, .payload = large, .payload_len = sizeof large};

    open_ends();
    CHECK(sp_packet_send(far_end, &out, sp_now() + 10000000) == -ETIMEDOUT);
    close_ends();
}

int main(void) {
    check_deadline(30);
    RUN(records_stay_apart);
    RUN(payloads_arrive);
    RUN(a_part_of_a_record_is_malformed);
    RUN(end_of_file_is_seen);
    RUN(a_sender_gives_up_at_its_deadline);
    return check_report();
}
