#include "init/request.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"

/* Most requests fit into these. Their pages are not touched, and so take no memory, before the first command. */
#define SMALL_PAYLOAD SP_PACKET_MAX
#define SMALL_VECTOR 1024

static char small_payload[SMALL_PAYLOAD];
static char *small_vector[SMALL_VECTOR];

/* The mapping of the last large request. The standby cannot unmap it, because its exec needs it. init unmaps it before
 * the next standby. */
static void *mapping;
static size_t mapping_len;

static int request_memory(struct sp_request *r) {
    size_t slots = (size_t)r->exec.argc + r->exec.envc + 2;
    r->payload = small_payload;
    r->vector = small_vector;
    if (r->exec.payload_len <= SMALL_PAYLOAD && slots <= SMALL_VECTOR) {
        return 0;
    }
    size_t vector_len = slots * sizeof(char *);
    mapping_len = vector_len + r->exec.payload_len;
    mapping = mmap(NULL, mapping_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        mapping = NULL;
        return -ENOMEM;
    }
    r->vector = mapping;
    r->payload = (char *)mapping + vector_len;
    memcpy(r->payload, small_payload, r->packet.payload_len);
    return 0;
}

/* The process socket of a SPAWN precedes the streams. */
static unsigned first_stream(const struct sp_request *r) { return r->packet.record.type == SP_REC_SPAWN ? 1 : 0; }

static uint32_t streams_of(const struct sp_request *r) {
    const uint32_t outputs = SP_EXEC_HAS_STDOUT | SP_EXEC_HAS_STDERR;
    return r->packet.record.type == SP_REC_SPAWN ? r->exec.flags : (r->exec.flags & SP_EXEC_HAS_STDIN) | outputs;
}

/* A stream that was not sent is our own, which is /dev/null. The channel of a RUN is the last descriptor. */
static int take_streams(const struct sp_request *r, struct sp_command *command) {
    static const uint32_t has[3] = {SP_EXEC_HAS_STDIN, SP_EXEC_HAS_STDOUT, SP_EXEC_HAS_STDERR};
    const uint32_t streams = (r->exec.flags & SP_EXEC_RUNTIME) != 0 ? 0 : streams_of(r);
    unsigned n = first_stream(r);
    for (int i = 0; i < 3; i++) {
        bool sent = (streams & has[i]) != 0;
        command->fds[i] = sent && n < SP_PACKET_FDS ? r->packet.fds[n] : i;
        n += sent;
    }
    const bool runs = (r->exec.flags & SP_EXEC_RUN) != 0;
    command->channel = runs && n < SP_PACKET_FDS ? r->packet.fds[n] : -1;
    n += runs;
    return n == r->packet.n_fds ? 0 : -EBADMSG;
}

static int recv_command(int control, struct sp_request *r, struct sp_command *command) {
    r->exec = r->packet.record.u.exec;
    /* The received part of the payload must fit into the announced size, because request_memory() copies it there. */
    int rc = r->packet.payload_len <= r->exec.payload_len ? take_streams(r, command) : -EBADMSG;
    rc = rc != 0 ? rc : request_memory(r);
    rc = rc != 0 ? rc : sp_payload_recv(control, r->payload, r->packet.payload_len, r->exec.payload_len, SP_NEVER);
    return rc != 0 ? rc : sp_command_parse(&r->exec, r->payload, r->vector, command);
}

int sp_request_next(int control, struct sp_request *r, struct sp_command *command, sp_file_server *serve_file) {
    memset(r, 0, sizeof *r);
    memset(r->packet.fds, -1, sizeof r->packet.fds);
    int rc = sp_packet_recv(control, &r->packet, small_payload, sizeof small_payload);
    if (rc != 0) {
        return rc;
    }
    switch (r->packet.record.type) {
    case SP_REC_EXEC:
    case SP_REC_SPAWN:
        return recv_command(control, r, command);
    case SP_REC_KILL:
    case SP_REC_SERVE:
        return r->packet.payload_len == 0 && r->packet.n_fds == 0 ? 0 : -EBADMSG;
    case SP_REC_ADOPT:
        return r->packet.payload_len == 0 && r->packet.n_fds == 2 ? 0 : -EBADMSG;
    case SP_REC_NAMESPACES:
        return r->packet.payload_len == 0 && r->packet.n_fds == 1 ? 0 : -EBADMSG;
    case SP_REC_FILE:
        rc = serve_file != NULL ? serve_file(&r->packet, small_payload) : -EBADMSG;
        sp_packet_close(&r->packet);
        return rc;
    default:
        return -EBADMSG;
    }
}

int sp_request_recv(int control, struct sp_request *r, struct sp_command *command, sp_file_server *serve_file) {
    for (;;) {
        int rc = sp_wait_fd(control, POLLIN, SP_NEVER);
        rc = rc != 0 ? rc : sp_request_next(control, r, command, serve_file);
        if (rc != 0 || (r->packet.record.type != SP_REC_KILL && r->packet.record.type != SP_REC_FILE)) {
            return rc;
        }
    }
}

void sp_request_free_large(void) {
    if (mapping != NULL) {
        munmap(mapping, mapping_len);
        mapping = NULL;
    }
}
