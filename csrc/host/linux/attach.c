#include "host/linux/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "common/tree.h"
#include "host/sandbox/session.h"

void sp_workspaces_init(struct sp_workspaces *workspaces) {
    pthread_mutex_init(&workspaces->lock, NULL);
    workspaces->maps[0].fd = workspaces->maps[1].fd = -1;
}

void sp_workspaces_close(struct sp_workspaces *workspaces) {
    for (int i = 0; i < 2; i++) {
        sp_close_own(&workspaces->maps[i].fd, &workspaces->identities[i]);
    }
    pthread_mutex_destroy(&workspaces->lock);
}

static void show_as_own(struct sp_workspaces *ws, int tree, int source, const sp_workspace *w) {
    const bool group = w->mode != SP_WORKSPACE_RO;
    struct sp_idmap_kept *map = &ws->maps[group];
    pthread_mutex_lock(&ws->lock);
    if (!sp_is_own(map->fd, &ws->identities[group])) {
        map->fd = -1; /* another part of this process has closed it */
    }
    sp_tree_show_as_own(tree, source, w->path, w->mode == SP_WORKSPACE_RW, group, map);
    ws->identities[group] = sp_identity_of(map->fd);
    pthread_mutex_unlock(&ws->lock);
}

static int refuse(sp_error *error, int rc, const char *detail) {
    if (rc == -EPIPE || rc == -ECONNRESET) {
        return SP_E_LOST;
    }
    return sp_error_set(error, SP_E_EXEC, SP_STAGE_WORKSPACE, -rc, detail);
}

/* Only root can reach every directory, and idmap it. *tree stays -1 if this process may not make one: then the zygote
 * does it. In a copy-on-write workspace files are copied with their group, so that it has to exist inside. */
static int make_tree(struct sp_workspaces *ws, const sp_workspace *w, int *tree) {
    const bool writable = w->mode == SP_WORKSPACE_RW;
    sp_auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sp_auto_fd int source = root == -1 ? -errno : sp_tree_open_path(root, w->path);
    int rc = source < 0 ? source : sp_tree_check(source, w->path, writable, "");
    int made = rc != 0 ? rc : sp_tree_clone(source, writable, w->mode != SP_WORKSPACE_COW);
    if (made >= 0) {
        show_as_own(ws, made, source, w);
        *tree = made;
    }
    return made >= 0 || made == -EPERM ? 0 : made;
}

static int receive(int reply, int64_t deadline, struct sp_packet *packet) {
    int rc = -EINTR;
    while (rc == -EINTR) {
        rc = sp_wait_fd(reply, POLLIN, deadline);
    }
    return rc != 0 ? rc : sp_packet_recv(reply, packet, NULL, 0);
}

/* What the zygote says about the attaching. Closes the packet. */
static int take_answer(struct sp_packet *answer, sp_error *error) {
    const struct sp_rec_failed *why = &answer->record.u.failed;
    int rc = 0;
    if (answer->record.type == SP_REC_FAILED && why->err == ECONNRESET) {
        rc = SP_E_LOST; /* init is dead */
    } else if (answer->record.type == SP_REC_FAILED) {
        rc = sp_error_set(error, SP_E_EXEC, why->stage, (int)why->err, why->detail);
    } else if (answer->record.type != SP_REC_ACK || answer->n_fds != 0) {
        rc = sp_error_set(error, SP_E_EXEC, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
    }
    sp_packet_close(answer);
    return rc;
}

static int ask_zygote(const struct sp_zygote *zygote, const sp_workspace *w, const int *fds, unsigned n_fds,
                      int64_t deadline) {
    struct sp_record record = {
        .type = SP_REC_ATTACH,
        .u.attach = {
            .mode = w->mode, .payload_len = (uint32_t)strlen(w->path) + 1, .device = w->device, .inode = w->inode}};
    struct sp_outgoing out = {
        .record = &record, .payload = w->path, .payload_len = record.u.attach.payload_len, .fds = fds, .n_fds = n_fds};
    return sp_zygote_has_ended(zygote) ? -EPIPE : sp_packet_send(zygote->sock, &out, deadline);
}

int sp_attach_workspace(struct sp_workspaces *ws, struct sp_session *session, const struct sp_zygote *zygote,
                        const sp_workspace *w, int64_t deadline, sp_error *error) {
    sp_auto_fd int tree = -1;
    const struct sp_session_request request = {.record = {.type = SP_REC_NAMESPACES}};
    sp_auto_fd int namespaces = -1;
    struct sp_packet answer;
    int pair[2] = {-1, -1};
    /* init answers to the zygote: the socket for its reply goes there. It does so while the tree is made here. */
    int rc = sp_session_request(session, &request, deadline, &namespaces);
    rc = rc == 0 && geteuid() == 0 ? make_tree(ws, w, &tree) : rc;
    rc = rc != 0 ? rc : sp_control_pair(pair);
    const int fds[] = {pair[1], namespaces, tree};
    rc = rc != 0 ? rc : ask_zygote(zygote, w, fds, tree != -1 ? 3 : 2, deadline);
    sp_fd_close(&pair[1]);
    rc = rc != 0 ? rc : receive(pair[0], deadline, &answer);
    sp_fd_close(&pair[0]);
    rc = rc != 0 ? refuse(error, rc, w->path) : take_answer(&answer, error);
    return rc;
}
