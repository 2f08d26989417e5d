#include "init/standby.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/packet.h"
#include "common/stage.h"
#include "init/exec.h"

/* Most requests fit here; it is touched, and so costs memory, only once a command has run. */
#define SMALL_PAYLOAD SP_PACKET_MAX
#define SMALL_VECTOR 1024

static char small_payload[SMALL_PAYLOAD];
static char *small_vector[SMALL_VECTOR];

/* The mapping of the last large request. Its standby cannot unmap it (exec needs it), so init does, for the next. */
static void *mapping;
static size_t mapping_len;

struct request {
    struct sp_rec_exec exec;
    struct sp_packet packet;
    char *payload;
    char **vector;
};

static int request_memory(struct request *r) {
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

/* Reads a whole request. 0, or -errno: the host is gone or not to be understood. */
static int request_recv(int control, struct request *r) {
    int rc = sp_wait_fd(control, POLLIN, SP_NEVER);
    rc = rc != 0 ? rc : sp_packet_recv(control, &r->packet, small_payload, sizeof small_payload);
    if (rc != 0 || r->packet.record.type != SP_REC_EXEC) {
        return rc != 0 ? rc : -EBADMSG;
    }
    r->exec = r->packet.record.u.exec;
    bool has_stdin = (r->exec.flags & SP_EXEC_HAS_STDIN) != 0;
    /* What has come is copied to memory of the announced size. */
    if (r->packet.n_fds != (has_stdin ? 3u : 2u) || r->packet.payload_len > r->exec.payload_len) {
        return -EBADMSG;
    }
    rc = request_memory(r);
    return rc != 0 ? rc : sp_payload_recv(control, r->payload, r->packet.payload_len, r->exec.payload_len, SP_NEVER);
}

static int acknowledge(struct sp_standby *standby, uint32_t id) {
    struct sp_record record = {.type = SP_REC_ACK, .u.id.id = id};
    standby->base.shared_by_all = sp_memory_shared_by_all();
    /* Before the ACK: from it on, the host may ask init to kill the command of this number. */
    atomic_store_explicit(&standby->id, id, memory_order_release);
    return sp_packet_send(standby->control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

/*
 * From here on this is the tenant-to-be: a process of its own, with descriptors of its own, on init's memory. It ends
 * by exec, or by leaving in `standby` why not.
 */
static int standby_main(void *arg) {
    struct sp_standby *standby = arg;
    struct request request;
    struct sp_command command;
    memset(&request, 0, sizeof request);
    memset(request.packet.fds, -1, sizeof request.packet.fds);
    int rc = request_recv(standby->control, &request);
    rc = rc != 0 ? rc : sp_command_parse(&request.exec, request.payload, request.vector, &command);
    rc = rc != 0 ? rc : acknowledge(standby, request.exec.id);
    if (rc != 0) {
        standby->broken = rc;
        return 1;
    }
    unsigned first = (request.exec.flags & SP_EXEC_HAS_STDIN) != 0 ? 1 : 0;
    command.fds[0] = first != 0 ? request.packet.fds[0] : STDIN_FILENO; /* init's own 0 is /dev/null */
    command.fds[1] = request.packet.fds[first];
    command.fds[2] = request.packet.fds[first + 1];
    sp_command_exec(standby->plan, &command, &standby->why);
    return 127;
}

int sp_standby_start(struct sp_standby *standby, const struct sp_plan *plan, int control) {
    static char stack[64 * 1024] __attribute__((aligned(16)));
    if (mapping != NULL) {
        munmap(mapping, mapping_len);
        mapping = NULL;
    }
    memset(standby, 0, sizeof *standby);
    standby->plan = plan;
    standby->control = control;
    standby->base.kept = sp_memory_kept();
    /* The kernel clears `ours` when this memory is left, by exec too: see clone(2), CLONE_CHILD_CLEARTID. */
    int flags = CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    standby->pid = clone(standby_main, stack + sizeof stack, flags, standby, &standby->ours, NULL, &standby->ours);
    return standby->pid != -1 ? 0 : -errno;
}
