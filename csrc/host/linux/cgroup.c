#include "host/linux/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/linux/cgroup_state.h"
#include "host/sandbox/launch.h"

#define RETRY_NS SP_MS(5)

/* ---- controllers ---- */

static const struct {
    uint32_t bit;
    const char *name;
} controllers[] = {{SP_CGROUP_MEMORY, "memory"}, {SP_CGROUP_PIDS, "pids"}, {SP_CGROUP_CPU, "cpu"}};

static int enable(int dir, const char *name) {
    char enabled[256];
    char change[16];
    int rc = sp_cgroup_read(dir, "cgroup.subtree_control", enabled, sizeof enabled);
    if (rc != 0 || sp_cgroup_has_word(enabled, name)) {
        return rc;
    }
    (void)snprintf(change, sizeof change, "+%s", name);
    return sp_cgroup_write(dir, "cgroup.subtree_control", change);
}

/* A controller is enabled in `parent` for the launcher's directory, and there for those of the sandboxes. */
static void enable_wanted(struct sp_cgroups *c, int parent, uint32_t wanted, const char **failed) {
    for (size_t i = 0; i < sizeof controllers / sizeof controllers[0]; i++) {
        if ((wanted & controllers[i].bit) != 0) {
            int rc = enable(parent, controllers[i].name);
            rc = rc != 0 ? rc : enable(c->dir, controllers[i].name);
            c->enforced |= rc == 0 ? controllers[i].bit : 0;
            *failed = rc != 0 ? controllers[i].name : *failed;
        }
    }
}

struct sp_cgroups *sp_cgroups_enter(struct sp_cgroups *c) {
    pthread_rwlock_rdlock(&c->dir_lock);
    if (c->dir == -1) {
        pthread_rwlock_unlock(&c->dir_lock);
        return NULL;
    }
    return c;
}

void sp_cgroups_leave(struct sp_cgroups **c) {
    if (*c != NULL) {
        pthread_rwlock_unlock(&(*c)->dir_lock);
    }
}

/* ---- directories of sandboxes ---- */

/* If another part of this process has closed the descriptor, the number may be a directory of the application. Then
 * nothing is created, written or removed there. */
static bool has_dir(const struct sp_cgroups *c) { return sp_is_own(c->dir, &c->dir_identity); }

int64_t sp_cgroup_take(struct sp_cgroups *c, int *fd) {
    char name[64];
    sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);
    if (in == NULL) {
        return -ESHUTDOWN;
    }
    pthread_mutex_lock(&c->lock);
    bool ready = c->n_stash != 0;
    bool closed = c->closed;
    uint32_t number = ready ? c->stash[--c->n_stash] : ++c->last;
    pthread_mutex_unlock(&c->lock);
    int rc = closed ? -ESHUTDOWN : !has_dir(c) ? -EBADF : ready ? 0 : sp_cgroup_make(c, number);
    if (rc != 0) {
        return rc;
    }
    *fd = openat(c->dir, sp_cgroup_name(name, number, NULL), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*fd == -1) {
        rc = -errno;
        sp_cgroup_discard(c, number);
        return rc;
    }
    return number;
}

void sp_cgroup_kill(struct sp_cgroups *c, uint32_t number) {
    char name[64];
    sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);
    if (in == NULL || !has_dir(c)) {
        return;
    }
    (void)sp_cgroup_write(c->dir, sp_cgroup_name(name, number, "cgroup.kill"),
                          "1"); /* since Linux 5.14; killing init suffices without */
}

void sp_cgroup_discard(struct sp_cgroups *c, uint32_t number) {
    pthread_mutex_lock(&c->lock);
    if (c->n_dying == c->dying_cap) {
        uint32_t cap = c->dying_cap == 0 ? 64 : c->dying_cap * 2;
        uint32_t *dying = realloc(c->dying, cap * sizeof *dying);
        c->dying = dying != NULL ? dying : c->dying;
        c->dying_cap = dying != NULL ? cap : c->dying_cap;
    }
    if (c->n_dying < c->dying_cap) { /* otherwise sp_cgroups_close() finds the directory */
        c->dying[c->n_dying++] = number;
    }
    pthread_mutex_unlock(&c->lock);
}

/* ---- tending ---- */

/* Tries to remove each directory. True if some still have processes; those stay in the list. */
static bool remove_dying(struct sp_cgroups *c) {
    char name[64];
    uint32_t n_busy = 0;
    pthread_mutex_lock(&c->lock);
    uint32_t *dying = c->dying;
    uint32_t n = c->n_dying;
    c->dying = NULL;
    c->n_dying = c->dying_cap = 0;
    pthread_mutex_unlock(&c->lock);
    for (uint32_t i = 0; i < n; i++) {
        if (unlinkat(c->dir, sp_cgroup_name(name, dying[i], NULL), AT_REMOVEDIR) != 0 && errno == EBUSY) {
            sp_cgroup_discard(c, dying[i]);
            n_busy++;
        }
    }
    free(dying);
    return n_busy != 0;
}

static void fill_stash(struct sp_cgroups *c) {
    for (;;) {
        pthread_mutex_lock(&c->lock);
        uint32_t number = c->n_stash < SP_CGROUP_STASH && !c->closed ? ++c->last : 0;
        pthread_mutex_unlock(&c->lock);
        if (number == 0 || sp_cgroup_make(c, number) != 0) {
            return; /* sp_cgroup_take() will fail in the same way, and report the reason */
        }
        pthread_mutex_lock(&c->lock);
        bool kept = c->n_stash < SP_CGROUP_STASH;
        if (kept) {
            c->stash[c->n_stash++] = number;
        }
        pthread_mutex_unlock(&c->lock);
        if (!kept) {
            sp_cgroup_discard(c, number);
        }
    }
}

bool sp_cgroups_tend(struct sp_cgroups *c) {
    sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);
    if (in == NULL || !has_dir(c)) {
        return false;
    }
    fill_stash(c);
    return remove_dying(c);
}

/* ---- the launcher's directory ---- */

static bool remove_children(int dir) {
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy != -1 ? fdopendir(copy) : NULL;
    bool all = list != NULL;
    if (list == NULL) {
        sp_fd_close(&copy);
        return false;
    }
    for (const struct dirent *e; (e = readdir(list)) != NULL;) {
        if (e->d_type == DT_DIR && e->d_name[0] != '.') {
            all = (unlinkat(dir, e->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT) && all;
        }
    }
    closedir(list);
    return all;
}

static void remove_all(struct sp_cgroups *c, int64_t deadline) {
    sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);
    if (in == NULL || !has_dir(c)) { /* there is no directory, or a later start of a host removes it */
        return;
    }
    (void)sp_cgroup_write(c->dir, "cgroup.kill", "1");
    while (!remove_children(c->dir) && sp_now() < deadline) {
        int64_t until = sp_now() + RETRY_NS;
        (void)sp_poll_until(NULL, 0, until < deadline ? until : deadline);
    }
    (void)rmdir(c->path);
}

static void close_dir(struct sp_cgroups *c) {
    pthread_rwlock_wrlock(&c->dir_lock);
    sp_close_own(&c->dir, &c->dir_identity);
    pthread_rwlock_unlock(&c->dir_lock);
}

/* The handles of a closed pool keep this structure. They keep no descriptor. */
void sp_cgroups_close(struct sp_cgroups *c, int64_t deadline) {
    pthread_mutex_lock(&c->lock);
    c->closed = true;
    pthread_mutex_unlock(&c->lock);
    remove_all(c, deadline);
    close_dir(c);
}

void sp_cgroups_free(struct sp_cgroups *c) {
    if (c != NULL) {
        close_dir(c);
        pthread_rwlock_destroy(&c->dir_lock);
        pthread_mutex_destroy(&c->lock);
        free(c->dying);
        free(c->path);
        free(c);
    }
}

uint32_t sp_cgroups_enforced(const struct sp_cgroups *c) { return c->enforced; }

int sp_cgroups_add_zygote(struct sp_cgroups *c, pid_t pid) {
    char text[32];
    sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);
    (void)snprintf(text, sizeof text, "%d", (int)pid);
    return in != NULL ? sp_cgroup_write(c->dir, "zygote/cgroup.procs", text) : -ESHUTDOWN;
}

static uint32_t wanted_controllers(const struct sp_cgroup_limits *l) {
    return (l->memory_bytes != 0 ? SP_CGROUP_MEMORY : 0) | (l->max_processes != 0 ? SP_CGROUP_PIDS : 0) |
           (l->cpu_quota_us != 0 ? SP_CGROUP_CPU : 0);
}

/* Creates c->path, whose parent directory is open as `parent`. 0, or -errno and in *failed what failed. */
static int make_directories(struct sp_cgroups *c, int parent, const char **failed) {
    struct statfs fs;
    *failed = "not a directory of cgroup v2";
    if (fstatfs(parent, &fs) != 0 || fs.f_type != CGROUP2_SUPER_MAGIC) {
        return -ENODEV;
    }
    *failed = c->path;
    if (mkdir(c->path, 0755) != 0) {
        return -errno;
    }
    c->dir = open(c->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    c->dir_identity = sp_identity_of(c->dir);
    if (c->dir == -1) {
        int err = errno;
        (void)rmdir(c->path); /* sp_cgroups_close() would not: it needs the descriptor */
        return -err;
    }
    if (mkdirat(c->dir, "zygote", 0755) != 0) {
        return -errno;
    }
    return sp_cgroup_give_to_zygote(c->dir, "cgroup.procs");
}

static int set_up(struct sp_cgroups *c, const sp_sandbox_options *o, sp_error *error) {
    const char *failed = c->path;
    const char *slash = strrchr(c->path, '/');
    char *above = slash != NULL ? strndup(c->path, (size_t)(slash - c->path)) : NULL;
    sp_auto_fd int parent = above != NULL ? open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int rc = above == NULL ? -ENOMEM : parent == -1 ? -errno : make_directories(c, parent, &failed);
    free(above);
    if (rc == 0) {
        enable_wanted(c, parent, wanted_controllers(&c->limits), &failed);
    }
    if (rc == 0 && (o->cgroup_required & ~c->enforced) != 0) {
        rc = -EOPNOTSUPP;
    }
    return rc == 0 ? 0 : sp_error_set(error, SP_E_CREATE, SP_STAGE_CGROUP, -rc, failed);
}

struct sp_cgroups *sp_cgroups_open(const sp_sandbox_options *o, sp_error *error) {
    struct sp_cgroups *c = calloc(1, sizeof *c);
    char *path = strdup(o->cgroup_dir);
    if (c == NULL || path == NULL) {
        free(c);
        free(path);
        (void)sp_error_set(error, SP_E_NOMEM, SP_STAGE_NONE, ENOMEM, NULL);
        return NULL;
    }
    c->path = path;
    c->dir = -1;
    c->limits = (struct sp_cgroup_limits){o->memory_bytes, o->max_processes, o->cpu_quota_us, o->cpu_period_us,
                                          o->interpreter != NULL ? 2 : 1};
    pthread_mutex_init(&c->lock, NULL);
    pthread_rwlock_init(&c->dir_lock, NULL);
    if (set_up(c, o, error) != 0) {
        sp_cgroups_close(c, 0);
        sp_cgroups_free(c);
        return NULL;
    }
    return c;
}
