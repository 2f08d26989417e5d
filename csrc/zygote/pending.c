#include "zygote/pending.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/stage.h"
#include "zygote/zygote.h"

#define INIT_TIMEOUT_NS SP_SEC(2)

/* The descriptors of an ATTACH. */
enum { REPLY, INIT, TREE };

/* In the order in which they came. Those that are not used are never touched, and so take no memory. */
static struct pending {
    struct sp_packet packet;
    int64_t deadline;
    char path[SP_ATTACH_PATH_MAX];
} pending[SP_PENDING_MAX];
static unsigned n_pending;

static void drop(unsigned at) {
    sp_packet_close(&pending[at].packet);
    n_pending--;
    memmove(&pending[at], &pending[at + 1], (n_pending - at) * sizeof *pending);
}

static void refuse(unsigned at) {
    struct sp_rec_failed why;
    (void)sp_failed(&why, SP_STAGE_WORKSPACE, ETIMEDOUT, "/proc/self/ns");
    sp_packet_fail(pending[at].packet.fds[REPLY], 0, &why);
    drop(at);
}

static void attach(const struct sp_plan *plan, unsigned at) {
    const struct sp_packet *packet = &pending[at].packet;
    sp_zygote_attach_workspace(plan, &packet->record.u.attach, pending[at].path, packet->fds, packet->n_fds);
    drop(at);
}

int sp_pending_add(const struct sp_plan *plan, struct sp_packet *packet, const char *path) {
    const size_t len = packet->payload_len;
    if (packet->n_fds <= INIT || packet->n_fds > TREE + 1 || len != packet->record.u.attach.payload_len ||
        path[0] != '/' || path[len - 1] != '\0') {
        sp_packet_close(packet);
        return -EBADMSG;
    }
    if (n_pending == SP_PENDING_MAX) {
        refuse(0);
    }
    struct pending *p = &pending[n_pending++];
    p->packet = *packet;
    p->deadline = sp_now() + INIT_TIMEOUT_NS;
    memcpy(p->path, path, len);
    if (sp_wait_fd(packet->fds[INIT], POLLIN, 0) != -ETIMEDOUT) {
        attach(plan, n_pending - 1);
    }
    return 0;
}

unsigned sp_pending_polled(struct pollfd *p) {
    for (unsigned i = 0; i < n_pending; i++) {
        p[i] = (struct pollfd){.fd = pending[i].packet.fds[INIT], .events = POLLIN};
    }
    return n_pending;
}

int64_t sp_pending_next(void) { return n_pending != 0 ? pending[0].deadline : SP_NEVER; }

void sp_pending_step(const struct sp_plan *plan, const struct pollfd *p) {
    const int64_t now = n_pending != 0 ? sp_now() : 0;
    for (unsigned i = n_pending; i-- > 0;) {
        if (p[i].revents != 0) {
            attach(plan, i);
        } else if (now >= pending[i].deadline) {
            refuse(i);
        }
    }
}
