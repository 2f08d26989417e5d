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

/* Has file operations performed, and skips KILLs that came too late for their command: no command runs now. */
static int recv_first(int control, struct sp_packet *packet, sp_file_server *serve_file) {
    for (;;) {
        int rc = sp_wait_fd(control, POLLIN, SP_NEVER);
        rc = rc != 0 ? rc : sp_packet_recv(control, packet, small_payload, sizeof small_payload);
        if (rc == 0 && packet->record.type == SP_REC_FILE && serve_file != NULL) {
            rc = serve_file(packet, small_payload);
        } else if (rc != 0 || packet->record.type != SP_REC_KILL) {
            return rc;
        }
        sp_packet_close(packet);
        if (rc != 0) {
            return rc;
        }
    }
}

static int recv_whole(int control, struct sp_request *r, sp_file_server *serve_file) {
    int rc = recv_first(control, &r->packet, serve_file);
    if (rc != 0 || r->packet.record.type != SP_REC_EXEC) {
        return rc != 0 ? rc : -EBADMSG;
    }
    r->exec = r->packet.record.u.exec;
    bool has_stdin = (r->exec.flags & SP_EXEC_HAS_STDIN) != 0;
    /* The received part of the payload must fit into the announced size, because request_memory() copies it there. */
    if (r->packet.n_fds != (has_stdin ? 3u : 2u) || r->packet.payload_len > r->exec.payload_len) {
        return -EBADMSG;
    }
    rc = request_memory(r);
    return rc != 0 ? rc : sp_payload_recv(control, r->payload, r->packet.payload_len, r->exec.payload_len, SP_NEVER);
}

int sp_request_recv(int control, struct sp_request *r, struct sp_command *command, sp_file_server *serve_file) {
    memset(r, 0, sizeof *r);
    memset(r->packet.fds, -1, sizeof r->packet.fds);
    int rc = recv_whole(control, r, serve_file);
    rc = rc != 0 ? rc : sp_command_parse(&r->exec, r->payload, r->vector, command);
    unsigned first = (r->exec.flags & SP_EXEC_HAS_STDIN) != 0 ? 1 : 0;
    command->fds[0] = first != 0 ? r->packet.fds[0] : STDIN_FILENO; /* our own 0 is /dev/null */
    command->fds[1] = r->packet.fds[first];
    command->fds[2] = r->packet.fds[first + 1];
    return rc;
}

void sp_request_free_large(void) {
    if (mapping != NULL) {
        munmap(mapping, mapping_len);
        mapping = NULL;
    }
}
