#include "host/linux/rebind.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/tree.h"

/* ---- trees, for a host that is root ---- */

static int open_source(const struct sp_paths *paths, const struct sp_path *path, int root) {
    if (path->within == -1) {
        return sp_tree_open_path(root, path->source);
    }
    const struct sp_path *outer = &paths->paths[path->within];
    sp_auto_fd int above = open_source(paths, outer, root);
    return above < 0 ? above : sp_tree_open_inside(above, path->source + strlen(outer->source) + 1);
}

int sp_rebind_open_tree(const struct sp_paths *paths, const struct sp_path *path) {
    sp_auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sp_auto_fd int source = root == -1 ? -errno : open_source(paths, path, root);
    int rc = source < 0 ? source : sp_tree_check(source, path->source, path->writable, "");
    sp_auto_fd int tree = rc != 0 ? rc : sp_tree_clone(source, path->writable, true);
    if (tree >= 0) {
        sp_tree_show_as_own(tree, source, path->source, path->writable, path->writable, NULL);
    }
    return tree < 0 ? tree : sp_fd_steal(&tree);
}

/* ---- groups ---- */

static uint32_t top_of(const struct sp_paths *paths, uint32_t i) {
    while (paths->paths[i].parent != -1) {
        i = (uint32_t)paths->paths[i].parent;
    }
    return i;
}

static bool has_changed(const struct sp_zygote *z, const struct sp_paths *paths, const struct sp_look *now,
                        uint32_t top) {
    bool changed = z->bound->mounts != now->mounts;
    for (uint32_t i = top; i < paths->n && !changed; i++) {
        changed = top_of(paths, i) == top && z->bound->found[i].digest != now->found[i].digest;
    }
    return changed;
}

static int send_bind(const struct sp_zygote *z, const struct sp_paths *paths, const struct sp_look *now, uint32_t i,
                     bool last) {
    struct sp_record record = {.type = SP_REC_BIND,
                               .u.bind = {.index = paths->paths[i].index,
                                          .flags = last ? SP_BIND_LAST : 0,
                                          .bindings = atomic_load_explicit(&z->bindings, memory_order_relaxed),
                                          .device = now->found[i].device,
                                          .inode = now->found[i].inode}};
    sp_auto_fd int tree = geteuid() == 0 ? sp_rebind_open_tree(paths, &paths->paths[i]) : -EPERM;
    if (tree < 0 && tree != -EPERM) {
        return tree == -ENOENT || tree == -ENOTDIR ? -EAGAIN : -ENOTSUP; /* another zygote reports why it cannot */
    }
    struct sp_outgoing out = {.record = &record, .fds = &tree, .n_fds = tree >= 0};
    return sp_packet_send(z->sock, &out, sp_now()) == 0 ? 0 : -EAGAIN;
}

static int send_group(struct sp_zygote *z, const struct sp_paths *paths, const struct sp_look *now, uint32_t top) {
    uint32_t last = top;
    for (uint32_t i = top; i < paths->n; i++) {
        last = top_of(paths, i) == top ? i : last;
    }
    int rc = 0;
    for (uint32_t i = top; i <= last && rc == 0; i++) {
        if (top_of(paths, i) == top) {
            z->sent[i] = atomic_load_explicit(&z->bindings, memory_order_relaxed);
            z->bound->found[i].digest = 0; /* until all are sent */
            rc = send_bind(z, paths, now, i, i == last);
        }
    }
    return rc;
}

/* A path counts as one that cannot be bound after this many births in which it looked the same and could not be bound.
 * One failure proves nothing: a file that is replaced all the time may get the same inode and time of creation again,
 * and a file that was replaced after it was opened cannot be mounted. */
#define ATTEMPTS 4

/* Mounts that come and go below a path do not reach an unprivileged zygote unless the host shares them. */
static bool sees_mounts(void) { return geteuid() == 0; }

int sp_rebind(struct sp_zygote *z, const struct sp_paths *paths, const struct sp_look *now) {
    bool in_vain = z->failures >= ATTEMPTS && z->failed == now->total;
    if (z->bound == NULL || z->bound->rootfs != now->rootfs || in_vain ||
        (z->bound->mounts != now->mounts && !sees_mounts())) {
        return -ENOTSUP;
    }
    int rc = 0;
    /* Counts the change: a sandbox that was created under a lower count may show the old state, see
     * sp_zygotes_is_current(). */
    atomic_fetch_add_explicit(&z->bindings, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < paths->n && rc == 0; i++) {
        if (paths->paths[i].parent == -1 && has_changed(z, paths, now, i)) {
            rc = send_group(z, paths, now, i);
        }
    }
    if (rc == 0) {
        sp_look_copy(paths, z->bound, now);
    }
    /* release: whoever reads the new number also reads the new count */
    atomic_store_explicit(&z->paths, rc == 0 ? now->total : 0, memory_order_release);
    return rc;
}

void sp_rebind_failed(struct sp_zygote *z, const struct sp_paths *paths, uint32_t bindings) {
    if (z->bound == NULL) {
        return;
    }
    z->failures = z->failed == z->bound->total ? z->failures + 1 : 1;
    z->failed = z->bound->total;
    for (uint32_t i = 0; i < paths->n; i++) {
        if (z->sent[i] >= bindings) {
            z->bound->found[i].digest = 0;
        }
    }
    atomic_store_explicit(&z->paths, 0, memory_order_release);
}
