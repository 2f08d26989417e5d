#include "common/packet.h"
#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/fd.h"

#define ROOM_RETRY_NS SP_MS(1)

union fd_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * SP_PACKET_FDS)];
};

static void attach_fds(struct msghdr *msg, union fd_control *control, const int *fds, unsigned n_fds) {
    memset(control, 0, sizeof *control);
    msg->msg_control = control->bytes;
    msg->msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
}

/* Skips the bytes of a message that a stream has accepted. The descriptors went with the first byte. */
static void advance(struct msghdr *msg, size_t sent) {
    msg->msg_control = NULL;
    msg->msg_controllen = 0;
    while (sent != 0 && sent >= msg->msg_iov->iov_len) {
        sent -= msg->msg_iov->iov_len;
        msg->msg_iov++;
        msg->msg_iovlen--;
    }
    if (sent != 0) {
        msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + sent;
        msg->msg_iov->iov_len -= sent;
    }
}

/*
 * Waits after one of two temporary errors: the kernel has no memory for the message, or this user has too many
 * descriptors in flight until their receivers take them. The socket itself may be writable, so that polling for POLLOUT
 * would spin. This sleeps for a short time instead; only a hang-up of the peer ends the sleep earlier.
 */
static int wait_for_room(int sock, int64_t deadline) {
    struct pollfd end = {.fd = sock};
    int64_t now = sp_now();
    if (now >= deadline) { /* never true for SP_NEVER */
        return -ETIMEDOUT;
    }
    int n = sp_poll_until(&end, 1, deadline - now > ROOM_RETRY_NS ? now + ROOM_RETRY_NS : deadline);
    return n < 0 ? n : 0;
}

static ssize_t try_send(int sock, const struct msghdr *msg) {
    ssize_t n = sp_send_now(sock, msg);
    return n < 0 && errno == ETOOMANYREFS ? sp_send_at_hard_limit(sock, msg) : n;
}

/* The kernel accepts a packet whole; of a stream it may accept a part at a time. */
static int send_whole(int sock, struct msghdr *msg, size_t len, int64_t deadline) {
    for (;;) {
        ssize_t n = try_send(sock, msg);
        if (n >= 0 && (size_t)n >= len) {
            return 0;
        }
        if (n > 0) {
            len -= (size_t)n;
            advance(msg, (size_t)n);
            continue;
        }
        bool no_room = errno == ENOBUFS || errno == ETOOMANYREFS;
        if (errno != EAGAIN && errno != EWOULDBLOCK && !no_room) {
            return errno == ECONNRESET ? -EPIPE : -errno;
        }
        int rc = no_room ? wait_for_room(sock, deadline) : sp_wait_fd(sock, POLLOUT, deadline);
        /* A caller could not resume a half-sent sequence of packets, so a signal does not interrupt it. */
        if (rc != 0 && rc != -EINTR) {
            return rc;
        }
    }
}

static size_t next_chunk(const struct sp_outgoing *out, size_t sent) {
    return out->payload_len - sent < SP_PACKET_MAX ? out->payload_len - sent : SP_PACKET_MAX;
}

int sp_packet_send_first(int sock, const struct sp_outgoing *out, size_t *sent, int64_t deadline) {
    uint8_t bytes[SP_RECORD_SIZE];
    sp_wire_pack(out->record, bytes);
    size_t chunk = next_chunk(out, 0);
    struct iovec iov[2] = {{bytes, sizeof bytes}, {(void *)(uintptr_t)out->payload, chunk}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = chunk != 0 ? 2 : 1};
    union fd_control control;
    if (out->n_fds != 0) {
        attach_fds(&msg, &control, out->fds, out->n_fds);
    }
    *sent = chunk;
    return send_whole(sock, &msg, sizeof bytes + chunk, deadline);
}

int sp_payload_send(int sock, const struct sp_outgoing *out, size_t sent, int64_t deadline) {
    int rc = 0;
    for (size_t chunk = 0; rc == 0 && sent < out->payload_len; sent += chunk) {
        chunk = next_chunk(out, sent);
        struct iovec rest = {(char *)(uintptr_t)out->payload + sent, chunk};
        rc = send_whole(sock, &(struct msghdr){.msg_iov = &rest, .msg_iovlen = 1}, chunk, deadline);
    }
    return rc;
}

int sp_packet_send(int sock, const struct sp_outgoing *out, int64_t deadline) {
    size_t sent = 0;
    int rc = sp_packet_send_first(sock, out, &sent, deadline);
    return rc != 0 ? rc : sp_payload_send(sock, out, sent, deadline);
}

/* Once SO_PASSCRED is set, credentials come with every message. No socket option asks for any other control message. */
static bool take_control(struct msghdr *msg, struct sp_packet *packet) {
    bool sound = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < n; i++) {
                int fd = -1;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
                if (packet->n_fds < SP_PACKET_FDS) {
                    packet->fds[packet->n_fds++] = fd;
                } else {
                    sp_fd_close(&fd);
                    sound = false;
                }
            }
        }
        packet->sender = packet->sender != 0 ? packet->sender : sp_control_sender(c);
    }
    return sound;
}

/* If fewer descriptors arrived than were sent although there was room for them, this process cannot open any more. */
static int check_flags(const struct msghdr *msg, const struct sp_packet *packet, bool sound) {
    if (!sound || (msg->msg_flags & MSG_TRUNC) != 0) {
        return -EBADMSG;
    }
    bool cut = (msg->msg_flags & MSG_CTRUNC) != 0;
    return !cut ? 0 : packet->n_fds < SP_PACKET_FDS ? -EMFILE : -EBADMSG;
}

int sp_packet_recv(int sock, struct sp_packet *packet, void *buf, size_t cap) {
    uint8_t bytes[SP_RECORD_SIZE];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * SP_PACKET_FDS) + CMSG_SPACE(SP_CREDENTIALS_SIZE)];
    } control;
    struct iovec iov[2] = {{bytes, sizeof bytes}, {buf, cap}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = cap != 0 ? 2 : 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    memset(packet, 0, sizeof *packet);
    memset(packet->fds, -1, sizeof packet->fds);
    ssize_t n = sp_recv_now(sock, &msg);
    if (n < 0) {
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
    bool sound = take_control(&msg, packet);
    if (n == 0) { /* end of file, or an empty packet, which may carry fds */
        sp_packet_close(packet);
        return -ECONNRESET;
    }
    size_t head = (size_t)n < sizeof bytes ? (size_t)n : sizeof bytes;
    int rc = check_flags(&msg, packet, sound);
    rc = rc != 0 ? rc : sp_wire_unpack(bytes, head, &packet->record);
    if (rc != 0) {
        sp_packet_close(packet);
        return rc;
    }
    packet->payload_len = (size_t)n - head;
    return 0;
}

int sp_payload_recv(int sock, char *buf, size_t have, size_t len, int64_t deadline) {
    if (have > len) {
        return -EBADMSG;
    }
    while (have < len) {
        ssize_t n = sp_recv_rest(sock, buf + have, len - have);
        if (n > 0 && (size_t)n <= len - have) {
            have += (size_t)n;
            continue;
        }
        if (n >= 0) { /* a packet larger than what is left, or end of file */
            return n == 0 ? -ECONNRESET : -EBADMSG;
        }
        int rc = errno == EAGAIN || errno == EWOULDBLOCK ? sp_wait_fd(sock, POLLIN, deadline) : -errno;
        if (rc != 0 && rc != -EINTR) {
            return rc;
        }
    }
    return 0;
}

void sp_packet_close(struct sp_packet *packet) {
    for (unsigned i = 0; i < SP_PACKET_FDS; i++) {
        sp_fd_close(&packet->fds[i]);
    }
    packet->n_fds = 0;
}

void sp_packet_fail(int sock, uint32_t id, const struct sp_rec_failed *why) {
    struct sp_record record = {.type = SP_REC_FAILED, .u.failed = *why};
    record.u.failed.id = id;
    (void)sp_packet_send(sock, &(struct sp_outgoing){.record = &record}, sp_now() + SP_SEC(1));
}
