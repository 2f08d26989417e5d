/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/host/sandbox/session.c csrc/host/sandbox/control.c csrc/host/sandbox/isolation.c
 * csrc/host/sandbox/launch.c csrc/host/sandbox/birth.c csrc/host/sandbox/error.c csrc/host/sandbox/dying.c
 * csrc/host/sys/own.c */
/*
 * A birth and then a session with a hostile zygote and init, over real sockets. The host's result for each packet is
 * compared with the rules, which are written here once more. At the end no descriptor is left.
 */
#include "host/sandbox/session.h"

#include "common/clock.h"
#include "common/fact.h"
#include "common/stage.h"
#include "hostile.h"

static unsigned kills;

static void count_kill(struct sp_session *session) {
    (void)session;
    kills++;
}

static void never_freed(sp_launcher *launcher) {
    (void)launcher;
    MUST(false);
}

static const struct sp_launch_ops ops = {.session_size = sizeof(struct sp_session),
                                         .step = sp_birth_receive,
                                         .kill_sandbox = count_kill,
                                         .free = never_freed};
static struct sp_launcher launcher = {.ops = &ops, .refs = 1};

/* ---- the birth ---- */

/* The result that the host must return when it has received everything that was sent. */
static int expected_birth(struct hostile *h, bool *ready, bool *created, sp_error *error) {
    while (!*ready || !*created) {
        const struct note *note = hostile_next(h);
        if (note == NULL && !h->hung_up) {
            return SP_AGAIN;
        }
        const bool has_text = note != NULL && note->is_followed && note->record.type == SP_REC_FAILED;
        if (note == NULL || (note->verdict != 0 && !has_text)) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, note == NULL ? ECONNRESET : -note->verdict, "");
        }
        bool sound = false;
        switch (note->record.type) {
        case SP_REC_CREATED:
            sound = note->n_fds == 1 && !*created;
            *created = true;
            break;
        case SP_REC_READY:
            sound = note->n_fds == 0 && !*ready;
            *ready = true;
            if (sound && note->record.u.ready.landlock_abi != 0 &&
                (note->record.u.ready.facts & SP_FACT_LANDLOCK_DENIES) == 0) { /* this launcher demands no other fact */
                return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROOF, ENOTSUP, "");
            }
            break;
        case SP_REC_FAILED:
            return sp_error_set(error, SP_E_CREATE, note->record.u.failed.stage, (int)note->record.u.failed.err, "");
        default:
            break;
        }
        if (!sound) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "");
        }
    }
    return 0;
}

/* Receives CREATE as the zygote, and takes the far end of the control socket from it. */
static void take_far_end(int zygote, struct hostile *h, bool in_cgroup) {
    struct sp_packet packet;

    MUST(sp_packet_recv(zygote, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_CREATE);
    MUST(packet.n_fds == (in_cgroup ? 2u : 1u));
    h->sock = sp_fd_steal(&packet.fds[0]);
    sp_packet_close(&packet);
}

static bool run_birth(struct feed *feed, struct hostile *h, struct sp_birth *birth) {
    bool ready = false;
    bool created = false;
    int rc = SP_AGAIN;

    while (rc == SP_AGAIN) {
        sp_error error;
        sp_error expected;
        uint8_t op = feed->left != 0 ? feed_byte(feed) : 6;

        if ((op & 7) < 5) {
            hostile_record(h, feed, 0);
            continue;
        }
        if ((op & 7) == 6) {
            hostile_hang_up(h);
        }
        rc = sp_birth_step(birth, &error);
        MUST(rc == expected_birth(h, &ready, &created, &expected));
        if (rc == SP_E_CREATE) {
            MUST(error.stage == expected.stage && error.err == expected.err && birth->session == NULL && kills == 1);
        }
    }
    MUST(rc != 0 || (birth->session->pid == getpid() && birth->session->pidfd != -1));
    return rc == 0;
}

/* ---- the session ---- */

struct peer {
    struct sp_session *session;
    struct hostile *h;
    bool open, acked;
};

static void send_request(struct peer *l, uint8_t how) {
    char buf[SP_PACKET_MAX];
    struct sp_packet packet;
    const struct sp_check check = {.argc = 1, .argv = "true", .argv_len = sizeof "true"};
    int rc = 0;

    if ((how & 8) != 0) {
        rc = sp_session_check_begin(l->session, &check, 0);
    } else {
        const int fds[3] = {0, 0, 0};
        const struct sp_session_exec exec = {
            .argc = 1, .cwd = "/", .argv = "x", .argv_len = 2, .fds = fds, .has_stdin = (how & 16) != 0};
        rc = sp_session_send_exec(l->session, &exec, 0);
    }
    MUST(rc == 0 && sp_packet_recv(l->h->sock, &packet, buf, sizeof buf) == 0);
    MUST(packet.record.u.exec.id == l->session->last_id && packet.n_fds == ((how & 24) == 16 ? 3u : 2u));
    sp_packet_close(&packet);
    l->open = true;
    l->acked = false;
}

/* Takes the next packet. Returns the result that the host must get for it. */
static int expected_receive(struct peer *l, const struct note **taken) {
    const struct note *note = hostile_next(l->h);

    *taken = note;
    if (note == NULL || note->verdict != 0) {
        return note != NULL ? note->verdict : l->h->hung_up ? -ECONNRESET : -EAGAIN;
    }
    const struct sp_record *r = &note->record;
    const uint32_t id = l->session->last_id;
    bool ends =
        (r->type == SP_REC_EXITED && r->u.exited.id == id) || (r->type == SP_REC_FAILED && r->u.failed.id == id);
    bool acks = r->type == SP_REC_ACK && r->u.id.id == id;
    if (note->n_fds != 0 || !l->open || !(l->acked ? ends : acks)) {
        return -EBADMSG;
    }
    l->acked = true;
    l->open = acks;
    return 0;
}

static int receive_once(struct peer *l) {
    const struct note *note = NULL;
    struct sp_record record;
    int expected = expected_receive(l, &note);
    int rc = sp_session_recv(l->session, &record, NULL);

    MUST(rc == expected);
    MUST(rc != 0 || same_record(&record, &note->record));
    return rc;
}

static int check_once(struct peer *l) {
    const struct note *note = NULL;
    int expected = expected_receive(l, &note);
    int status = -1;

    while (expected == 0 && note->record.type == SP_REC_ACK) {
        expected = expected_receive(l, &note);
    }
    int rc = sp_session_check_step(l->session, &status);
    if (expected == 0 && note->record.type == SP_REC_FAILED) {
        MUST(rc < 0 && (note->record.u.failed.err == 0 || rc == -(int)note->record.u.failed.err));
        return 0;
    }
    MUST(rc == (expected == -EAGAIN ? SP_AGAIN : expected));
    MUST(rc != 0 || status == (int)note->record.u.exited.status);
    return expected;
}

static void run_session(struct feed *feed, struct peer *l) {
    int rc = 0;

    while (rc == 0 || rc == -EAGAIN) {
        uint8_t op = feed->left != 0 ? feed_byte(feed) : 6;

        switch (op & 7) {
        case 0:
        case 1:
        case 2:
            hostile_record(l->h, feed, l->session->last_id);
            break;
        case 3:
        case 4:
            rc = receive_once(l);
            break;
        case 5:
            rc = check_once(l);
            break;
        case 6:
            hostile_hang_up(l->h);
            rc = receive_once(l);
            break;
        default:
            send_request(l, op);
            break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct feed feed = {data, size};
    struct hostile *h = calloc(1, sizeof *h);
    struct sp_birth birth = {.session = sp_session_new(&launcher), .deadline = SP_NEVER};
    const uint64_t fds_before = open_fds();
    const bool in_cgroup = (feed_byte(&feed) & 1) != 0;
    int zygote[2];
    sp_error error;

    MUST(h != NULL && birth.session != NULL && sp_control_pair(zygote) == 0);
    kills = 0;
    MUST(sp_birth_request(zygote[0], in_cgroup ? zygote[0] : -1, &birth, &error) == 0);
    take_far_end(zygote[1], h, in_cgroup);
    if (run_birth(&feed, h, &birth)) {
        run_session(&feed, &(struct peer){.session = birth.session, .h = h});
        sp_session_end(birth.session);
    }
    MUST(kills == 1 && launcher.refs == 1);
    sp_fd_close(&h->sock);
    sp_fd_close(&zygote[0]);
    sp_fd_close(&zygote[1]);
    free(h);
    MUST(open_fds() == fds_before);
    return 0;
}
