/*
 * An execute with a hostile init. The input decides what init sends before and after the request, what it writes to the
 * streams, and when it dies; the host may end the lease meanwhile. The outcome is compared with what init has sent.
 */
#include "host/execute/job.h"

#include <sched.h>

#include "hostile.h"

#define ATTEMPTS_MAX 4
#define OUTPUT_MAX 300
#define INPUT_SIZE (96 * 1024) /* more than a pipe holds */

enum outcome { PENDING, LOST, ANSWERED };

/* One sandbox, as its init sees it. */
struct attempt {
    struct hostile h;
    struct sp_session *session;
    struct note answer; /* the record that has answered */
    unsigned requests;  /* how many the host has sent */
    bool acked;         /* the current request */
    bool closed_early;  /* its end was closed before the request */
};

static struct world {
    struct sp_launcher base;
    sp_pool *pool;
    struct feed feed;
    struct attempt attempts[ATTEMPTS_MAX];
    unsigned n;
    int streams[3];
    size_t written[2];
    atomic_uint living;
} world;

/* ---- what init has sent ---- */

/* The outcome by the rules of session.h. Consumes the packets up to it. */
static enum outcome outcome_of(struct attempt *a) {
    const struct note *note = NULL;

    if (a->closed_early) {
        return LOST;
    }
    while ((note = hostile_next(&a->h)) != NULL) {
        const struct sp_record *r = &note->record;
        if (note->verdict != 0 || note->n_fds != 0) {
            return LOST;
        }
        if (r->type == SP_REC_ACK && r->u.id.id == a->requests && !a->acked) {
            a->acked = true;
        } else if (a->acked && ((r->type == SP_REC_EXITED && r->u.exited.id == a->requests) ||
                                (r->type == SP_REC_FAILED && r->u.failed.id == a->requests))) {
            a->answer = *note;
            return ANSWERED;
        } else {
            return LOST;
        }
    }
    return a->h.hung_up ? LOST : PENDING;
}

/* The same, but consumes nothing. */
static enum outcome outcome_so_far(const struct attempt *a, bool *acked) {
    struct attempt copy = *a;
    enum outcome outcome = outcome_of(&copy);

    *acked = copy.acked;
    return outcome;
}

static void send_records(struct attempt *a, uint32_t id) {
    unsigned n = feed_byte(&world.feed) % 8;

    for (unsigned i = 0; i < n && !a->h.hung_up; i++) {
        uint8_t op = feed_byte(&world.feed);
        if ((op & 7) == 7) {
            hostile_hang_up(&a->h);
        } else {
            hostile_record(&a->h, &world.feed, id);
        }
    }
}

/* If there is no outcome yet, the next poll would wait for ever: closes the connection. */
static void end_if_pending(struct attempt *a) {
    bool acked;

    if (outcome_so_far(a, &acked) == PENDING) {
        hostile_hang_up(&a->h);
    }
}

/* ---- the launcher ---- */

static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    int pair[2];

    (void)launcher;
    if (world.n == ATTEMPTS_MAX) {
        return sp_error_set(error, SP_E_CREATE, 1, EAGAIN, "enough");
    }
    struct attempt *a = &world.attempts[world.n++];
    MUST(sp_control_pair(pair) == 0);
    birth->session->control = pair[0];
    birth->session->pidfd = -1; /* so that nobody waits for its death */
    *a = (struct attempt){.h = {.sock = pair[1]}, .session = birth->session};
    atomic_fetch_add(&world.living, 1);
    send_records(a, 1);
    if (world.n > 1) { /* the host sends it a request during a poll, so its answers are sent now */
        a->requests = 1;
        end_if_pending(a);
        a->requests = 0;
    }
    if ((feed_byte(&world.feed) & 15) == 15) {
        a->closed_early = true;
        sp_fd_close(&a->h.sock);
        a->h.hung_up = true;
    }
    return 0;
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    (void)launcher;
    (void)error;
    birth->session->pid = 1;
    return 0;
}

static struct attempt *attempt_of(const struct sp_session *session) {
    unsigned i = 0;

    while (world.attempts[i].session != session) {
        i++;
    }
    return &world.attempts[i];
}

/* The job's deadline has passed. What init sends now may come too late, but it counts. */
static void kill_command(struct sp_session *session) {
    struct attempt *a = attempt_of(session);

    send_records(a, session->last_id);
    end_if_pending(a);
}

static void watch_memory(struct sp_session *session) { MUST(session->acked); }

static void kill_sandbox(struct sp_session *session) {
    struct attempt *a = attempt_of(session);

    if (a->h.sock != -1) {
        (void)shutdown(a->h.sock, SHUT_RDWR);
    }
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

static const struct sp_launch_ops ops = {.session_size = sizeof(struct sp_session),
                                         .death_grace_ns = SP_MS(300),
                                         .begin = begin,
                                         .step = step,
                                         .kill_command = kill_command,
                                         .watch_memory = watch_memory,
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

/* ---- one lease ---- */

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

static void write_stream(unsigned which) {
    static const char bytes[4096] = {'o'};
    size_t len = feed_byte(&world.feed) * 16u;
    int fd = world.streams[1 + which];
    ssize_t n = fd != -1 && world.written[which] < sizeof bytes ? write(fd, bytes, len) : 0;

    world.written[which] += n > 0 ? (size_t)n : 0;
}

static void read_input(void) {
    char bytes[8192];

    if (world.streams[0] != -1) {
        (void)fcntl(world.streams[0], F_SETFL, O_NONBLOCK);
        (void)!read(world.streams[0], bytes, sizeof bytes);
    }
}

/* Plays init and its command after the request. */
static void receive(struct attempt *a, bool has_input) {
    char buf[SP_PACKET_MAX];
    struct sp_packet packet;

    if (a->closed_early) {
        return;
    }
    MUST(sp_packet_recv(a->h.sock, &packet, buf, sizeof buf) == 0);
    while (packet.record.u.exec.id != a->requests) { /* a request that the host has sent during a poll */
        sp_packet_close(&packet);
        MUST(sp_packet_recv(a->h.sock, &packet, buf, sizeof buf) == 0);
    }
    MUST(packet.record.type == SP_REC_EXEC && packet.n_fds == (has_input ? 3u : 2u));
    for (unsigned i = 0; i < packet.n_fds; i++) {
        world.streams[has_input ? i : i + 1] = sp_fd_steal(&packet.fds[i]);
    }
    sp_packet_close(&packet);
    for (unsigned n = feed_byte(&world.feed) % 8; n != 0; n--) {
        uint8_t op = feed_byte(&world.feed);
        switch (op & 3) {
        case 0:
        case 1:
            write_stream(op & 1);
            break;
        case 2:
            read_input();
            break;
        default:
            sp_fd_close(&world.streams[(op >> 2) % 3]);
            break;
        }
    }
    send_records(a, a->requests);
}

static void check_result(const struct attempt *a, bool wrote, int rc, const sp_exec_result *result,
                         const sp_error *error) {
    const struct sp_record *r = &a->answer.record;
    const int status = (int)r->u.exited.status;

    if (r->type == SP_REC_FAILED) {
        MUST((rc == SP_E_EXEC || rc == SP_E_NOT_FOUND) && error->err == (int)r->u.failed.err);
        return;
    }
    MUST(rc == SP_OK);
    MUST(result->exit_code == ((status & 0x7f) == 0 ? status >> 8 : -1) && result->signal == (status & 0x7f));
    MUST(!result->timed_out || result->signal == 9);
    for (unsigned i = 0; i < 2 && wrote; i++) {
        const size_t len = i == 0 ? result->out_len : result->err_len;
        const bool truncated = (i == 0 ? result->stdout_truncated : result->stderr_truncated) != 0;
        MUST(len == (world.written[i] < OUTPUT_MAX ? world.written[i] : OUTPUT_MAX));
        MUST(truncated == (world.written[i] > OUTPUT_MAX));
    }
}

/* Checks the result of a job: the last sandbox that was tried decides, and no command has begun in those before it. */
static bool check_outcome(unsigned first, bool first_use, int rc, const sp_exec_result *result, const sp_error *error) {
    for (unsigned i = first; i + 1 < world.n; i++) {
        world.attempts[i].requests += i != first;
        MUST(first_use && outcome_of(&world.attempts[i]) == LOST && !world.attempts[i].acked);
    }
    struct attempt *last = &world.attempts[world.n - 1];
    last->requests += last != &world.attempts[first];
    if (outcome_of(last) == ANSWERED) {
        check_result(last, last == &world.attempts[first], rc, result,
                     error); /* only the first one writes to the streams */
        return true;
    }
    MUST(rc == SP_E_LOST || (rc == SP_OK && result->timed_out) || (rc == SP_E_CREATE && world.n == ATTEMPTS_MAX));
    MUST(last->acked || !first_use || world.n >= 3);
    return false;
}

/* Runs one job. False when the lease has ended. */
static bool execute(int64_t handle, unsigned first, bool first_use) {
    static const char input[INPUT_SIZE] = {'i'};
    const uint8_t how = feed_byte(&world.feed);
    const bool has_input = (how & 1) != 0;
    const sp_exec_request request = {.size = sizeof request,
                                     .argc = 1,
                                     .argv = "x",
                                     .argv_len = 2,
                                     .has_input = has_input,
                                     .input = input,
                                     .input_len = (how & 2) != 0 ? INPUT_SIZE : how,
                                     .timeout_ns = (how & 4) != 0 ? 0 : -1,
                                     .max_output_bytes = OUTPUT_MAX};
    struct attempt *a = &world.attempts[world.n - 1];
    sp_exec_result result = {0};
    sp_error error = {0};
    sp_job *job = NULL;
    bool acked = false;
    bool usable = false;

    world.written[0] = world.written[1] = 0;
    a->requests++;
    a->acked = false;
    int rc = sp_job_start(world.pool, handle, &request, &job, &error);
    if (rc == SP_OK) {
        if (a == &world.attempts[world.n - 1]) {
            receive(a, has_input);
        }
        if ((how & 8) != 0) {
            MUST(sp_release(world.pool, handle) == SP_OK);
        } else if (outcome_so_far(a, &acked) == PENDING && !(acked && request.timeout_ns == 0)) {
            hostile_hang_up(&a->h);
        }
        if ((how & 16) == 0) {
            int polled = SP_AGAIN;
            while (polled == SP_AGAIN) {
                polled = sp_job_poll(job);
            }
            MUST(polled == SP_OK);
            rc = sp_job_finish(job, &result, &error);
        } else if ((how & 8) == 0) {
            end_if_pending(a);
        }
    }
    if ((how & 8) != 0 && job != NULL) {
        MUST((how & 16) != 0 || rc == SP_E_RELEASED);
    } else if ((how & 16) == 0 || job == NULL) {
        usable = check_outcome(first, first_use, rc, &result, &error);
    }
    sp_job_free(job);
    for (unsigned i = 0; i < 3; i++) {
        sp_fd_close(&world.streams[i]);
    }
    return usable;
}

static void await_the_end(void) {
    for (unsigned i = 0; atomic_load(&world.living) != 0 || atomic_load(&world.base.refs) != 2; i++) {
        MUST(i < 10 * 1000 * 1000);
        (void)sched_yield();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (world.pool == NULL) {
        open_world();
    }
    const uint64_t fds_before = open_fds();
    sp_stats stats;
    bool on = true;

    world.feed = (struct feed){data, size};
    world.n = 0;
    memset(world.streams, -1, sizeof world.streams);
    const int64_t handle = lease();
    for (unsigned jobs = 0; on && jobs < 3; jobs++) {
        on = execute(handle, world.n - 1, jobs == 0);
    }
    (void)sp_release(world.pool, handle);
    MUST(sp_release(world.pool, handle) == SP_E_RELEASED);
    await_the_end();
    for (unsigned i = 0; i < world.n; i++) {
        sp_fd_close(&world.attempts[i].h.sock);
    }
    MUST(open_fds() == fds_before);
    MUST(sp_snapshot(world.pool, &stats) == SP_OK);
    MUST(stats.in_use_count == 0 && stats.idle_count == 0 && stats.created_count == stats.evict_count);
    return 0;
}
