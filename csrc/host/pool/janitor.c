/*
 * The janitor: one thread per pool, with all signals blocked and without Python. It ends discarded sandboxes, recycles
 * used ones by replacement, refills to min_size, checks health, expires old entries, and evicts idle ones that died. It
 * sleeps only in its poller and waits for no single creation (see births.h).
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "host/pool/births.h"

/* An entry that dies this young may have died of how it was made, so that its successor would die, too. After the
 * longer time without such a death, refills are not delayed any more. */
#define YOUNG_NS SP_SEC(1)
#define DEATHS_OVER_NS SP_SEC(10)
/* acquire() makes no system call and so wakes nobody: the janitor looks this often whether the pool is below min_size.
 */
#define REFILL_LOOK_NS SP_MS(250)
#define TEND_NS SP_MS(20)
/* A killed sandbox is checked after this time, and then less and less often. */
#define DYING_MIN_NS SP_MS(5)
#define DYING_MAX_NS SP_MS(250)
/* If another part of the process closes the poller's descriptors, nothing wakes the janitor: it looks this often. */
#define OWN_LOOK_NS SP_SEC(1)

struct janitor {
    sp_pool *pool;
    struct sp_births births;
    struct sp_back_off deaths; /* of entries that died young */
    int64_t died_young;        /* when the last such entry died */
    int64_t tend_after;        /* SP_NEVER: only when it wakes for something else */
    int64_t check_dying_at;    /* SP_NEVER: no killed sandbox is left to check */
    uint64_t restarts;         /* of the launcher's process, as far as they were reported */
};

/* ---- work to be done ---- */

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

/* The orphans first: a thread waits for the end of each. */
static void end_discarded(struct janitor *j) {
    sp_pool *pool = j->pool;
    sp_orphans_kill(pool);
    pthread_mutex_lock(&pool->lock);
    struct sp_session *session = pool->discarded;
    pool->discarded = NULL;
    pthread_mutex_unlock(&pool->lock);
    uint32_t ended = 0;
    while (session != NULL) {
        struct sp_session *next = session->next;
        sp_session_end(session);
        session = next;
        ended++;
    }
    if (ended != 0) {
        j->check_dying_at = earlier(j->check_dying_at, sp_now() + DYING_MIN_NS);
    }
    pthread_mutex_lock(&pool->lock);
    pool->ending -= ended;
    pool->awaits_death = pool->awaits_death || ended != 0;
    sp_pool_check_settled(pool);
    pthread_mutex_unlock(&pool->lock);
}

/* By time, not by the poller: a wake-up for each death would cost more than one check of several sandboxes. */
static void check_dying(struct janitor *j) {
    const int64_t now = sp_now();
    if (now < j->check_dying_at && j->check_dying_at != SP_NEVER) {
        return;
    }
    const struct sp_dying_observer observer = {sp_pool_report_undead, j->pool};
    int64_t youngest = sp_dying_check(j->pool->launcher, &j->pool->dying, &observer);
    int64_t pause = youngest / 2 < DYING_MIN_NS ? DYING_MIN_NS : earlier(youngest / 2, DYING_MAX_NS);
    j->check_dying_at = youngest == SP_NEVER ? SP_NEVER : now + pause;
    if (j->pool->awaits_death || youngest < SP_UNDEAD_NS) {
        pthread_mutex_lock(&j->pool->lock);
        j->pool->awaits_death = youngest < SP_UNDEAD_NS;
        sp_pool_check_settled(j->pool);
        pthread_mutex_unlock(&j->pool->lock);
    }
}

static void expire(sp_pool *pool) {
    if (pool->options.max_idle_ns != 0) {
        pthread_mutex_lock(&pool->lock);
        int64_t before = sp_coarse_now() - pool->options.max_idle_ns;
        while (sp_pool_evict_older(pool, before)) {
        }
        pthread_mutex_unlock(&pool->lock);
    }
}

/* Refills wait, as they do after a failed creation. Several deaths at once count as one. */
static void back_off_after_death(struct janitor *j, int64_t ready_at) {
    int64_t now = sp_now();
    if (now - ready_at < YOUNG_NS && now >= j->births.refill_after) {
        j->deaths.delay = now - j->died_young > DEATHS_OVER_NS ? 0 : j->deaths.delay;
        j->died_young = now;
        sp_births_put_refills_off(&j->births, &j->deaths);
    }
}

static unsigned cause_of_death(const struct sp_session *session) {
    const struct sp_launch_ops *ops = session->launcher->ops;
    return ops->process_died != NULL && ops->process_died(session) ? SP_EVICT_ZYGOTE_LOST : SP_EVICT_DEATH;
}

/* A sandbox has died by itself. An idle one is evicted. A leased one is marked, so that it does not become idle when it
 * is given back unused. */
static void note_death(struct janitor *j, uint32_t index) {
    sp_pool *pool = j->pool;
    pthread_mutex_lock(&pool->lock);
    struct sp_slot *slot = &pool->slots[index];
    bool dead = false;
    if (slot->session != NULL) {
        struct pollfd p = {.fd = slot->session->pidfd, .events = POLLIN};
        dead = poll(&p, 1, 0) > 0; /* the slot may have got a new sandbox after the event */
    }
    int64_t ready_at = atomic_load(&slot->ready_at);
    if (dead && sp_pool_evict_one(pool, index, cause_of_death(slot->session))) {
        back_off_after_death(j, ready_at);
    } else if (dead) {
        if (sp_slot_mark_dead(slot) == SP_SLOT_IDLE && slot->session != NULL) {
            /* It is just being pushed or taken: look again. */
            (void)sp_poller_rearm(&pool->poller, slot->session->pidfd, index);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

/* ---- the loop ---- */

static int64_t next_wake(struct janitor *j) {
    sp_pool *pool = j->pool;
    int64_t wake = earlier(earlier(j->tend_after, j->check_dying_at), sp_now() + OWN_LOOK_NS);
    wake = earlier(wake, sp_births_due(&j->births));
    uint32_t oldest = pool->options.max_idle_ns != 0 ? sp_ring_oldest(&pool->ring) : SP_RING_EMPTY;
    if (oldest != SP_RING_EMPTY) {
        /* The coarse clock lags by one tick: a wake-up exactly then would find nothing to expire. */
        wake = earlier(wake, atomic_load(&pool->slots[oldest].ready_at) + pool->options.max_idle_ns + SP_MS(10));
    } else if (pool->options.max_idle_ns != 0) {
        wake = earlier(wake, sp_now() + REFILL_LOOK_NS); /* the ring's answer is only a hint: look again soon */
    }
    if (sp_pool_min_size(pool) != 0) {
        wake = earlier(wake, sp_now() + REFILL_LOOK_NS);
    }
    return wake;
}

static void attend(struct janitor *j, uint64_t key) {
    if (key == SP_POLLER_KICK) {
        return;
    }
    if (key < SP_COUNT_MAX) {
        note_death(j, (uint32_t)key);
        return;
    }
    sp_births_attend(&j->births, key);
}

/* The launcher's housekeeping, repeated soon while killed processes are not gone. */
static void tend(struct janitor *j) {
    sp_launcher *launcher = j->pool->launcher;
    bool more = launcher->ops->tend != NULL && launcher->ops->tend(launcher);
    j->tend_after = more ? sp_now() + TEND_NS : SP_NEVER;
}

/* Each pool of the launcher reports that another zygote has made a sandbox, whichever pool asked for it. */
static void report_restarts(struct janitor *j) {
    uint64_t restarts = atomic_load(&j->pool->launcher->restarts);
    if (restarts != j->restarts) {
        sp_pool_report(j->pool, (sp_event){.kind = SP_EVENT_ZYGOTE_RESTARTED,
                                           .pid = sp_launcher_pid(j->pool->launcher),
                                           .count = restarts - j->restarts});
        j->restarts = restarts;
    }
}

/* Kicks are cancelled before the state is read: the work of an earlier kick is seen now, and a later kick still wakes.
 */
static bool begin_turn(sp_pool *pool) {
    bool own = sp_poller_begin_turn(&pool->poller) == 0;
    if (!own) {
        sp_pool_lose_descriptors(pool);
    }
    pthread_mutex_lock(&pool->lock);
    bool stop = pool->stopping;
    pthread_mutex_unlock(&pool->lock);
    return own && !stop;
}

void *sp_janitor_main(void *arg) {
    sp_pool *pool = arg;
    struct janitor j = {
        .pool = pool,
        .births = {.pool = pool, .n = pool->options.refill_concurrency, .back_off = {.noise = (uint64_t)sp_now()}},
        .check_dying_at = SP_NEVER};
    while (begin_turn(j.pool)) {
        end_discarded(&j);
        expire(j.pool);
        end_discarded(&j);
        check_dying(&j);
        sp_births_begin(&j.births);
        tend(&j);
        report_restarts(&j);
        uint64_t keys[32];
        unsigned n = sp_poller_wait(&j.pool->poller, keys, sizeof keys / sizeof keys[0], next_wake(&j));
        for (unsigned i = 0; i < n; i++) {
            attend(&j, keys[i]);
        }
        sp_births_attend_overdue(&j.births);
    }
    sp_births_end(&j.births);
    pthread_mutex_lock(&pool->lock);
    pool->janitor_over = true;
    pthread_cond_broadcast(&pool->ended);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}
