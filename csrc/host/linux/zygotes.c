#include "host/linux/zygotes.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/stage.h"
#include "host/linux/rebind.h"

/* Pauses between two starts. A zygote that has created sandboxes works, so somebody has killed it: the next one is
 * started soon. */
#define PAUSE_MIN_NS SP_MS(5)
#define PAUSE_MAX_USEFUL_NS SP_MS(100)
#define PAUSE_MAX_NS SP_SEC(5)
/* After a zygote that has lived this long there is no pause. */
#define GOOD_LIFE_NS SP_SEC(1)

/* ---- start and end of zygotes; called under the lock ---- */

/* Sets the earliest time of the next start. `z` is the zygote that has ended; NULL: it could not be spawned. */
static void pause_starts(struct sp_zygotes *zs, const struct sp_zygote *z) {
    int64_t now = sp_now();
    bool useful = z != NULL && atomic_load_explicit(&z->useful, memory_order_relaxed);
    if (useful && now - z->started >= GOOD_LIFE_NS) {
        zs->back_off.delay = 0;
        zs->not_before = now;
    } else {
        zs->not_before = now + sp_back_off(&zs->back_off, PAUSE_MIN_NS, useful ? PAUSE_MAX_USEFUL_NS : PAUSE_MAX_NS);
    }
}

void sp_zygotes_kill(struct sp_zygotes *zs, struct sp_zygote *z) {
    sp_zygote_kill(z);
    z->next = zs->dying;
    zs->dying = z;
}

/* Called with a zygote that is dead or does not answer. The next birth starts another one. */
static void discard_locked(struct sp_zygotes *zs, struct sp_zygote *z) {
    if (zs->current == z) {
        sp_zygote_receive(z);
        zs->why = z->start_error;
        zs->why_paths = z->paths;
        pause_starts(zs, z);
        zs->current = NULL;
        sp_zygotes_kill(zs, z);
    }
}

static bool reap_dying(struct sp_zygotes *zs) {
    struct sp_zygote **at = &zs->dying;
    while (*at != NULL) {
        struct sp_zygote *z = *at;
        if (sp_zygote_reap(z)) {
            *at = z->next;
            sp_zygote_unref(z);
        } else {
            at = &z->next;
        }
    }
    return zs->dying != NULL;
}

/* No new reference can come: the sessions that it has made hold one each, and so does the list. */
static void end_unused(struct sp_zygotes *zs) {
    struct sp_zygote **at = &zs->outdated;
    while (*at != NULL) {
        struct sp_zygote *z = *at;
        /* acquire: pairs with sp_zygote_unref() */
        if (atomic_load_explicit(&z->refs, memory_order_acquire) == 1) {
            *at = z->next;
            sp_zygotes_kill(zs, z);
        } else {
            at = &z->next;
        }
    }
}

void sp_zygotes_outdate_current(struct sp_zygotes *zs) {
    zs->current->next = zs->outdated;
    zs->outdated = zs->current;
    zs->current = NULL;
    end_unused(zs);
}

/* How often to look again at paths that change all the time, before somebody else may have the lock. */
#define LOOKS 20
#define FOLLOW_PAUSE_NS SP_MS(1)

/* Looks where the paths lead, and has the current zygote follow. 0; SP_AGAIN: a path changes too fast; or SP_E_CREATE:
 * one of them does not exist. *renews: the current zygote could not follow, and is outdated since now. */
static int look_at_paths(struct sp_zygotes *zs, uint64_t *paths, bool *renews, sp_error *error) {
    int rc = 0;
    *renews = false;
    if (zs->current != NULL && sp_zygote_has_ended(zs->current)) {
        discard_locked(zs, zs->current);
    }
    for (int i = 0; i < LOOKS; i++) {
        *paths = zs->paths != NULL ? sp_paths_look(zs->paths, zs->seen, error) : 0;
        if (zs->paths != NULL && *paths == 0) {
            return SP_E_CREATE;
        }
        bool follows = zs->current != NULL && zs->current->paths != *paths;
        /* In the Landlock tier a zygote cannot follow: its rules are made of what the paths led to when it started. */
        rc = !follows ? 0 : zs->tier.lower ? -ENOTSUP : sp_rebind(zs->current, zs->paths, zs->seen);
        if (rc != -EAGAIN) {
            break;
        }
    }
    if (rc == -EAGAIN) {
        return SP_AGAIN;
    }
    if (rc != 0) {
        *renews = true;
        sp_zygotes_outdate_current(zs);
    }
    bool by_path = zs->why.code != 0 && (zs->why.stage == SP_STAGE_BIND || zs->why.stage == SP_STAGE_ROOTFS);
    if (by_path && zs->why_paths != *paths) { /* the next one may start */
        zs->why.code = 0;
        zs->not_before = 0;
    }
    return 0;
}

/* Starts a zygote. 0; SP_AGAIN with birth->not_before filled, when a pause has not passed; or SP_E_CREATE. */
static int spawn_next(struct sp_zygotes *zs, struct sp_birth *birth, sp_error *error) {
    (void)reap_dying(zs);
    if (zs->closed) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, ESHUTDOWN, "the launcher is closed");
    }
    if (sp_now() < zs->not_before) {
        *error = zs->why;
        birth->not_before = zs->not_before;
        return zs->why.code != 0 ? SP_E_CREATE : SP_AGAIN;
    }
    sp_diagnostics_forget(&zs->diagnostics);
    zs->current = sp_zygote_spawn(&zs->order, zs->cgroups, birth->deadline, error);
    if (zs->current == NULL) {
        zs->why = *error;
        pause_starts(zs, NULL);
        return SP_E_CREATE;
    }
    return 0;
}

/* ---- what the launcher calls ---- */

/* Without the memory for it, a zygote cannot follow: it is replaced when a path changes. */
static void note_what_it_binds(const struct sp_zygotes *zs, struct sp_zygote *z, uint64_t paths) {
    z->paths = paths;
    z->sent = zs->paths != NULL ? calloc(zs->paths->n + 1, sizeof *z->sent) : NULL;
    z->bound = z->sent != NULL ? sp_look_new(zs->paths) : NULL;
    if (z->bound != NULL) {
        sp_look_copy(zs->paths, z->bound, zs->seen);
    }
}

int sp_zygotes_choose(struct sp_zygotes *zs, struct sp_birth *birth, struct sp_zygote **chosen, sp_error *error) {
    uint64_t paths;
    bool renews;
    pthread_mutex_lock(&zs->lock);
    (void)sp_zygotes_advance(zs);
    int rc = look_at_paths(zs, &paths, &renews, error);
    if (rc == SP_AGAIN) {
        birth->not_before = sp_now() + FOLLOW_PAUSE_NS;
    }
    if (rc == 0 && zs->current == NULL) {
        rc = spawn_next(zs, birth, error);
        if (rc == 0) {
            note_what_it_binds(zs, zs->current, paths);
            zs->current->renews = renews;
        }
    }
    if (rc == 0) {
        sp_zygote_ref(zs->current);
        *chosen = zs->current;
    }
    pthread_mutex_unlock(&zs->lock);
    return rc;
}

void sp_zygotes_discard(struct sp_zygotes *zs, struct sp_zygote *z) {
    pthread_mutex_lock(&zs->lock);
    discard_locked(zs, z);
    pthread_mutex_unlock(&zs->lock);
}

/* A zygote that started while a path was changed may show either: it binds that path anew before the next birth. */
static void compare_paths(struct sp_zygotes *zs, struct sp_zygote *z) {
    sp_error ignored;
    if (zs->paths == NULL || z->bindings != 0 || sp_paths_look(zs->paths, zs->seen, &ignored) == z->paths) {
        return;
    }
    z->paths = 0;
    for (uint32_t i = 0; i < zs->paths->n && z->bound != NULL; i++) {
        if (z->bound->found[i].digest != zs->seen->found[i].digest) {
            z->bound->found[i].digest = 0;
        }
    }
}

bool sp_zygotes_receive_start(struct sp_zygotes *zs, struct sp_zygote *z) {
    pthread_mutex_lock(&zs->lock);
    bool counted = z->pid != 0 || z->renews;
    sp_zygote_receive(z);
    compare_paths(zs, z);
    bool restarted = zs->current == z && !counted && z->pid != 0;
    pthread_mutex_unlock(&zs->lock);
    return restarted;
}

bool sp_zygotes_has_started(struct sp_zygotes *zs, struct sp_zygote *z) {
    pthread_mutex_lock(&zs->lock);
    sp_zygote_receive(z);
    bool started = z->pid != 0 && z->pidfd != -1;
    pthread_mutex_unlock(&zs->lock);
    return started;
}

/* The order of the two reads matters: a zygote that has bound something anew has another count, too. */
bool sp_zygotes_is_current(const struct sp_zygotes *zs, const struct sp_zygote *z, uint32_t bindings) {
    sp_error ignored;
    uint64_t now = zs->paths != NULL ? sp_paths_look(zs->paths, NULL, &ignored) : 0;
    if (atomic_load_explicit(&z->superseded, memory_order_relaxed)) { /* see renewal.c */
        return false;
    }
    /* acquire: pairs with the release in sp_rebind() */
    bool same = now != 0 && now == atomic_load_explicit(&z->paths, memory_order_acquire);
    return zs->paths == NULL || (same && bindings == atomic_load_explicit(&z->bindings, memory_order_relaxed));
}

/* Before the zygote has bound anything anew, only a path that was replaced while it started counts. */
void sp_zygotes_bind_failed(struct sp_zygotes *zs, struct sp_zygote *z, uint32_t bindings, int err) {
    pthread_mutex_lock(&zs->lock);
    if (zs->paths != NULL && (bindings != 0 || err == ESTALE)) {
        sp_rebind_failed(z, zs->paths, bindings);
    }
    pthread_mutex_unlock(&zs->lock);
}

bool sp_zygotes_tend(struct sp_zygotes *zs) {
    pthread_mutex_lock(&zs->lock);
    bool more = sp_zygotes_advance(zs);
    end_unused(zs);
    more = reap_dying(zs) || more;
    pthread_mutex_unlock(&zs->lock);
    return sp_tier_tend(&zs->tier) || more;
}

size_t sp_zygotes_diagnostics(struct sp_zygotes *zs, char *into, size_t size) {
    pthread_mutex_lock(&zs->lock);
    size_t len = sp_diagnostics_get(&zs->diagnostics, into, size);
    pthread_mutex_unlock(&zs->lock);
    return len;
}

void sp_zygotes_note_diagnostics(struct sp_zygotes *zs, const char *text, size_t len) {
    pthread_mutex_lock(&zs->lock);
    sp_diagnostics_set(&zs->diagnostics, text, len);
    pthread_mutex_unlock(&zs->lock);
}

int64_t sp_zygotes_pid(struct sp_zygotes *zs) {
    pthread_mutex_lock(&zs->lock);
    int64_t pid = zs->current != NULL ? zs->current->pid : 0;
    pthread_mutex_unlock(&zs->lock);
    return pid;
}

/* ---- the first zygote, and the end of all ---- */

void sp_zygotes_init(struct sp_zygotes *zs) {
    zs->back_off.noise = (uint64_t)sp_now();
    zs->order.module = zs->order.errors = zs->diagnostics.pipe = -1;
    sp_tier_init(&zs->tier);
    pthread_mutex_init(&zs->lock, NULL);
}

struct sp_zygote *sp_zygotes_spawn(struct sp_zygotes *zs, int64_t deadline, sp_error *error) {
    sp_error ignored; /* the zygote reports a missing path */
    uint64_t paths = zs->paths != NULL ? sp_paths_look(zs->paths, zs->seen, &ignored) : 0;
    sp_diagnostics_forget(&zs->diagnostics);
    struct sp_zygote *z = sp_zygote_spawn(&zs->order, zs->cgroups, deadline, error);
    if (z != NULL) {
        note_what_it_binds(zs, z, paths);
    }
    return z;
}

static int start_first(struct sp_zygotes *zs, int64_t deadline, sp_error *error) {
    zs->current = sp_zygotes_spawn(zs, deadline, error);
    if (zs->current == NULL) {
        return SP_E_CREATE;
    }
    int rc = sp_zygote_await(zs->current, deadline, error);
    compare_paths(zs, zs->current);
    return rc;
}

/* The current zygote could not attach a path when it started. If the path was replaced meanwhile, kills that zygote, so
 * that the next one is started, and returns true. False: the path is missing, or is as it was. */
static bool discard_if_outdated(struct sp_zygotes *zs) {
    sp_error ignored;
    if (zs->paths == NULL || zs->current == NULL || zs->current->paths != 0 ||
        sp_paths_look(zs->paths, NULL, &ignored) == 0) {
        return false;
    }
    sp_zygotes_kill(zs, zs->current);
    zs->current = NULL;
    return true;
}

static bool may_lower(const struct sp_zygotes *zs, const sp_sandbox_options *options, const sp_error *error) {
    return options->allow_degradation != 0 && !zs->tier.lower && sp_tier_is_refusal(error);
}

/* The kernel refuses namespaces. This tier stays for all later zygotes of this launcher. */
static int lower(struct sp_zygotes *zs, const sp_sandbox_options *options, int64_t deadline, sp_error *error) {
    int rc = sp_tier_lower(&zs->tier, options, error);
    if (rc != 0) {
        return rc;
    }
    if (zs->current != NULL) {
        sp_zygotes_kill(zs, zs->current);
        zs->current = NULL;
    }
    sp_zygote_order_free(&zs->order);
    zs->order = (struct sp_zygote_order){.module = -1, .errors = -1};
    rc = sp_zygote_order_make(&zs->order, options, zs->cgroups, &zs->tier);
    return rc == 0 ? start_first(zs, deadline, error)
                   : sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, "CONFIG");
}

/* As if the kernel had refused. */
static int take_lower(struct sp_zygotes *zs, const sp_sandbox_options *options, sp_error *error) {
    (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_USERNS, EPERM, "clone(CLONE_NEWUSER)");
    return may_lower(zs, options, error) ? sp_tier_lower(&zs->tier, options, error) : SP_E_CREATE;
}

int sp_zygotes_start(struct sp_zygotes *zs, const sp_sandbox_options *options, struct sp_cgroups *cgroups,
                     int64_t deadline, sp_error *error) {
    int rc = options->tier == SP_TIER_LANDLOCK ? take_lower(zs, options, error) : 0;
    if (rc != 0) {
        return rc;
    }
    rc = sp_zygote_order_make(&zs->order, options, cgroups, &zs->tier);
    rc = rc == 0 && options->interpreter != NULL ? sp_diagnostics_open(&zs->diagnostics, options->stem_errors) : rc;
    rc = rc != 0 ? rc : sp_paths_make(options, &zs->paths);
    zs->seen = rc == 0 && zs->paths != NULL ? sp_look_new(zs->paths) : NULL;
    rc = rc == 0 && zs->paths != NULL && zs->seen == NULL ? -ENOMEM : rc;
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, "CONFIG");
    }
    zs->cgroups = cgroups;
    do {
        rc = start_first(zs, deadline, error);
    } while (rc != 0 && error->stage == SP_STAGE_BIND && sp_now() < deadline && discard_if_outdated(zs));
    if (rc != 0 && may_lower(zs, options, error)) {
        rc = lower(zs, options, deadline, error);
    }
    /* The covers were looked for just before this start. A later zygote searches by itself. */
    zs->order.config.u.config.flags |= SP_CONFIG_SEARCH;
    return rc;
}

static void end_list(struct sp_zygote *z, int64_t deadline) {
    while (z != NULL) {
        struct sp_zygote *next = z->next;
        sp_zygote_end(z, deadline);
        sp_zygote_unref(z);
        z = next;
    }
}

void sp_zygotes_close(struct sp_zygotes *zs, int64_t deadline) {
    pthread_mutex_lock(&zs->lock);
    zs->closed = true;
    struct sp_zygote *current = zs->current;
    struct sp_zygote *outdated = zs->outdated;
    struct sp_zygote *dying = zs->dying;
    struct sp_zygote *next = zs->renewal.next;
    zs->current = zs->outdated = zs->dying = zs->renewal.next = NULL;
    pthread_mutex_unlock(&zs->lock);
    end_list(current, deadline);
    end_list(outdated, deadline);
    end_list(dying, deadline);
    end_list(next, deadline);
    sp_tier_close(&zs->tier);
}

void sp_zygotes_free(struct sp_zygotes *zs) {
    sp_zygote_order_free(&zs->order);
    sp_diagnostics_free(&zs->diagnostics);
    sp_tier_free(&zs->tier);
    sp_paths_free(zs->paths);
    free(zs->seen);
    pthread_mutex_destroy(&zs->lock);
}
