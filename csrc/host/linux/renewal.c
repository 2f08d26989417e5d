/*
 * Renewal: a zygote starts beside the current one, and takes its place once it is ready. An interpreter may need
 * seconds for that; meanwhile the old one creates sandboxes. Then the old one is outdated: it ends with the last of its
 * sandboxes, and no lease of theirs begins any more, see sp_zygotes_is_current().
 */
#include <errno.h>

#include "common/clock.h"
#include "common/stage.h"
#include "host/linux/zygotes.h"

#define SEND_NS SP_SEC(10)

static int64_t time_to_start(const struct sp_zygotes *zs) {
    return sp_now() + sp_zygote_start_ns(zs->order.module != -1, zs->order.timeout);
}

static void end(struct sp_zygotes *zs, const sp_error *why) {
    struct sp_succession *r = &zs->renewal;
    r->ended++;
    if (why != NULL) {
        r->failed = r->ended;
        r->why = *why;
        sp_zygotes_kill(zs, r->next);
    }
    r->next = NULL;
}

static void take_place(struct sp_zygotes *zs) {
    if (zs->current != NULL) {
        /* relaxed: whoever sees it late uses a sandbox that was as good a moment ago */
        atomic_store_explicit(&zs->current->superseded, true, memory_order_relaxed);
        sp_zygotes_outdate_current(zs);
    }
    zs->current = zs->renewal.next;
    end(zs, NULL);
}

bool sp_zygotes_advance(struct sp_zygotes *zs) {
    struct sp_zygote *next = zs->renewal.next;
    if (next == NULL) {
        return false;
    }
    sp_error late;
    sp_zygote_receive(next);
    if (next->start_error.code != 0) {
        end(zs, &next->start_error);
    } else if (next->pid != 0 && next->pidfd != -1) {
        take_place(zs);
    } else if (sp_now() >= zs->renewal.until) {
        (void)sp_zygote_no_answer(next, ETIMEDOUT, &late);
        end(zs, &late);
    }
    return zs->renewal.next != NULL;
}

/* Starts a renewal. It ends one that is under way, which may have imported files as they were before this request. */
static int begin(struct sp_zygotes *zs, sp_error *error) {
    if (zs->closed) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, ESHUTDOWN, "the launcher is closed");
    }
    struct sp_zygote *next = sp_zygotes_spawn(zs, sp_now() + SEND_NS, error);
    if (next == NULL) {
        return SP_E_CREATE;
    }
    if (zs->renewal.next != NULL) {
        sp_zygotes_kill(zs, zs->renewal.next);
    }
    next->renews = true;
    zs->renewal.next = next;
    zs->renewal.until = time_to_start(zs);
    return 0;
}

int sp_zygotes_renew(struct sp_zygotes *zs, uint32_t *number, sp_error *error) {
    int rc = 0;
    pthread_mutex_lock(&zs->lock);
    if (*number == 0) {
        rc = begin(zs, error);
        *number = zs->renewal.ended + 1;
    }
    (void)sp_zygotes_advance(zs);
    if (rc == 0 && zs->renewal.ended < *number) {
        rc = zs->closed ? sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, ESHUTDOWN, "the launcher is closed")
                        : SP_AGAIN;
    } else if (rc == 0 && zs->renewal.failed >= *number) {
        *error = zs->renewal.why;
        rc = SP_E_CREATE;
    }
    pthread_mutex_unlock(&zs->lock);
    return rc;
}

void sp_zygotes_note_stale(struct sp_zygotes *zs, const struct sp_zygote *z) {
    sp_error ignored; /* the next sandbox that is stale tries again */
    pthread_mutex_lock(&zs->lock);
    if (zs->current == z && zs->renewal.next == NULL && sp_now() >= zs->renewal.until) {
        (void)begin(zs, &ignored);
    }
    pthread_mutex_unlock(&zs->lock);
}
