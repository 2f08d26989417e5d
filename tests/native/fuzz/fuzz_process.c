/*
 * A process with a hostile init. The input decides what comes over the process socket, when it ends, and whether the
 * host signals the process or ends the lease meanwhile. What the host makes of it is compared with the rules of
 * docs/protocol.md.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "host/pool/state.h"
#include "host/sandbox/session.h"
#include "hostile.h"

static struct world {
    struct sp_launcher base;
    sp_pool *pool;
    struct feed feed;
    int control; /* init's end */
    atomic_uint living;
    atomic_bool killed;
} world;

/* What the host has to know. */
struct model {
    uint32_t state;
    int code;
    int exit_code, signal;
    bool refused; /* the sandbox is killed */
    bool released;
    bool terminal;
};

/* ---- the launcher ---- */

static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    int pair[2];

    (void)launcher;
    (void)error;
    MUST(sp_control_pair(pair) == 0);
    birth->session->control = pair[0];
    birth->session->pidfd = -1; /* so that nobody waits for its death */
    world.control = pair[1];
    atomic_fetch_add(&world.living, 1);
    return 0;
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    (void)launcher;
    (void)error;
    birth->session->pid = 1;
    return 0;
}

static void nothing(struct sp_session *session) { (void)session; }
static void kill_sandbox(struct sp_session *session) {
    (void)session;
    atomic_store(&world.killed, true);
}

static void release(struct sp_session *session) {
    (void)session;
    atomic_fetch_sub(&world.living, 1);
}

static void shut_down(sp_launcher *launcher, int64_t deadline) {
    (void)launcher;
    (void)deadline;
}

static void never_freed(sp_launcher *launcher) {
    (void)launcher;
    MUST(false);
}

static const struct sp_launch_ops ops = {.has_init = true,
                                         .session_size = sizeof(struct sp_session),
                                         .death_grace_ns = SP_MS(300),
                                         .begin = begin,
                                         .step = step,
                                         .kill_command = nothing,
                                         .watch_memory = nothing,
                                         .kill_sandbox = kill_sandbox,
                                         .release = release,
                                         .shutdown = shut_down,
                                         .free = never_freed};

static void open_world(void) {
    const sp_pool_options options = {.size = sizeof options};
    sp_error error;

    world.base = (struct sp_launcher){.ops = &ops, .refs = 1};
    world.pool = sp_pool_open(&world.base, &options, &error);
    MUST(world.pool != NULL);
}

static int64_t lease(void) {
    sp_ticket *ticket = NULL;
    sp_error error;
    int64_t handle = SP_AGAIN;

    MUST(sp_ticket_open(world.pool, -1, &ticket) == SP_OK);
    while (handle == SP_AGAIN) {
        handle = sp_ticket_poll(ticket, &error);
    }
    sp_ticket_free(ticket);
    MUST(handle > SP_AGAIN);
    return handle;
}

/* ---- the request, as init receives it ---- */

static int receive(const sp_process_request *request) {
    char buf[SP_PACKET_MAX];
    struct sp_packet packet;
    const unsigned streams = request->terminal != 0 ? 0 : 1;

    MUST(sp_packet_recv(world.control, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_SERVE);
    MUST(sp_packet_recv(world.control, &packet, buf, sizeof buf) == 0 && packet.record.type == SP_REC_SPAWN);
    MUST(packet.n_fds == 1 + streams);
    MUST(packet.record.u.exec.flags == (request->terminal != 0 ? SP_EXEC_PTY : SP_EXEC_HAS_STDOUT));
    MUST(packet.record.u.exec.rows == request->rows && packet.record.u.exec.cols == request->cols);
    int sock = sp_fd_steal(&packet.fds[0]);
    sp_packet_close(&packet);
    return sock;
}

/* ---- what has to become of each record ---- */

static void end(struct model *m, bool refused) {
    m->refused = m->refused || (refused && !m->released);
    m->code = m->state >= SP_PROCESS_RUNNING ? SP_OK : m->released ? SP_E_RELEASED : SP_E_LOST;
    m->state = SP_PROCESS_ENDED;
    m->exit_code = -1;
    m->signal = SIGKILL;
}

static bool is_refused(const struct model *m, const struct note *note) {
    const struct sp_record *r = &note->record;

    switch (r->type) {
    case SP_REC_ACK: /* no descriptor that hostile.h sends is the master of a terminal */
        return m->state != SP_PROCESS_SENT || r->u.id.id != 0 || note->n_fds != 0 || m->terminal;
    case SP_REC_STARTED:
        return m->state >= SP_PROCESS_RUNNING || note->n_fds != 0;
    case SP_REC_FAILED:
        return m->state >= SP_PROCESS_RUNNING || r->u.failed.id != 0 || note->n_fds != 0;
    case SP_REC_EXITED:
        return r->u.exited.id != 0 || note->n_fds != 0;
    default:
        return true;
    }
}

static void take(struct model *m, const struct note *note) {
    if (note->verdict != 0 || is_refused(m, note)) {
        end(m, note->verdict != -ECONNRESET);
        return;
    }
    const struct sp_record *r = &note->record;
    const int status = (int)r->u.exited.status;
    switch (r->type) {
    case SP_REC_ACK:
        m->state = SP_PROCESS_STARTING;
        break;
    case SP_REC_STARTED:
        m->state = SP_PROCESS_RUNNING;
        break;
    case SP_REC_FAILED:
        m->state = SP_PROCESS_ENDED;
        m->code = SP_E_EXEC;
        break;
    default:
        m->state = SP_PROCESS_ENDED;
        m->exit_code = (status & 0x7f) == 0 ? status >> 8 : -1;
        m->signal = status & 0x7f;
        break;
    }
}

static void poll_and_compare(sp_process *process, struct hostile *h, struct model *m) {
    sp_process_status status;
    sp_error error;
    const struct note *note = NULL;
    int rc = sp_process_poll(process, &status, &error);

    while (m->state != SP_PROCESS_ENDED && (note = hostile_next(h)) != NULL) {
        take(m, note);
    }
    if (m->state != SP_PROCESS_ENDED && h->hung_up) {
        end(m, false);
    }
    MUST(status.state == m->state && status.terminal == -1);
    MUST(rc == m->code || (m->code == SP_E_EXEC && rc == SP_E_NOT_FOUND));
    MUST(m->code != SP_OK || m->state != SP_PROCESS_ENDED ||
         (status.exit_code == m->exit_code && status.signal == m->signal));
    MUST(m->released || atomic_load(&world.killed) == m->refused);
    MUST((sp_process_fd(process) == -1) == (m->state == SP_PROCESS_ENDED));
}

static void act(sp_process *process, struct hostile *h, struct model *m, int64_t handle) {
    switch (feed_byte(&world.feed) & 15) {
    case 0:
        hostile_hang_up(h);
        break;
    case 1:
        MUST(sp_process_signal(process, 1 + feed_byte(&world.feed) % 64) >= 0);
        break;
    case 2:
        if (!m->released) {
            poll_and_compare(process, h, m);
            MUST(sp_release(world.pool, handle) == SP_OK);
            m->released = true;
        }
        break;
    case 3:
    case 4:
        poll_and_compare(process, h, m);
        break;
    default:
        hostile_record(h, &world.feed, 0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (world.pool == NULL) {
        open_world();
    }
    const uint64_t fds_before = open_fds();
    sp_process *process = NULL;
    sp_error error;

    world.feed = (struct feed){data, size};
    atomic_store(&world.killed, false);
    struct model m = {.state = SP_PROCESS_SENT, .terminal = (feed_byte(&world.feed) & 7) == 7};
    const int64_t handle = lease();
    const sp_process_request request = {.size = sizeof request,
                                        .argc = 1,
                                        .argv = "x",
                                        .argv_len = 2,
                                        .env = "",
                                        .terminal = m.terminal,
                                        .fds = {-1, 1, -1}};
    MUST(sp_process_start(world.pool, handle, &request, &process, &error) == SP_OK);
    struct hostile h = {.sock = receive(&request)};
    for (unsigned n = feed_byte(&world.feed) % 16; n != 0; n--) {
        act(process, &h, &m, handle);
    }
    poll_and_compare(process, &h, &m);
    sp_process_free(process);
    (void)sp_release(world.pool, handle);
    for (unsigned i = 0; atomic_load(&world.living) != 0 || atomic_load(&world.base.refs) != 2; i++) {
        MUST(i < 10 * 1000 * 1000);
        (void)sched_yield();
    }
    sp_fd_close(&h.sock);
    sp_fd_close(&world.control);
    MUST(open_fds() == fds_before);
    return 0;
}
