/*
 * A birth over a zygote's socket. The host itself creates the pair of control sockets of the sandbox, and sends the far
 * end along with CREATE. The answers come back over that pair. So births need no lock, no numbers and no thread that
 * distributes replies: any thread may have births under way.
 */
#include <errno.h>

#include "common/fd.h"
#include "common/packet.h"
#include "host/sandbox/launch.h"

int sp_control_pair(int pair[2]) {
    int rc = sp_packet_pair(pair);
    return rc != 0 ? rc : sp_fd_show_sender(pair[0]);
}

int sp_birth_request(int zygote_sock, int cgroup, struct sp_birth *birth, sp_error *error) {
    int pair[2];
    int rc = sp_control_pair(pair);
    birth->session->control = pair[0];
    sp_auto_fd int far_end = pair[1];
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "socketpair");
    }
    struct sp_record create = {.type = SP_REC_CREATE};
    const int fds[2] = {far_end, cgroup};
    struct sp_outgoing out = {.record = &create, .fds = fds, .n_fds = cgroup != -1 ? 2 : 1};
    rc = sp_packet_send(zygote_sock, &out, birth->deadline);
    return rc == 0 ? 0 : sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, -rc, "the zygote is gone");
}

/* Hands on the diagnostics of an interpreter that did not get ready. */
static void note(const struct sp_birth *birth, const struct sp_packet *packet, const char *diagnostics) {
    sp_launcher *launcher = birth->session->launcher;
    if (packet->record.u.failed.stage == SP_STAGE_PRELOAD && launcher->ops->note != NULL) {
        launcher->ops->note(launcher, diagnostics, packet->payload_len);
    }
}

/* Handles one record of a birth: CREATED with the pidfd from the zygote, READY, or FAILED. */
static int take_record(struct sp_birth *birth, struct sp_packet *packet, const char *diagnostics, sp_error *error) {
    if (packet->record.type == SP_REC_FAILED) {
        note(birth, packet, diagnostics);
        return sp_error_from(error, &packet->record.u.failed);
    }
    if (packet->payload_len != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "malformed record");
    }
    switch (packet->record.type) {
    case SP_REC_CREATED:
        if (packet->n_fds == 1 && birth->session->pidfd == -1) {
            birth->session->pidfd = sp_fd_steal(&packet->fds[0]);
            birth->session->bindings = packet->record.u.created.bindings;
            birth->session->lease = packet->record.u.created.lease;
            birth->session->stale = packet->record.u.created.stale != 0;
            return 0;
        }
        break;
    case SP_REC_READY:
        if (!birth->ready && packet->n_fds == 0 && packet->sender > 0) {
            birth->ready = true;
            birth->session->pid = packet->sender;
            birth->session->isolation.facts = packet->record.u.ready.facts;
            birth->session->isolation.landlock_abi = packet->record.u.ready.landlock_abi;
            return sp_isolation_check(birth->session->launcher->demanded, &birth->session->isolation, error);
        }
        break;
    default:
        break;
    }
    return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
}

int sp_birth_receive(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    (void)launcher;
    while (!birth->ready || birth->session->pidfd == -1) {
        struct sp_packet packet;
        char diagnostics[SP_DIAGNOSTICS_MAX];
        int rc = sp_packet_recv(birth->session->control, &packet, diagnostics, sizeof diagnostics);
        if (rc == -EAGAIN) {
            return SP_AGAIN;
        }
        if (rc != 0) {
            const char *detail = rc == -ECONNRESET ? "the sandbox died while it was created" : "malformed record";
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, -rc, detail);
        }
        rc = take_record(birth, &packet, diagnostics, error);
        sp_packet_close(&packet);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
