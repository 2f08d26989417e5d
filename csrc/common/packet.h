/*
 * Sends and receives records, payloads and descriptors over a SOCK_SEQPACKET socket: one record is one packet. A
 * payload starts in the packet of its record and continues in packets of up to SP_PACKET_MAX bytes.
 *
 * On systems without SOCK_SEQPACKET the same bytes go over SOCK_STREAM: a record has a fixed size and contains the
 * length of its payload, and so needs no frame. A record with its descriptors is smaller than what a stream socket
 * accepts at once (SO_SNDLOWAT on BSD, one skb on Linux), so a record that arrives in parts is malformed. SOCK_DGRAM
 * would keep packets whole, but it reports the end of file as an error, and only once, and net.local.dgram.maxdgram is
 * 2 KiB.
 *
 * No function here sleeps in recvmsg or sendmsg: they wait in poll with an absolute deadline (see clock.h). They return
 * -EINTR to a caller that has signal handlers to run.
 */
#ifndef SANDPOOL_COMMON_PACKET_H
#define SANDPOOL_COMMON_PACKET_H

#include <stdint.h>
#include <sys/types.h>

#include "common/wire.h"

#define SP_PACKET_MAX (32 * 1024)
#define SP_PACKET_FDS 5

/* A received packet. Its descriptors are close-on-exec; the packet owns them until they are stolen (set to -1). */
struct sp_packet {
    struct sp_record record;
    int fds[SP_PACKET_FDS];
    unsigned n_fds;
    size_t payload_len; /* payload bytes that came in this packet, in the caller's buffer */
    pid_t sender;       /* the sender's pid as the receiver sees it; 0 unless SO_PASSCRED is set */
};

struct sp_outgoing {
    const struct sp_record *record;
    const void *payload;
    size_t payload_len;
    const int *fds;
    unsigned n_fds;
};

/* Sends the record with its fds and the whole payload. 0 or -errno; -EPIPE when the peer is gone. */
int sp_packet_send(int sock, const struct sp_outgoing *out, int64_t deadline);
/* The two halves of it: the first packet, whose part of the payload is in *sent then, and the others. */
int sp_packet_send_first(int sock, const struct sp_outgoing *out, size_t *sent, int64_t deadline);
int sp_payload_send(int sock, const struct sp_outgoing *out, size_t sent, int64_t deadline);

/*
 * Receives one record without waiting. 0, -EAGAIN, -EBADMSG (malformed; its fds are closed), -EMFILE (this process
 * cannot open the descriptors that came), or -ECONNRESET when the peer is gone. Payload bytes that follow the record in
 * its packet go to buf; more than `cap` of them are malformed.
 */
int sp_packet_recv(int sock, struct sp_packet *packet, void *buf, size_t cap);
/* Receives the rest of a payload of which `have` bytes are in buf already. */
int sp_payload_recv(int sock, char *buf, size_t have, size_t len, int64_t deadline);
void sp_packet_close(struct sp_packet *packet);

/* Sends {FAILED, id, stage, err, detail}. When that fails too, nothing more can be done. */
void sp_packet_fail(int sock, uint32_t id, const struct sp_rec_failed *why);

#endif
