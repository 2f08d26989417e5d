/*
 * The serving loop of init. One command at a time: EXEC -> ACK -> (FAILED | EXITED). Between commands nothing but init
 * lives in the sandbox; when a command has exited, what it left running is killed before EXITED is sent.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/exec.h"
#include "init/init.h"

/* Most requests fit here; it is touched, and so costs memory, only once a command has run. */
#define SMALL_PAYLOAD SP_PACKET_MAX
#define SMALL_VECTOR 1024

static char small_payload[SMALL_PAYLOAD];
static char *small_vector[SMALL_VECTOR];

/* The memory of one request: the static one, or a mapping for a large one. */
struct request {
    struct sp_rec_exec exec;
    struct sp_packet packet;
    char *payload;
    char **vector;
    void *mapping;
    size_t mapping_len;
};

static int request_memory(struct request *r) {
    size_t slots = (size_t)r->exec.argc + r->exec.envc + 2;
    r->payload = small_payload;
    r->vector = small_vector;
    if (r->exec.payload_len <= SMALL_PAYLOAD && slots <= SMALL_VECTOR) {
        return 0;
    }
    size_t vector_len = slots * sizeof(char *);
    r->mapping_len = vector_len + r->exec.payload_len;
    r->mapping = mmap(NULL, r->mapping_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->mapping == MAP_FAILED) {
        r->mapping = NULL;
        return -ENOMEM;
    }
    r->vector = r->mapping;
    r->payload = (char *)r->mapping + vector_len;
    memcpy(r->payload, small_payload, r->packet.payload_len);
    return 0;
}

static void request_free(struct request *r) {
    sp_packet_close(&r->packet);
    if (r->mapping != NULL) {
        munmap(r->mapping, r->mapping_len);
    }
}

static int send_id(int control, enum sp_record_type type, uint32_t id) {
    struct sp_record record = {.type = type, .u.id.id = id};
    return sp_packet_send(control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

/* Reads a whole request. 0, or -errno: the host is gone or not to be understood, and serving ends. */
static int request_recv(int control, struct request *r) {
    memset(r, 0, sizeof *r);
    memset(r->packet.fds, -1, sizeof r->packet.fds);
    int rc = sp_wait_fd(control, POLLIN, SP_NEVER);
    rc = rc != 0 ? rc : sp_packet_recv(control, &r->packet, small_payload, sizeof small_payload);
    if (rc == 0 && r->packet.record.type == SP_REC_KILL) {
        return -EAGAIN; /* for a command that had ended before the host's KILL arrived */
    }
    if (rc != 0 || r->packet.record.type != SP_REC_EXEC) {
        return rc != 0 ? rc : -EBADMSG;
    }
    r->exec = r->packet.record.u.exec;
    bool has_stdin = (r->exec.flags & SP_EXEC_HAS_STDIN) != 0;
    if (r->packet.n_fds != (has_stdin ? 3u : 2u)) {
        return -EBADMSG;
    }
    rc = request_memory(r);
    return rc != 0 ? rc : sp_payload_recv(control, r->payload, r->packet.payload_len, r->exec.payload_len, SP_NEVER);
}

/* What one wait for a command yields. */
struct outcome {
    int status;
    struct rusage usage;
};

/* Every orphan of the sandbox is init's child in the end, so "no children" means "no other process". */
static void kill_leftovers(void) {
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
        (void)kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0) {
        }
    }
}

/* Reaps what has ended. True when `pid` was among it. */
static bool reap(pid_t pid, struct outcome *outcome) {
    int status = 0;
    struct rusage usage;
    for (;;) {
        pid_t ended = wait4(-1, &status, WNOHANG, &usage);
        if (ended <= 0) {
            return false;
        }
        if (ended == pid) {
            outcome->status = status;
            outcome->usage = usage;
            return true;
        }
    }
}

/* Handles what the host says while a command runs: only KILL. 0, or -errno to stop serving. */
static int hear_host(int control, uint32_t id) {
    struct sp_packet packet;
    int rc = sp_packet_recv(control, &packet, NULL, 0);
    if (rc == -EAGAIN) {
        return 0;
    }
    if (rc == 0) {
        rc = packet.record.type == SP_REC_KILL ? 0 : -EBADMSG;
        sp_packet_close(&packet);
    }
    if (rc == 0 && packet.record.u.id.id == id) {
        (void)kill(-1, SIGKILL);
    }
    return rc;
}

/* Waits for the command. SIGCHLD is blocked but for the time in ppoll, so that no exit is missed. */
static int await_command(int control, pid_t pid, uint32_t id, struct outcome *outcome) {
    struct pollfd p = {.fd = control, .events = POLLIN};
    sigset_t while_waiting;
    sigemptyset(&while_waiting);
    while (!reap(pid, outcome)) {
        int n = ppoll(&p, 1, NULL, &while_waiting);
        int rc = n > 0 ? hear_host(control, id) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static uint64_t micros(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

static int send_exited(int control, uint32_t id, const struct outcome *o) {
    struct sp_record record = {.type = SP_REC_EXITED,
                               .u.exited = {.id = id,
                                            .status = (uint32_t)o->status,
                                            .user_us = micros(o->usage.ru_utime),
                                            .system_us = micros(o->usage.ru_stime),
                                            .max_rss_bytes = (uint64_t)o->usage.ru_maxrss * 1024}};
    return sp_packet_send(control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

static int run(const struct sp_plan *plan, int control, struct request *r) {
    struct sp_command command;
    int rc = sp_command_parse(&r->exec, r->payload, r->vector, &command);
    rc = rc != 0 ? rc : send_id(control, SP_REC_ACK, r->exec.id);
    if (rc != 0) {
        return rc;
    }
    bool has_stdin = (r->exec.flags & SP_EXEC_HAS_STDIN) != 0;
    command.fds[0] = has_stdin ? r->packet.fds[0] : STDIN_FILENO; /* init's own 0 is /dev/null */
    command.fds[1] = r->packet.fds[has_stdin ? 1 : 0];
    command.fds[2] = r->packet.fds[has_stdin ? 2 : 1];
    struct sp_rec_failed why;
    pid_t pid = sp_command_spawn(plan, &command, &why);
    if (pid < 0) {
        struct sp_record failed = {.type = SP_REC_FAILED, .u.failed = why};
        failed.u.failed.id = r->exec.id;
        return sp_packet_send(control, &(struct sp_outgoing){.record = &failed}, SP_NEVER);
    }
    sp_packet_close(&r->packet); /* the pipes' last writers must be the command's processes */
    struct outcome outcome;
    rc = await_command(control, pid, r->exec.id, &outcome);
    if (rc != 0) {
        return rc;
    }
    kill_leftovers();
    return send_exited(control, r->exec.id, &outcome);
}

void sp_init_serve(const struct sp_plan *plan, int control) {
    int rc = 0;
    while (rc == 0 || rc == -EAGAIN || rc == -EINTR) {
        struct request request;
        rc = request_recv(control, &request);
        rc = rc != 0 ? rc : run(plan, control, &request);
        request_free(&request);
    }
}
