/* A hostile init at the far end of a control socket: each attack is refused, nothing leaks, and the pool still works.
 */
#include "host/sandbox/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "fake_pool.h"

/* ---- what a hostile init can send ---- */

static void send_record(int sock, const struct sp_record *record) {
    (void)sp_packet_send(sock, &(struct sp_outgoing){.record = record}, 0);
}

static void send_ack(int sock, uint32_t id) {
    send_record(sock, &(struct sp_record){.type = SP_REC_ACK, .u.id.id = id});
}

static void send_exited(int sock, uint32_t id) {
    send_record(sock, &(struct sp_record){.type = SP_REC_EXITED, .u.exited.id = id});
}

static void send_failed(int sock, uint32_t id) {
    send_record(sock, &(struct sp_record){.type = SP_REC_FAILED, .u.failed = {.id = id, .stage = 1}});
}

static void exited_before_ack(int sock, uint32_t id) { send_exited(sock, id); }
static void failed_before_ack(int sock, uint32_t id) { send_failed(sock, id); }
static void ack_of_the_next(int sock, uint32_t id) { send_ack(sock, id + 1); }
static void ack_of_the_last(int sock, uint32_t id) { send_ack(sock, id - 1); }

/* All the answers to the command before this one. */
static void replay(int sock, uint32_t id) {
    send_ack(sock, id - 1);
    send_exited(sock, id - 1);
}

static void two_acks(int sock, uint32_t id) {
    send_ack(sock, id);
    send_ack(sock, id);
}

static void exited_of_the_last(int sock, uint32_t id) {
    send_ack(sock, id);
    send_exited(sock, id - 1);
}

static void failed_of_the_next(int sock, uint32_t id) {
    send_ack(sock, id);
    send_failed(sock, id + 1);
}

static void unknown_type(int sock, uint32_t id) {
    uint8_t bytes[SP_RECORD_SIZE];

    sp_wire_pack(&(struct sp_record){.type = SP_REC_ACK, .u.id.id = id}, bytes);
    bytes[6] = SP_REC_TYPE_END;
    send_raw(sock, bytes, sizeof bytes, -1, 0);
}

static void raw_ack(int sock, uint32_t id, size_t len, unsigned n_fds) {
    uint8_t bytes[SP_RECORD_SIZE + 1] = {0};

    sp_wire_pack(&(struct sp_record){.type = SP_REC_ACK, .u.id.id = id}, bytes);
    send_raw(sock, bytes, len, sock, n_fds);
}

static void short_packet(int sock, uint32_t id) { raw_ack(sock, id, SP_RECORD_SIZE - 1, 0); }
static void long_packet(int sock, uint32_t id) { raw_ack(sock, id, SP_RECORD_SIZE + 1, 0); }
static void one_byte(int sock, uint32_t id) { raw_ack(sock, id, 1, 0); }
static void one_fd(int sock, uint32_t id) { raw_ack(sock, id, SP_RECORD_SIZE, 1); }
static void three_fds(int sock, uint32_t id) { raw_ack(sock, id, SP_RECORD_SIZE, 3); }
static void many_fds(int sock, uint32_t id) { raw_ack(sock, id, SP_RECORD_SIZE, RAW_FDS); }
static void short_with_fds(int sock, uint32_t id) { raw_ack(sock, id, 1, 3); }
static void empty_packet(int sock, uint32_t id) { raw_ack(sock, id, 0, 0); }
static void empty_with_fds(int sock, uint32_t id) { raw_ack(sock, id, 0, 3); }

static void exited_with_an_fd(int sock, uint32_t id) {
    uint8_t bytes[SP_RECORD_SIZE];

    send_ack(sock, id);
    sp_wire_pack(&(struct sp_record){.type = SP_REC_EXITED, .u.exited.id = id}, bytes);
    send_raw(sock, bytes, sizeof bytes, sock, 1);
}

static void stopped_status(int sock, uint32_t id) {
    send_ack(sock, id);
    send_record(sock, &(struct sp_record){.type = SP_REC_EXITED, .u.exited = {.id = id, .status = 0x137f}});
}

static void a_record_of_the_host(int sock, uint32_t id) {
    send_ack(sock, id);
    send_record(sock, &(struct sp_record){.type = SP_REC_EXEC, .u.exec = {.id = id, .argc = 1, .payload_len = 2}});
}

static void ready_again(int sock, uint32_t id) {
    (void)id;
    send_record(sock, &(struct sp_record){.type = SP_REC_READY});
}

static void created_again(int sock, uint32_t id) {
    (void)id;
    send_record(sock, &(struct sp_record){.type = SP_REC_CREATED});
}

/* Sends as much as the socket takes. */
static void flood(int sock, uint32_t id) {
    static const char junk[64 * 1024] = {0};

    send_ack(sock, id);
    while (send(sock, junk, sizeof junk, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
    }
}

static void hang_up(int sock, uint32_t id) {
    send_ack(sock, id);
    (void)shutdown(sock, SHUT_RDWR);
}

static const struct attack {
    const char *name;
    void (*run)(int sock, uint32_t id);
    unsigned sound; /* the number of valid records before the invalid one */
    int refusal;
} attacks[] = {
#define ATTACK(name, sound, refusal) {#name, name, sound, refusal}
    ATTACK(exited_before_ack, 0, -EBADMSG),
    ATTACK(failed_before_ack, 0, -EBADMSG),
    ATTACK(ack_of_the_next, 0, -EBADMSG),
    ATTACK(ack_of_the_last, 0, -EBADMSG),
    ATTACK(replay, 0, -EBADMSG),
    ATTACK(two_acks, 1, -EBADMSG),
    ATTACK(exited_of_the_last, 1, -EBADMSG),
    ATTACK(failed_of_the_next, 1, -EBADMSG),
    ATTACK(unknown_type, 0, -EBADMSG),
    ATTACK(short_packet, 0, -EBADMSG),
    ATTACK(long_packet, 0, -EBADMSG),
    ATTACK(one_byte, 0, -EBADMSG),
    ATTACK(one_fd, 0, -EBADMSG),
    ATTACK(three_fds, 0, -EBADMSG),
    ATTACK(many_fds, 0, -EBADMSG),
    ATTACK(short_with_fds, 0, -EBADMSG),
    ATTACK(empty_packet, 0, -ECONNRESET),
    ATTACK(empty_with_fds, 0, -ECONNRESET),
    ATTACK(exited_with_an_fd, 1, -EBADMSG),
    ATTACK(stopped_status, 1, -EBADMSG),
    ATTACK(a_record_of_the_host, 1, -EBADMSG),
    ATTACK(ready_again, 0, -EBADMSG),
    ATTACK(created_again, 0, -EBADMSG),
    ATTACK(flood, 1, -EBADMSG),
    ATTACK(hang_up, 1, -ECONNRESET),
};

#define ATTACKS (sizeof attacks / sizeof attacks[0])

static void name_if_failed(const char *name, unsigned failures) {
    if (atomic_load(&check_failures) != failures) {
        (void)fprintf(stderr, "  under the attack %s\n", name);
    }
}

/* ---- against a session ---- */

struct duel {
    struct sp_launcher launcher; /* it does nothing: only the session's socket is used */
    struct sp_session session;
    int far_end;
    unsigned fds_before;
};

static const struct sp_launch_ops no_ops = {.has_init = true};

static void begin_duel(struct duel *d) {
    int pair[2];

    d->fds_before = count_fds();
    make_pair(pair);
    CHECK(sp_fd_show_sender(pair[0]) == 0); /* as sp_control_pair() does */
    d->launcher = (struct sp_launcher){.ops = &no_ops};
    d->session = (struct sp_session){.launcher = &d->launcher, .control = pair[0], .pidfd = -1, .home = "/tmp"};
    d->far_end = pair[1];
}

static void end_duel(struct duel *d) {
    sp_fd_close(&d->session.control);
    sp_fd_close(&d->far_end);
    CHECK(count_fds() == d->fds_before);
}

/* The record of a command that was sent. */
static struct sp_record request(struct duel *d) {
    struct sp_packet packet;
    char buf[64];
    const int fds[2] = {d->far_end, d->far_end};
    const struct sp_session_exec exec = {.argc = 1, .cwd = "/tmp", .argv = "x", .argv_len = 2, .fds = fds};

    CHECK(sp_session_send_exec(&d->session, &exec, 0) == 0);
    CHECK(sp_packet_recv(d->far_end, &packet, buf, sizeof buf) == 0);
    CHECK(packet.record.type == SP_REC_EXEC && packet.record.u.exec.id == d->session.last_id && packet.n_fds == 2);
    sp_packet_close(&packet);
    return packet.record;
}

/* Receives until a record is refused, and counts the records before it. */
static int receive_all(struct duel *d, unsigned *sound) {
    struct sp_record record;
    int rc = 0;

    for (*sound = 0; (rc = sp_session_recv(&d->session, &record, NULL)) == 0; ++*sound) {
    }
    return rc;
}

static void answer_correctly(struct duel *d) {
    unsigned sound = 0;

    (void)request(d);
    send_ack(d->far_end, d->session.last_id);
    send_exited(d->far_end, d->session.last_id);
    CHECK(receive_all(d, &sound) == -EAGAIN && sound == 2);
}

static void valid_answers_are_accepted(void) {
    struct duel d;
    struct sp_record record;

    begin_duel(&d);
    CHECK(sp_session_recv(&d.session, &record, NULL) == -EAGAIN);
    answer_correctly(&d);
    answer_correctly(&d);
    (void)request(&d);
    send_ack(d.far_end, 3);
    send_record(d.far_end, &(struct sp_record){.type = SP_REC_FAILED,
                                               .u.failed = {.id = 3, .stage = 4, .err = ENOENT, .detail = "no"}});
    CHECK(sp_session_recv(&d.session, &record, NULL) == 0 && record.type == SP_REC_ACK);
    CHECK(sp_session_recv(&d.session, &record, NULL) == 0 && record.type == SP_REC_FAILED);
    CHECK(record.u.failed.stage == 4 && record.u.failed.err == ENOENT && record.u.failed.detail[0] == 'n');
    end_duel(&d);
}

static void every_attack_is_refused(void) {
    for (unsigned i = 0; i < ATTACKS; i++) {
        const unsigned failures = atomic_load(&check_failures);
        struct duel d;
        unsigned sound = 0;

        begin_duel(&d);
        answer_correctly(&d); /* so that there was an earlier id */
        (void)request(&d);
        attacks[i].run(d.far_end, d.session.last_id);
        CHECK(receive_all(&d, &sound) == attacks[i].refusal);
        CHECK(sound == attacks[i].sound);
        end_duel(&d);
        name_if_failed(attacks[i].name, failures);
    }
}

/* After ACK comes either FAILED or EXITED, and only once. */
static void the_end_is_accepted_once(void) {
    static void (*const ends[])(int, uint32_t) = {send_exited, send_failed, send_ack};

    for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct duel d;
        unsigned sound = 0;

        begin_duel(&d);
        answer_correctly(&d);
        ends[i](d.far_end, d.session.last_id);
        CHECK(receive_all(&d, &sound) == -EBADMSG && sound == 0);
        end_duel(&d);
    }
}

static void nothing_is_expected_before_a_request(void) {
    static void (*const words[])(int, uint32_t) = {send_ack, send_exited, send_failed};

    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct duel d;
        unsigned sound = 0;

        begin_duel(&d);
        words[i](d.far_end, 0); /* as the first request's id is 1 */
        CHECK(receive_all(&d, &sound) == -EBADMSG && sound == 0);
        end_duel(&d);
    }
}

static void a_health_check_refuses_every_attack(void) {
    const struct sp_check check = {.argc = 1, .argv = "/bin/true", .argv_len = sizeof "/bin/true"};

    for (unsigned i = 0; i < ATTACKS; i++) {
        const unsigned failures = atomic_load(&check_failures);
        struct duel d;
        int status = -1;

        begin_duel(&d);
        answer_correctly(&d);
        CHECK(sp_session_check_begin(&d.session, &check, 0) == 0);
        attacks[i].run(d.far_end, d.session.last_id);
        CHECK(sp_session_check_step(&d.session, &status) < 0 && status == -1);
        end_duel(&d);
        name_if_failed(attacks[i].name, failures);
    }
}

/* ---- the flag that tells init that no request will follow ---- */

/* The flags of a command that ends at once. */
static uint32_t flags_of(struct duel *d) {
    const uint32_t flags = request(d).u.exec.flags;
    send_ack(d->far_end, d->session.last_id);
    send_exited(d->far_end, d->session.last_id);
    CHECK(receive_all(d, &(unsigned){0}) == -EAGAIN);
    return flags;
}

static void release_nothing(struct sp_session *session) { (void)session; }

static const struct sp_launch_ops counted_ops = {
    .has_init = true, .session_size = sizeof(struct sp_session), .kill_sandbox = release_nothing};

/* A sandbox of the launcher; `far_end` is what init has. */
static void begin_counted(struct duel *d, struct sp_launcher *launcher) {
    begin_duel(d);
    d->session.launcher = launcher;
}

/* The session ends as that of a lease does. Its memory is this test's, so a copy on the heap ends. */
static void end_counted(struct duel *d) {
    struct sp_session *session = sp_session_new(d->session.launcher);

    CHECK(session != NULL);
    atomic_store(&session->requests, atomic_load(&d->session.requests));
    sp_session_end(session);
    end_duel(d);
}

/* `requests`: of one lease. The flags of the first. */
static uint32_t lease_of(struct sp_launcher *launcher, unsigned commands, bool checked, bool asks) {
    const struct sp_check check = {.argc = 1, .argv = "/bin/true", .argv_len = sizeof "/bin/true"};
    const struct sp_session_request file = {.record = {.type = SP_REC_FILE, .u.file = {.op = SP_FILE_STAT}}};
    struct sp_packet packet;
    char buf[64];
    struct duel d;
    uint32_t first = 0;
    int status = -1;
    int reply = -1;

    begin_counted(&d, launcher);
    if (checked) {
        CHECK(sp_session_check_begin(&d.session, &check, 0) == 0);
        CHECK(sp_packet_recv(d.far_end, &packet, buf, sizeof buf) == 0);
        CHECK((packet.record.u.exec.flags & SP_EXEC_LAST) == 0);
        sp_packet_close(&packet);
        send_ack(d.far_end, d.session.last_id);
        send_exited(d.far_end, d.session.last_id);
        CHECK(sp_session_check_step(&d.session, &status) == 0 && status == 0);
    }
    for (unsigned i = 0; i < commands; i++) {
        const uint32_t flags = flags_of(&d);
        CHECK(i == 0 || (flags & SP_EXEC_LAST) == 0); /* the guess was wrong for this lease */
        first = i == 0 ? flags : first;
    }
    if (asks) {
        CHECK(sp_session_request(&d.session, &file, 0, &reply) == 0);
        sp_fd_close(&reply);
    }
    end_counted(&d);
    return first & SP_EXEC_LAST;
}

#define BEFORE_A_GUESS 4

static void lease_single(struct sp_launcher *launcher, uint32_t flag) {
    CHECK(lease_of(launcher, 1, false, false) == flag);
}

/* The guess comes after some leases with one command, and goes with the first other one. */
static void the_last_command_is_guessed_from_earlier_leases(void) {
    struct sp_launcher launcher = {.ops = &counted_ops, .refs = 1};

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < BEFORE_A_GUESS; i++) {
            lease_single(&launcher, 0);
        }
        lease_single(&launcher, SP_EXEC_LAST);
        CHECK(lease_of(&launcher, 0, false, false) == 0);           /* unused: it says nothing */
        CHECK(lease_of(&launcher, 1, true, false) == SP_EXEC_LAST); /* a health check says nothing, either */
        if (round == 0) {
            CHECK(lease_of(&launcher, 2, false, false) == SP_EXEC_LAST);
        } else {
            CHECK(lease_of(&launcher, 1, false, true) == SP_EXEC_LAST); /* a file call */
        }
    }
}

/* ---- against a pool ---- */

/* Replaces the control socket of this lease: now the test plays init, and the fake launcher reads end of file. Returns
 * the far end. */
static int take_over_control(sp_pool *pool, int64_t handle) {
    int pair[2];

    make_pair(pair);
    struct sp_session *session = pool->slots[slot_of(handle)].session;
    CHECK(dup2(pair[0], session->control) != -1);
    session->control_identity = sp_identity_of(session->control);
    sp_fd_close(&pair[0]);
    return pair[1];
}

/* Runs a job whose init answers with this attack. Returns the result of sp_job_finish(). */
static int run_under(sp_pool *pool, int64_t handle, int far_end, const struct attack *attack, sp_exec_result *result) {
    const sp_exec_request exec = request_for(10000 * MS);
    sp_job *job = NULL;
    sp_error error;
    int rc = sp_job_start(pool, handle, &exec, &job, &error);

    CHECK(rc == SP_OK);
    if (rc == SP_OK) {
        attack->run(far_end, pool->slots[slot_of(handle)].session->last_id);
        CHECK(poll_to_end(job) == SP_OK);
        rc = sp_job_finish(job, result, &error);
    }
    sp_job_free(job);
    return rc;
}

static void the_pool_still_works(struct fake_pool *f, int64_t handle) {
    CHECK(use(f->pool, handle) == SP_E_LOST);
    CHECK(sp_release(f->pool, handle) == SP_OK);
    CHECK(REACHED(stats_of(f->pool).idle_count == 1 && stats_of(f->pool).recycling_count == 0, 5000));
    handle = sp_acquire(f->pool);
    CHECK(handle > 0 && use(f->pool, handle) == 0);
    CHECK(sp_release(f->pool, handle) == SP_OK);
}

static void an_attacked_job_is_lost(void) {
    for (unsigned i = 0; i < ATTACKS; i++) {
        const unsigned failures = atomic_load(&check_failures);
        struct fake_pool f;
        sp_exec_result result;
        int64_t handle = 0;
        int far_end = -1;

        open_pool(&f, 0, 2, 0);
        handle = acquire(f.pool, -1);
        CHECK(use(f.pool, handle) == 0); /* now the lease is used, and its sandbox is not replaced any more */
        CHECK(sp_fake_live(f.launcher) == 1);
        far_end = take_over_control(f.pool, handle);
        CHECK(run_under(f.pool, handle, far_end, &attacks[i], &result) == SP_E_LOST);
        CHECK(sp_fake_live(f.launcher) == 0); /* killed */
        sp_fd_close(&far_end);
        the_pool_still_works(&f, handle);
        shut_pool(&f);
        name_if_failed(attacks[i].name, failures);
    }
}

/* Without an ACK no command has started, so an unused lease gets another sandbox. After an ACK the lease is lost. */
static void an_unused_lease_gets_another_sandbox_before_the_ack(void) {
    for (unsigned i = 0; i < ATTACKS; i++) {
        const unsigned failures = atomic_load(&check_failures);
        const bool acked = attacks[i].sound != 0;
        struct fake_pool f;
        sp_exec_result result = {.exit_code = -2};
        int64_t handle = 0;
        int far_end = -1;

        open_pool(&f, 1, 1, 0);
        handle = acquire(f.pool, -1);
        far_end = take_over_control(f.pool, handle);
        CHECK(run_under(f.pool, handle, far_end, &attacks[i], &result) == (acked ? SP_E_LOST : SP_OK));
        CHECK(acked || result.exit_code == 0);
        sp_fd_close(&far_end);
        CHECK(sp_release(f.pool, handle) == SP_OK);
        CHECK(REACHED(stats_of(f.pool).idle_count == 1, 5000));
        shut_pool(&f);
        name_if_failed(attacks[i].name, failures);
    }
}

/* The second EXITED is in the socket when the next command is sent. */
static void a_second_end_makes_the_next_command_fail(void) {
    const struct attack twice = {"exited twice", send_exited, 0, 0};
    const sp_exec_request exec = request_for(10000 * MS);
    struct fake_pool f;
    sp_exec_result result = {0};
    sp_job *job = NULL;
    sp_error error;
    int far_end = -1;

    open_pool(&f, 1, 1, 0);
    const int64_t handle = acquire(f.pool, -1);
    far_end = take_over_control(f.pool, handle);
    CHECK(sp_job_start(f.pool, handle, &exec, &job, &error) == SP_OK);
    send_ack(far_end, 1);
    send_record(far_end, &(struct sp_record){.type = SP_REC_EXITED, .u.exited = {.id = 1, .status = 7 << 8}});
    send_exited(far_end, 1);
    CHECK(poll_to_end(job) == SP_OK && sp_job_finish(job, &result, &error) == SP_OK && result.exit_code == 7);
    sp_job_free(job);
    CHECK(run_under(f.pool, handle, far_end, &twice, &result) == SP_E_LOST);
    sp_fd_close(&far_end);
    the_pool_still_works(&f, handle);
    shut_pool(&f);
}

/* ---- a launcher each of whose inits dies on its first request ---- */

#define BIRTHS_MAX 64
#define BIRTHS_FAIR 8 /* a few attempts are allowed; without a bound there would be BIRTHS_MAX */

static struct dying {
    struct sp_launcher base;
    atomic_int births;
    int far_ends[BIRTHS_MAX];
    pthread_t inits[BIRTHS_MAX];
} dying;

static void *die_on_a_request(void *far_end) {
    struct sp_packet packet;
    char buf[256];

    CHECK(sp_wait_fd(*(int *)far_end, POLLIN, SP_NEVER) == 0);
    (void)sp_packet_recv(*(int *)far_end, &packet, buf, sizeof buf);
    sp_packet_close(&packet);
    sp_fd_close(far_end);
    return NULL;
}

static int dying_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    const int n = atomic_fetch_add(&dying.births, 1);
    int pair[2];

    (void)launcher;
    if (n >= BIRTHS_MAX) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_CLONE, EAGAIN, "enough");
    }
    make_pair(pair);
    birth->session->control = pair[0];
    birth->session->pidfd = eventfd(0, EFD_CLOEXEC);
    dying.far_ends[n] = pair[1];
    return pthread_create(&dying.inits[n], NULL, die_on_a_request, &dying.far_ends[n]) == 0 ? 0 : SP_E_CREATE;
}

static int dying_step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    (void)launcher;
    (void)birth;
    (void)error;
    return 0;
}

static void dying_kill(struct sp_session *session) { (void)session; }

static void dying_shutdown(sp_launcher *launcher, int64_t deadline) {
    (void)launcher;
    (void)deadline;
}

static void dying_free(sp_launcher *launcher) { (void)launcher; }

static const struct sp_launch_ops dying_ops = {
    .session_size = sizeof(struct sp_session),
    .begin = dying_begin,
    .step = dying_step,
    .check_begin = sp_session_check_begin,
    .check_step = sp_session_check_step,
    .kill_sandbox = dying_kill,
    .shutdown = dying_shutdown,
    .free = dying_free,
};

static void the_number_of_replacements_is_bounded(void) {
    const sp_pool_options options = pool_options(0, 1, 0);
    const unsigned fds_before = count_fds();
    sp_error error;
    sp_pool *pool = NULL;
    int64_t handle = 0;
    int births = 0;

    dying.base = (struct sp_launcher){.ops = &dying_ops, .refs = 1};
    pool = sp_pool_open(&dying.base, &options, &error);
    if (pool == NULL) {
        abort();
    }
    handle = acquire(pool, -1);
    CHECK(handle > 0 && use(pool, handle) == SP_E_LOST);
    births = atomic_load(&dying.births);
    CHECK(births <= BIRTHS_FAIR);
    sp_pool_free(pool);
    births = births < BIRTHS_MAX ? births : BIRTHS_MAX;
    for (int i = 0; i < births; i++) {
        CHECK(pthread_join(dying.inits[i], NULL) == 0);
    }
    CHECK(count_fds() == fds_before);
}

/* ---- parts of a session ---- */

/* Only the first ACK of a runtime may bring descriptors, so that only then having no room for them is nobody's fault.
 */
static void an_answer_for_which_there_is_no_room_is_taken_once(void) {
    const struct sp_record ack = {.type = SP_REC_ACK};
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 8; i++) {
        struct rlimit before;
        struct sp_record record;
        int ends[SP_RUNTIME_ENDS];
        int pair[2];
        make_pair(pair);
        struct sp_session session = {.control = pair[0],
                                     .control_identity = sp_identity_of(pair[0]),
                                     .for_runtime = (i & 1) != 0,
                                     .open = (i & 2) != 0,
                                     .acked = (i & 4) != 0};
        CHECK(sp_packet_send(pair[1], &(struct sp_outgoing){.record = &ack, .fds = &null, .n_fds = 1}, 0) == 0);
        const int lowest = fcntl(0, F_DUPFD, 0);
        CHECK(lowest != -1 && close(lowest) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
        CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max}) == 0);
        CHECK(sp_session_recv(&session, &record, ends) == -EMFILE && session.acked == (i >= 3));
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        session.control_identity = sp_identity_of(null);
        CHECK(sp_session_recv(&session, &record, NULL) == -EBADF); /* another file has its number */
        CHECK(close(pair[0]) == 0 && close(pair[1]) == 0);
    }
    CHECK(close(null) == 0);
}

/* Two pools share a launcher. The first one that leaves takes its own killed sandboxes with it. */
static void a_pool_that_leaves_checks_its_sandboxes_no_more(void) {
    dying.base = (struct sp_launcher){.ops = &dying_ops, .refs = 1, .checkers = 2};
    struct sp_session *list = sp_session_new(&dying.base);
    struct sp_session *other = sp_session_new(&dying.base);
    if (list == NULL || other == NULL) {
        abort();
    }
    sp_dying_add(other);
    sp_dying_leave(&dying.base, &list);
    CHECK(list == NULL && atomic_load(&dying.base.dying) == other && dying.base.checkers == 1);
    sp_dying_leave(&dying.base, &list);
    CHECK(atomic_load(&dying.base.dying) == NULL);
}

int main(void) {
    check_deadline(60);
    RUN(valid_answers_are_accepted);
    RUN(every_attack_is_refused);
    RUN(the_end_is_accepted_once);
    RUN(nothing_is_expected_before_a_request);
    RUN(a_health_check_refuses_every_attack);
    RUN(the_last_command_is_guessed_from_earlier_leases);
    RUN(an_attacked_job_is_lost);
    RUN(an_unused_lease_gets_another_sandbox_before_the_ack);
    RUN(a_second_end_makes_the_next_command_fail);
    RUN(the_number_of_replacements_is_bounded);
    RUN(an_answer_for_which_there_is_no_room_is_taken_once);
    RUN(a_pool_that_leaves_checks_its_sandboxes_no_more);
    return check_report();
}
