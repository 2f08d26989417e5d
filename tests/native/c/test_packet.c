/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c */
/* Packets over a socket pair: descriptors, payloads, malformed ones, deadlines and the sender. */
#include "common/clock.h"
#include "common/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "check.h"
#include "common/fd.h"
#include "machine.h"

static int near_end;
static int far_end;
static unsigned fds_before;

static void open_ends(void) {
    int pair[2];

    fds_before = count_fds();
    make_pair(pair);
    near_end = pair[0];
    far_end = pair[1];
}

static void close_ends(void) {
    sp_fd_close(&near_end);
    sp_fd_close(&far_end);
    CHECK(count_fds() == fds_before);
}

static const struct sp_record ack = {.type = SP_REC_ACK, .u.id.id = 7};

/* ---- descriptors ---- */

static void fds_arrive_close_on_exec(void) {
    for (unsigned n = 0; n <= SP_PACKET_FDS; n++) {
        struct sp_packet packet;
        int pipes[2];

        open_ends();
        CHECK(pipe(pipes) == 0); /* not close-on-exec at the sender */
        const int sent[SP_PACKET_FDS] = {pipes[1], pipes[1], pipes[1], pipes[1], pipes[1]};
        CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack, .fds = sent, .n_fds = n}, SP_NEVER) == 0);
        CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0);
        CHECK(packet.record.type == SP_REC_ACK && packet.record.u.id.id == 7);
        CHECK(packet.n_fds == n && packet.payload_len == 0 && packet.sender == 0);
        for (unsigned i = 0; i < SP_PACKET_FDS; i++) {
            char byte = 0;

            CHECK((packet.fds[i] != -1) == (i < n));
            if (i < n) {
                CHECK((fcntl(packet.fds[i], F_GETFD) & FD_CLOEXEC) != 0);
                CHECK(write(packet.fds[i], "x", 1) == 1 && read(pipes[0], &byte, 1) == 1 && byte == 'x');
            }
        }
        CHECK(count_fds() == fds_before + 4 + n);
        sp_packet_close(&packet);
        sp_packet_close(&packet); /* safe on repetition */
        CHECK(packet.n_fds == 0);
        sp_fd_close(&pipes[0]);
        sp_fd_close(&pipes[1]);
        close_ends();
    }
}

static void stolen_fds_stay_open(void) {
    struct sp_packet packet;

    open_ends();
    CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack, .fds = &far_end, .n_fds = 1}, SP_NEVER) == 0);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0);
    sp_auto_fd int stolen = sp_fd_steal(&packet.fds[0]);
    sp_packet_close(&packet);
    CHECK(fcntl(stolen, F_GETFD) != -1);
    sp_fd_close(&stolen);
    close_ends();
}

/* With and without credentials, which take room in the control buffer, too. */
static void too_many_fds_are_refused(void) {
    uint8_t bytes[SP_RECORD_SIZE];

    sp_wire_pack(&ack, bytes);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned n = SP_PACKET_FDS + 1; n <= RAW_FDS; n++) {
            struct sp_packet packet;

            open_ends();
            CHECK(i == 0 || sp_fd_show_sender(near_end) == 0);
            send_raw(far_end, bytes, sizeof bytes, far_end, n);
            CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -EBADMSG);
            sp_packet_close(&packet);
            close_ends();
        }
    }
}

static void too_many_fds_do_not_leak(void) {
    uint8_t bytes[SP_RECORD_SIZE];

    sp_wire_pack(&ack, bytes);
    for (unsigned n = SP_PACKET_FDS + 1; n <= RAW_FDS; n++) {
        struct sp_packet packet;

        open_ends();
        send_raw(far_end, bytes, sizeof bytes, far_end, n);
        (void)sp_packet_recv(near_end, &packet, NULL, 0);
        sp_packet_close(&packet);
        close_ends();
    }
}

static void malformed_packets_lose_their_fds(void) {
    for (unsigned kind = 0; kind < 4; kind++) {
        static const size_t lengths[] = {SP_RECORD_SIZE - 1, SP_RECORD_SIZE, SP_RECORD_SIZE + 1, 1};
        uint8_t bytes[SP_RECORD_SIZE + 1] = {0};
        struct sp_packet packet;

        open_ends();
        sp_wire_pack(&ack, bytes);
        bytes[4] ^= kind == 1; /* the version */
        send_raw(far_end, bytes, lengths[kind], far_end, 2);
        CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -EBADMSG);
        CHECK(packet.n_fds == 0 && packet.fds[0] == -1);
        close_ends();
    }
}

/* Over SEQPACKET an empty packet looks like end of file, but it may bring descriptors. */
static void empty_packets_lose_their_fds(void) {
    struct sp_packet packet;

    open_ends();
    send_raw(far_end, "", 0, far_end, 2);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) < 0);
    close_ends();
}

/* ---- payloads ---- */

#define LARGEST (2U * 1024 * 1024)

static char *payload;
static char *arrived;

static void *send_payload(void *len) {
    const struct sp_record record = {.type = SP_REC_EXEC,
                                     .u.exec = {.id = 3, .argc = 1, .payload_len = (uint32_t) * (size_t *)len}};
    const struct sp_outgoing out = {.record = &record, .payload = payload, .payload_len = *(size_t *)len};

    CHECK(sp_packet_send(far_end, &out, SP_NEVER) == 0);
    return NULL;
}

static void payload_arrives(size_t len) {
    struct sp_packet packet;
    pthread_t sender;

    open_ends();
    memset(arrived, 0, LARGEST);
    CHECK(pthread_create(&sender, NULL, send_payload, &len) == 0);
    CHECK(sp_wait_fd(near_end, POLLIN, SP_NEVER) == 0);
    CHECK(sp_packet_recv(near_end, &packet, arrived, SP_PACKET_MAX) == (len < 2 ? -EBADMSG : 0));
    if (len >= 2) { /* an EXEC has two strings at least */
        CHECK(packet.record.u.exec.payload_len == len);
        CHECK(packet.payload_len == (len < SP_PACKET_MAX ? len : SP_PACKET_MAX));
        CHECK(sp_payload_recv(near_end, arrived, packet.payload_len, len, SP_NEVER) == 0);
        CHECK(memcmp(arrived, payload, len) == 0);
    }
    CHECK(pthread_join(sender, NULL) == 0);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -EAGAIN); /* nothing more was sent */
    close_ends();
}

static void payloads_arrive(void) {
    static const size_t lengths[] = {0, 1, 2, SP_PACKET_MAX - 1, SP_PACKET_MAX, SP_PACKET_MAX + 1, LARGEST};

    payload = malloc(LARGEST);
    arrived = malloc(LARGEST);
    if (payload == NULL || arrived == NULL) {
        abort();
    }
    for (size_t i = 0; i < LARGEST; i++) {
        payload[i] = (char)(i * 31 + (i >> 13));
    }
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        payload_arrives(lengths[i]);
    }
    free(payload);
    free(arrived);
}

/* A record without a payload of its own: CONFIG may announce 0 or 1 byte. */
static void smallest_payloads_arrive(void) {
    for (uint32_t len = 0; len <= 1; len++) {
        const struct sp_record config = {.type = SP_REC_CONFIG, .u.config.payload_len = len};
        const struct sp_outgoing out = {.record = &config, .payload = "p", .payload_len = len};
        struct sp_packet packet;
        char buf[2] = "..";

        open_ends();
        CHECK(sp_packet_send(far_end, &out, SP_NEVER) == 0);
        CHECK(sp_packet_recv(near_end, &packet, buf, sizeof buf) == 0);
        CHECK(packet.payload_len == len && buf[0] == (len == 0 ? '.' : 'p'));
        CHECK(sp_payload_recv(near_end, buf, len, len, 0) == 0);
        close_ends();
    }
}

static void payload_without_room_is_refused(void) {
    const struct sp_record config = {.type = SP_REC_CONFIG, .u.config.payload_len = 5};
    struct sp_packet packet;
    char buf[5];

    open_ends();
    for (unsigned cap = 0; cap < 5; cap++) {
        CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &config, .payload = "12345", .payload_len = 5},
                             SP_NEVER) == 0);
        CHECK(sp_packet_recv(near_end, &packet, buf, cap) == -EBADMSG);
    }
    close_ends();
}

static int rest_of(size_t have, size_t len) {
    char buf[64];

    return sp_payload_recv(near_end, buf, have, len, sp_now() + 20 * MS);
}

static void continuation_must_fit(void) {
    static const char bytes[64] = {0};

    open_ends();
    send_raw(far_end, bytes, 31, -1, 0);
    CHECK(rest_of(2, 32) == -EBADMSG); /* one byte more than is left */
    send_raw(far_end, bytes, 64, -1, 0);
    CHECK(rest_of(31, 32) == -EBADMSG);
    CHECK(rest_of(33, 32) == -EBADMSG); /* the first packet has brought more than the announced length */
    send_raw(far_end, bytes, 29, -1, 0);
    send_raw(far_end, bytes, 30, -1, 0); /* a short packet, then the next chunk as if that one were complete */
    CHECK(rest_of(2, 32) == -EBADMSG);
    CHECK(rest_of(32, 32) == 0);
    send_raw(far_end, bytes, 29, -1, 0);
    send_raw(far_end, bytes, 1, -1, 0); /* a packet may be shorter than SP_PACKET_MAX */
    CHECK(rest_of(2, 32) == 0);
    close_ends();
}

static void continuation_ends_early(void) {
    static const char bytes[64] = {0};

    open_ends();
    CHECK(rest_of(0, 32) == -ETIMEDOUT);
    send_raw(far_end, bytes, 8, -1, 0);
    CHECK(rest_of(0, 32) == -ETIMEDOUT);
    send_raw(far_end, bytes, 8, far_end, 3);
    sp_fd_close(&far_end);
    CHECK(rest_of(0, 32) == -ECONNRESET);
    close_ends(); /* it checks that the descriptors of the last packet are closed */
}

/* ---- the other side has closed, or does not read ---- */

static void end_of_file_is_a_reset(void) {
    struct sp_packet packet;

    open_ends();
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -EAGAIN);
    CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == 0);
    sp_fd_close(&far_end);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0); /* what was sent before can still be received */
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -ECONNRESET);
    CHECK(packet.fds[0] == -1 && packet.n_fds == 0);
    close_ends();
}

/* A peer that closes with unread packets resets the connection. What it has sent before can still be received. */
static void packets_sent_before_a_reset_arrive(void) {
    struct sp_packet packet;

    open_ends();
    CHECK(sp_packet_send(near_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == 0);
    CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == 0);
    sp_fd_close(&far_end);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_ACK);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == -ECONNRESET);
    close_ends();
}

/* This program does not ignore SIGPIPE: the signal would end it here. */
static void send_to_a_closed_socket_is_a_broken_pipe(void) {
    open_ends();
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == 0);
    sp_fd_close(&near_end); /* with an unread packet, which is a reset for the sender */
    CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == -EPIPE);
    CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == -EPIPE);
    close_ends();
}

static void deadlines_are_kept(void) {
    struct sp_outgoing out = {.record = &ack};
    int64_t before = 0;
    int rc = 0;

    open_ends();
    while (rc == 0) {
        rc = sp_packet_send(far_end, &out, 0);
    }
    CHECK(rc == -ETIMEDOUT);
    before = sp_now();
    CHECK(sp_packet_send(far_end, &out, before + 30 * MS) == -ETIMEDOUT);
    CHECK(sp_now() >= before + 30 * MS && sp_now() < before + 3000 * MS);
    before = sp_now();
    CHECK(sp_wait_fd(far_end, POLLIN, before + 30 * MS) == -ETIMEDOUT);
    CHECK(sp_now() >= before + 30 * MS && sp_now() < before + 3000 * MS);
    CHECK(sp_wait_fd(far_end, POLLIN, before) == -ETIMEDOUT); /* a past deadline */
    CHECK(sp_wait_fd(near_end, POLLIN, 0) == 0);              /* but what has come is reported */
    close_ends();
}

/* ---- who sent it ---- */

static void send_ack(void) { CHECK(sp_packet_send(far_end, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == 0); }

static void send_ack_and_wait_to_be_seen(void) {
    char byte = 0;

    send_ack();
    CHECK(recv(far_end, &byte, 1, 0) == 1);
}

static void sender_is_known(void) {
    struct sp_packet packet;
    int status = -1;
    pid_t child = 0;

    open_ends();
    CHECK(sp_fd_show_sender(near_end) == 0);
    send_ack();
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0 && packet.sender == getpid());
    child = fork();
    if (child == 0) {
        send_ack_and_wait_to_be_seen();
        _exit(0);
    }
    CHECK(child > 0 && sp_wait_fd(near_end, POLLIN, SP_NEVER) == 0);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0 && packet.sender == child);
    CHECK(send(near_end, "x", 1, MSG_NOSIGNAL) == 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close_ends();
}

static void sender_comes_with_fds(void) {
    const int fds[SP_PACKET_FDS] = {0, 1, 2, 0, 1};
    const struct sp_outgoing out = {.record = &ack, .fds = fds, .n_fds = SP_PACKET_FDS};
    struct sp_packet packet;

    open_ends();
    CHECK(sp_fd_show_sender(near_end) == 0);
    CHECK(sp_packet_send(far_end, &out, SP_NEVER) == 0);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0);
    CHECK(packet.sender == getpid() && packet.n_fds == SP_PACKET_FDS);
    sp_packet_close(&packet);
    close_ends();
}

static void failures_are_sent_whole(void) {
    struct sp_rec_failed why = {.id = 99, .stage = 3, .err = ENOENT, .detail = "/usr"};
    struct sp_packet packet;

    open_ends();
    sp_packet_fail(far_end, 5, &why);
    CHECK(sp_packet_recv(near_end, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_FAILED);
    CHECK(packet.record.u.failed.id == 5 && packet.record.u.failed.stage == 3);
    CHECK(packet.record.u.failed.err == ENOENT && strcmp(packet.record.u.failed.detail, "/usr") == 0);
    close_ends();
}

static void *answer_and_close(void *arg) {
    int *sock = arg;

    CHECK(sp_packet_send(*sock, &(struct sp_outgoing){.record = &ack}, SP_NEVER) == 0);
    sp_fd_close(sock);
    return NULL;
}

/* A receive that finds nothing, and only then sees that the peer has closed, must not miss what came in between. */
static void what_was_sent_before_the_close_arrives(void) {
    for (unsigned i = 0; i < 1000; i++) {
        struct sp_packet packet;
        pthread_t thread;
        int pair[2];
        int rc = -EAGAIN;

        make_pair(pair);
        CHECK(pthread_create(&thread, NULL, answer_and_close, &pair[1]) == 0);
        while (rc == -EAGAIN) {
            (void)sched_yield(); /* else the other thread waits for a whole time slice on a busy machine */
            rc = sp_packet_recv(pair[0], &packet, NULL, 0);
        }
        CHECK(rc == 0 && packet.record.type == SP_REC_ACK);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(sp_packet_recv(pair[0], &packet, NULL, 0) == -ECONNRESET);
        sp_fd_close(&pair[0]);
    }
}

int main(void) {
    check_deadline(30);
    RUN(fds_arrive_close_on_exec);
    RUN(stolen_fds_stay_open);
    RUN(too_many_fds_are_refused);
    RUN(too_many_fds_do_not_leak);
    RUN(malformed_packets_lose_their_fds);
    RUN(empty_packets_lose_their_fds);
    RUN(payloads_arrive);
    RUN(smallest_payloads_arrive);
    RUN(payload_without_room_is_refused);
    RUN(continuation_must_fit);
    RUN(continuation_ends_early);
    RUN(end_of_file_is_a_reset);
    RUN(packets_sent_before_a_reset_arrive);
    RUN(what_was_sent_before_the_close_arrives);
    RUN(send_to_a_closed_socket_is_a_broken_pipe);
    RUN(deadlines_are_kept);
    RUN(sender_is_known);
    RUN(sender_comes_with_fds);
    RUN(failures_are_sent_whole);
    return check_report();
}
