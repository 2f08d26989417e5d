#include "host/linux/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stage.h"
#include "host/linux/mounts.h"
#include "host/sandbox/launch.h"

struct sp_paths {
    struct sp_mounts mounts;
    bool has_rootfs; /* it is the last name */
    uint32_t n;
    const char *names[];
};

/* ---- the list ---- */

/* The innermost bind that contains binds[i], which comes before it; -1: none does. */
static int64_t find_parent(const sp_sandbox_options *o, int64_t i) {
    for (int64_t above = i - 1; above >= 0; above--) {
        size_t len = strlen(o->binds[above].path);
        bool covers = (o->binds[above].flags & SP_BIND_COVER) != 0;
        if (!covers && strncmp(o->binds[i].path, o->binds[above].path, len) == 0 && o->binds[i].path[len] == '/') {
            return above;
        }
    }
    return -1;
}

/*
 * A cover names a file in another bind, and the zygote compares it with the file that was found. In a writable bind a
 * tenant can rename the directories above another bind, but not a directory on which that is mounted. It must not get
 * the next tenant a sandbox in which the moved one is no longer read-only. So only what lies directly in a writable
 * bind is looked at; what lies deeper is bound anew when the outer one is.
 */
static bool is_listed(const sp_sandbox_options *o, int64_t i) {
    if ((o->binds[i].flags & SP_BIND_COVER) != 0) {
        return false;
    }
    bool listed = true;
    for (int64_t above = find_parent(o, i); listed && above != -1; i = above, above = find_parent(o, i)) {
        bool writable = (o->binds[above].flags & SP_BIND_WRITABLE) != 0;
        listed = !writable || strchr(o->binds[i].path + strlen(o->binds[above].path) + 1, '/') == NULL;
    }
    return listed;
}

static void fill(struct sp_paths *paths, const sp_sandbox_options *o, char *text) {
    for (uint32_t i = 0; i < o->n_binds + (o->rootfs != NULL); i++) {
        bool is_rootfs = i == o->n_binds;
        if (is_rootfs || is_listed(o, i)) {
            const char *name = is_rootfs ? o->rootfs : o->binds[i].path;
            size_t len = strlen(name) + 1;
            paths->names[paths->n++] = memcpy(text, name, len);
            text += len;
        }
    }
    paths->has_rootfs = o->rootfs != NULL;
}

int sp_paths_make(const sp_sandbox_options *o, struct sp_paths **made) {
    *made = NULL;
    size_t n = o->rootfs != NULL;
    size_t text = o->rootfs != NULL ? strlen(o->rootfs) + 1 : 0;
    for (uint32_t i = 0; i < o->n_binds; i++) {
        bool listed = is_listed(o, i);
        n += listed;
        text += listed ? strlen(o->binds[i].path) + 1 : 0;
    }
    if (n == 0) {
        return 0;
    }
    struct sp_paths *paths = calloc(1, sizeof *paths + n * sizeof paths->names[0] + text);
    if (paths == NULL) {
        return -ENOMEM;
    }
    fill(paths, o, (char *)&paths->names[n]);
    sp_mounts_init(&paths->mounts);
    *made = paths;
    return 0;
}

void sp_paths_free(struct sp_paths *paths) {
    if (paths != NULL) {
        sp_mounts_close(&paths->mounts);
        free(paths);
    }
}

/* ---- a look ---- */

/* The kernel's struct statx: not every libc that this is built with has one. */
struct found {
    uint32_t mask, block_size;
    uint64_t attributes;
    uint32_t links, uid, gid;
    uint16_t mode, spare;
    uint64_t inode, size, blocks, attributes_mask;
    struct {
        int64_t seconds;
        uint32_t nanoseconds, reserved;
    } accessed, created, changed, modified;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t rest[14];
};

_Static_assert(sizeof(struct found) == 256, "the size of struct statx");

#define WANT_OWNER_AND_INODE 0x118u /* STATX_UID, STATX_GID, STATX_INO */
#define WANT_CREATED 0x800u         /* STATX_BTIME */
#define CACHED 0x4000               /* AT_STATX_DONT_SYNC: no question to the server of a network file system */

/* Inode numbers are used again: a directory that was removed and created anew often has the same one. The time of its
 * creation differs. */
static uint64_t identify(uint64_t digest, const struct found *found) {
    bool dated = (found->mask & WANT_CREATED) != 0;
    digest = sp_digest(digest, (uint64_t)found->dev_major << 32 | found->dev_minor);
    digest = sp_digest(digest, found->inode);
    digest = sp_digest(digest, (uint64_t)found->uid << 32 | found->gid);
    digest = sp_digest(digest, dated ? (uint64_t)found->created.seconds : 0);
    return sp_digest(digest, dated ? found->created.nanoseconds : 0);
}

/* A path that this process may not look at counts as unchanged: the zygote decides whether it can be bound. */
static int look_at(const char *name, uint64_t *digest) {
    struct found found;
    if (syscall(SYS_statx, AT_FDCWD, name, CACHED, WANT_OWNER_AND_INODE | WANT_CREATED, &found) == 0) {
        *digest = identify(*digest, &found);
    } else if (errno == ENOENT || errno == ENOTDIR) {
        return -errno;
    } else {
        *digest = sp_digest(*digest, (uint64_t)errno);
    }
    return 0;
}

uint64_t sp_paths_look(struct sp_paths *paths, sp_error *error) {
    uint64_t digest = 0;
    for (uint32_t i = 0; i < paths->n; i++) {
        int rc = look_at(paths->names[i], &digest);
        if (rc != 0) {
            uint32_t stage = i + 1 == paths->n && paths->has_rootfs ? SP_STAGE_ROOTFS : SP_STAGE_BIND;
            (void)sp_error_set(error, SP_E_CREATE, stage, -rc, paths->names[i]);
            return 0;
        }
    }
    digest = sp_digest(digest, sp_mounts_below(&paths->mounts, paths->names, paths->n, digest));
    return digest != 0 ? digest : 1;
}
