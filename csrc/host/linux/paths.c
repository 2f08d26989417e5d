#include "host/linux/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stage.h"
#include "common/text.h"
#include "host/linux/mounts.h"
#include "host/sandbox/launch.h"

/* ---- the list ---- */

/* Whether `path` lies in `dir`, and is not `dir` itself. */
static bool is_inside(const char *path, const char *dir) {
    return sp_path_is_below(path, dir) && path[strlen(dir)] == '/';
}

static int64_t find_innermost(const struct sp_paths *paths, uint32_t of, bool by_source) {
    int64_t found = -1;
    size_t longest = 0;
    for (uint32_t i = 0; i < paths->n; i++) {
        const struct sp_path *outer = &paths->paths[i];
        const char *dir = by_source ? outer->source : outer->path;
        const char *path = by_source ? paths->paths[of].source : paths->paths[of].path;
        if (is_inside(path, dir) && strlen(dir) >= longest) {
            found = i;
            longest = strlen(dir);
        }
    }
    return found;
}

/* Whether this one is mounted directly in the outer one, where the outer one shows it. A tenant can rename what lies in
 * a writable bind, but no directory or file on which something is mounted. */
static bool is_mounted_directly(const struct sp_path *path, const struct sp_path *outer) {
    const char *rest = path->source + strlen(outer->source) + 1;
    return strchr(rest, '/') == NULL && is_inside(path->path, outer->path) &&
           strcmp(path->path + strlen(outer->path) + 1, rest) == 0;
}

/*
 * In a writable bind a tenant can rename the directories above another bind, but not a directory on which that is
 * mounted. It must not get the next tenant a sandbox in which the moved one is no longer read-only. So only what lies
 * directly in a writable bind is looked at; what lies deeper is bound anew when the outer one is.
 */
static bool is_listed(const struct sp_paths *paths, const struct sp_path *path) {
    bool listed = true;
    while (listed && path->within != -1) {
        const struct sp_path *outer = &paths->paths[path->within];
        listed = !outer->writable || is_mounted_directly(path, outer);
        path = outer;
    }
    return listed;
}

static char *keep(char **text, const char *string) {
    size_t len = strlen(string) + 1;
    char *kept = memcpy(*text, string, len);
    *text += len;
    return kept;
}

static void fill(struct sp_paths *paths, const sp_sandbox_options *o) {
    char *text = paths->text;
    paths->rootfs = o->rootfs != NULL ? keep(&text, o->rootfs) : NULL;
    for (uint32_t i = 0; i < o->n_binds; i++) {
        if ((o->binds[i].flags & (SP_BIND_COVER | SP_BIND_SCRATCH)) == 0) {
            struct sp_path *path = &paths->paths[paths->n++];
            path->index = i;
            path->writable = (o->binds[i].flags & SP_BIND_WRITABLE) != 0;
            path->path = keep(&text, o->binds[i].path);
            path->source = keep(&text, o->binds[i].source);
        }
    }
    for (uint32_t i = 0; i < paths->n; i++) {
        paths->paths[i].parent = find_innermost(paths, i, false);
        paths->paths[i].within = find_innermost(paths, i, true);
    }
    for (uint32_t i = 0; i < paths->n; i++) {
        paths->paths[i].listed = is_listed(paths, &paths->paths[i]);
    }
}

int sp_paths_make(const sp_sandbox_options *o, struct sp_paths **made) {
    *made = NULL;
    if (o->rootfs == NULL && o->n_binds == 0) {
        return 0;
    }
    size_t text = o->rootfs != NULL ? strlen(o->rootfs) + 1 : 0;
    for (uint32_t i = 0; i < o->n_binds; i++) {
        text += strlen(o->binds[i].path) + strlen(o->binds[i].source) + 2;
    }
    struct sp_paths *paths = calloc(1, sizeof *paths);
    if (paths == NULL) {
        return -ENOMEM;
    }
    paths->paths = calloc(o->n_binds + 1, sizeof *paths->paths);
    paths->text = malloc(text);
    paths->mounts = malloc(sizeof *paths->mounts);
    if (paths->mounts != NULL) {
        sp_mounts_init(paths->mounts);
    }
    if (paths->paths == NULL || paths->text == NULL || paths->mounts == NULL) {
        sp_paths_free(paths);
        return -ENOMEM;
    }
    fill(paths, o);
    *made = paths;
    return 0;
}

void sp_paths_free(struct sp_paths *paths) {
    if (paths == NULL) {
        return;
    }
    if (paths->mounts != NULL) {
        sp_mounts_close(paths->mounts);
    }
    free(paths->mounts);
    free(paths->paths);
    free(paths->text);
    free(paths);
}

static size_t size_of_look(const struct sp_paths *paths) {
    return sizeof(struct sp_look) + paths->n * sizeof(struct sp_found);
}

struct sp_look *sp_look_new(const struct sp_paths *paths) { return calloc(1, size_of_look(paths)); }

void sp_look_copy(const struct sp_paths *paths, struct sp_look *to, const struct sp_look *from) {
    memcpy(to, from, size_of_look(paths));
}

/* ---- a look ---- */

/* The kernel's struct statx: not every libc that this is built with has one. */
struct status {
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

_Static_assert(sizeof(struct status) == 256, "the size of struct statx");

#define WANT_OWNER_AND_INODE 0x118u /* STATX_UID, STATX_GID, STATX_INO */
#define WANT_CREATED 0x800u         /* STATX_BTIME */
#define CACHED 0x4000               /* AT_STATX_DONT_SYNC: no question to the server of a network file system */

/* Inode numbers are used again: a directory that was removed and created anew often has the same one. The time of its
 * creation differs. */
static uint64_t identify(const struct status *st) {
    bool dated = (st->mask & WANT_CREATED) != 0;
    uint64_t digest = sp_digest(1, (uint64_t)st->dev_major << 32 | st->dev_minor);
    digest = sp_digest(digest, st->inode);
    digest = sp_digest(digest, (uint64_t)st->uid << 32 | st->gid);
    digest = sp_digest(digest, dated ? (uint64_t)st->created.seconds : 0);
    digest = sp_digest(digest, dated ? st->created.nanoseconds : 0);
    return digest != 0 ? digest : 1;
}

/* A path that this process may not look at counts as unchanged: the zygote decides whether it can be bound. */
static int look_at(const char *name, struct sp_found *found) {
    struct status st;
    *found = (struct sp_found){0};
    if (syscall(SYS_statx, AT_FDCWD, name, CACHED, WANT_OWNER_AND_INODE | WANT_CREATED, &st) == 0) {
        found->digest = identify(&st);
        found->device = makedev(st.dev_major, st.dev_minor);
        found->inode = st.inode;
    } else if (errno == ENOENT || errno == ENOTDIR) {
        return -errno;
    } else {
        found->digest = sp_digest(1, (uint64_t)errno);
    }
    return 0;
}

static const char *name_of(const void *paths, uint32_t i) {
    const struct sp_paths *p = paths;
    return i == p->n ? p->rootfs : p->paths[i].listed ? p->paths[i].source : NULL;
}

uint64_t sp_paths_look(struct sp_paths *paths, struct sp_look *look, sp_error *error) {
    uint64_t digest = 1;
    for (uint32_t i = 0; i <= paths->n; i++) {
        struct sp_found found = {0};
        const char *name = name_of(paths, i);
        int rc = name != NULL ? look_at(name, &found) : 0;
        if (rc != 0) {
            (void)sp_error_set(error, SP_E_CREATE, i == paths->n ? SP_STAGE_ROOTFS : SP_STAGE_BIND, -rc, name);
            return 0;
        }
        digest = sp_digest(digest, found.digest);
        if (look != NULL && i < paths->n) {
            look->found[i] = found;
        } else if (look != NULL) {
            look->rootfs = found.digest;
        }
    }
    uint64_t mounts = sp_mounts_below(paths->mounts, &(struct sp_mounts_dirs){name_of, paths, paths->n + 1}, digest);
    digest = sp_digest(digest, mounts);
    digest = digest != 0 ? digest : 1;
    if (look != NULL) {
        look->mounts = mounts;
        look->total = digest;
    }
    return digest;
}
