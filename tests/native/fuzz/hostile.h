/*
 * A hostile peer that the input drives. It notes each packet that it sends, with the result that the host must get for
 * it by the rules of wire.h and packet.h.
 */
#ifndef SANDPOOL_TESTS_HOSTILE_H
#define SANDPOOL_TESTS_HOSTILE_H

#include <errno.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "fuzz.h"

#define NOTES_MAX 32
#define HOSTILE_FDS 6 /* more than a packet may bring */

/* A packet that was sent, and that the host has not received yet. */
struct note {
    int verdict; /* 0, -EBADMSG or -ECONNRESET: an empty packet looks like end of file */
    struct sp_record record;
    unsigned n_fds;
    bool is_followed; /* a sound record with bytes behind it, which only FAILED may have, in a birth */
};

struct hostile {
    int sock;
    bool hung_up;
    struct note notes[NOTES_MAX];
    unsigned first, last;
};

static inline int open_kind(unsigned kind) {
    int pair[2] = {-1, -1};

    switch (kind % 5) {
    case 0:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 1:
        return eventfd(0, EFD_CLOEXEC);
    case 2:
        return memfd_create("hostile", MFD_CLOEXEC);
    case 3:
        MUST(pipe2(pair, O_CLOEXEC) == 0);
        break;
    default:
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        break;
    }
    (void)close(pair[1]);
    return pair[0];
}

static inline bool send_packet(int sock, const uint8_t *bytes, size_t len, unsigned kind, unsigned n_fds) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * HOSTILE_FDS)];
    } control = {.bytes = {0}};
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[HOSTILE_FDS];

    if (n_fds != 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = (size_t)CMSG_SPACE(sizeof(int) * n_fds);
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        for (unsigned i = 0; i < n_fds; i++) {
            fds[i] = open_kind(kind + i);
            MUST(fds[i] != -1);
        }
        memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * n_fds);
    }
    bool sent = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
    for (unsigned i = 0; i < n_fds; i++) {
        (void)close(fds[i]);
    }
    return sent;
}

static inline void hostile_send(struct hostile *h, const uint8_t *bytes, size_t len, unsigned kind, unsigned n_fds) {
    if (h->last == NOTES_MAX || h->hung_up || !send_packet(h->sock, bytes, len, kind, n_fds)) {
        return;
    }
    struct note *note = &h->notes[h->last++];
    *note = (struct note){.n_fds = n_fds};
    note->verdict = len == 0                ? -ECONNRESET
                    : n_fds > SP_PACKET_FDS ? -EBADMSG
                    : len != SP_RECORD_SIZE ? -EBADMSG
                                            : sp_wire_unpack(bytes, len, &note->record);
    note->is_followed =
        n_fds <= SP_PACKET_FDS && len > SP_RECORD_SIZE && sp_wire_unpack(bytes, SP_RECORD_SIZE, &note->record) == 0;
}

static inline void hostile_hang_up(struct hostile *h) {
    (void)shutdown(h->sock, SHUT_WR);
    h->hung_up = true;
}

/* Any type, including 0, which is no type. */
static inline enum sp_record_type any_type(uint8_t byte) {
    return (enum sp_record_type)(byte % SP_REC_TYPE_END); /* NOLINT(clang-analyzer-optin.core.EnumCastOutOfRange) */
}

/* Whether both records have the same bytes when they are packed. */
static inline bool same_record(const struct sp_record *a, const struct sp_record *b) {
    uint8_t bytes[2][SP_RECORD_SIZE];

    sp_wire_pack(a, bytes[0]);
    sp_wire_pack(b, bytes[1]);
    return memcmp(bytes[0], bytes[1], SP_RECORD_SIZE) == 0;
}

/* Sends a record that is valid but for what the input changes. `id` is the one that the host waits for. */
static inline void hostile_record(struct hostile *h, struct feed *feed, uint32_t id) {
    uint8_t bytes[SP_RECORD_SIZE + 8] = {0};
    uint8_t how = feed_byte(feed);
    struct sp_record record = {.type = any_type(feed_byte(feed))};
    size_t len = SP_RECORD_SIZE;

    id += (how & 3) == 3 ? (uint32_t)(int8_t)feed_byte(feed) : 0;
    switch (record.type) {
    case SP_REC_ACK:
        record.u.id.id = id;
        break;
    case SP_REC_EXITED:
        record.u.exited = (struct sp_rec_exited){.id = id, .status = (how & 4) != 0 ? feed_byte(feed) * 256u : 9};
        break;
    case SP_REC_FAILED:
        record.u.failed = (struct sp_rec_failed){.id = id, .stage = 1 + feed_byte(feed) % 32u, .err = feed_byte(feed)};
        break;
    default:
        break;
    }
    sp_wire_pack(&record, bytes);
    if ((how & 8) != 0) { /* change some of its bytes */
        for (unsigned n = 1 + feed_byte(feed) % 4; n != 0; n--) {
            uint8_t at = feed_byte(feed) % SP_RECORD_SIZE;

            bytes[at] = feed_byte(feed);
        }
    }
    if ((how & 16) != 0) {
        len = feed_byte(feed) % (sizeof bytes + 1);
    }
    uint8_t fds = (how & 32) != 0 ? feed_byte(feed) : 0;
    hostile_send(h, bytes, len, fds >> 4, fds % (HOSTILE_FDS + 1));
}

/* The oldest packet that the host has not received yet; NULL when there is none. */
static inline const struct note *hostile_next(struct hostile *h) {
    return h->first != h->last ? &h->notes[h->first++] : NULL;
}

#endif
