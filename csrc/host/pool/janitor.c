/*
 * The janitor: one thread per pool, all signals blocked, no Python. It ends what was buried, recycles by replacement,
 * refills to min_size, checks health, expires, and evicts idle entries that died. It sleeps only in its poller, and
 * waits for no single creation: births and checks are attended to as their sockets speak.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "host/pool/state.h"
#include "host/sys/back_off.h"

#define BACK_OFF_MIN_NS SP_MS(50)
#define BACK_OFF_MAX_NS SP_SEC(5)
/* An entry that dies at that age died of what made it, perhaps; after the longer time without one, that is over. */
#define YOUNG_NS SP_SEC(1)
#define DEATHS_OVER_NS SP_SEC(10)
/* An acquire makes no syscall, and so wakes nobody: below min_size is noticed within this time, if not before. */
#define REFILL_LOOK_NS SP_MS(250)
#define TEND_NS SP_MS(20)
/* A sandbox that was killed is looked at after this time, and then ever more seldom. */
#define DYING_MIN_NS SP_MS(5)
#define DYING_MAX_NS SP_MS(250)
/* A poller whose descriptors somebody else has closed wakes nobody up any more. */
#define OWN_LOOK_NS SP_SEC(1)
/* Watch keys of births; those of slots are smaller. */
#define BIRTH_KEY (UINT64_C(1) << 32)

enum birth_phase { UNUSED, BORN, CHECKED };

struct birth_task {
    enum birth_phase phase;
    bool recycles; /* else it refills */
    bool check;
    uint32_t slot; /* of a recycling entry */
    struct sp_birth birth;
    int64_t check_deadline;
};

struct janitor {
    sp_pool *pool;
    /* The first options.refill_concurrency: enough to keep the zygote busy, few enough that a miss does not wait behind
     * a queue of them. */
    struct birth_task births[SP_BIRTHS_MAX];
    uint32_t n_births;
    struct sp_back_off back_off;
    struct sp_back_off deaths; /* of entries that died young */
    int64_t died_young;        /* when the last one did */
    int64_t refill_after;      /* refills wait until then; recycling does not, somebody may wait for it */
    int64_t tend_after;        /* SP_NEVER: only when it wakes for something else */
    int64_t check_dying_at;    /* at the dying; SP_NEVER: there are none */
    uint64_t restarts;         /* of the launcher's process, those that were told */
};

/* What becomes of a birth: `session` is NULL when it failed. */
static void finish_task(struct janitor *j, struct birth_task *t, struct sp_session *session) {
    sp_pool *pool = j->pool;
    pthread_mutex_lock(&pool->lock);
    if (session != NULL) {
        sp_pool_record_latency(pool, SP_LATENCY_CREATE, t->birth.took);
    }
    if (t->recycles) {
        if (session != NULL) {
            sp_recycle_done(pool, t->slot, session);
        } else {
            sp_recycle_failed(pool, t->slot, t->phase == CHECKED ? SP_EVICT_HEALTH_CHECK : SP_EVICT_FAILED_RECYCLE);
        }
    } else {
        pool->starting--;
        uint32_t slot = session != NULL ? sp_pool_take_slot(pool) : SP_NO_SLOT;
        if (session != NULL && (slot == SP_NO_SLOT || !sp_pool_insert(pool, slot, session))) {
            sp_pool_discard(pool, session);
            if (slot != SP_NO_SLOT) {
                sp_pool_free_slot(pool, slot);
            }
        }
    }
    pthread_mutex_unlock(&pool->lock);
    t->phase = UNUSED;
}

static void birth_failed(struct janitor *j, struct birth_task *t, const sp_error *error) {
    pthread_mutex_lock(&j->pool->lock);
    sp_pool_count_failed_creation(j->pool, error);
    pthread_mutex_unlock(&j->pool->lock);
    j->refill_after = sp_now() + sp_back_off(&j->back_off, BACK_OFF_MIN_NS, BACK_OFF_MAX_NS);
    finish_task(j, t, NULL);
}

/* ---- births and checks ---- */

static uint64_t key_of(struct janitor *j, const struct birth_task *t) { return BIRTH_KEY + (uint64_t)(t - j->births); }

/* One that waits for another zygote has nothing to be watched; the next one's socket is a new one. */
static void attend_again(struct janitor *j, struct birth_task *t) {
    const struct sp_session *session = t->birth.session;
    if (session->control != -1 && sp_poller_rearm(&j->pool->poller, session->control, key_of(j, t)) != 0) {
        (void)sp_poller_add(&j->pool->poller, session->control, key_of(j, t));
    }
}

static void begin_check(struct janitor *j, struct birth_task *t) {
    const sp_pool_options *o = &j->pool->options;
    struct sp_check check = {.argc = o->health_argc,
                             .envc = o->health_envc,
                             .argv = o->health_argv,
                             .env = o->health_env,
                             .argv_len = o->health_argv_len,
                             .env_len = o->health_env_len};
    struct sp_session *session = t->birth.session;
    t->phase = CHECKED;
    t->check_deadline = sp_now() + o->health_timeout_ns;
    pthread_mutex_lock(&j->pool->lock);
    j->pool->checks++;
    pthread_mutex_unlock(&j->pool->lock);
    if (session->launcher->ops->check_begin(session, &check, t->check_deadline) != 0) {
        sp_session_end(session);
        finish_task(j, t, NULL);
    }
}

static void attend_check(struct janitor *j, struct birth_task *t) {
    struct sp_session *session = t->birth.session;
    int status = 0;
    int rc = session->launcher->ops->check_step(session, &status);
    if (rc == SP_AGAIN && sp_now() < t->check_deadline) {
        attend_again(j, t);
    } else if (rc == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        finish_task(j, t, session);
    } else {
        sp_session_end(session);
        finish_task(j, t, NULL);
    }
}

static void attend_birth(struct janitor *j, struct birth_task *t) {
    sp_error error;
    int rc = sp_birth_step(&t->birth, &error);
    if (rc == SP_AGAIN) {
        attend_again(j, t);
    } else if (rc != 0) {
        birth_failed(j, t, &error);
    } else {
        j->back_off.delay = 0;
        if (t->check) {
            begin_check(j, t);
        } else {
            finish_task(j, t, t->birth.session);
        }
    }
    if (t->phase == CHECKED) {
        attend_check(j, t);
    }
}

static void begin_birth(struct janitor *j, struct birth_task *t) {
    sp_error error;
    t->phase = BORN;
    if (sp_birth_begin(j->pool->launcher, &t->birth, &error) != 0) {
        birth_failed(j, t, &error);
    } else if (t->birth.not_before == 0 &&
               sp_poller_add(&j->pool->poller, t->birth.session->control, key_of(j, t)) != 0) {
        sp_birth_abandon(&t->birth);
        (void)sp_error_set(&error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOMEM, "poller");
        birth_failed(j, t, &error);
    }
}

/* ---- work to be done ---- */

/* Decides under the lock what the birth `t` is for. False when there is nothing to do. */
static bool next_task(struct janitor *j, struct birth_task *t) {
    sp_pool *pool = j->pool;
    bool found = true;
    memset(t, 0, sizeof *t);
    pthread_mutex_lock(&pool->lock);
    if (pool->creation_succeeded) {
        pool->creation_succeeded = false;
        j->back_off.delay = 0;
        j->refill_after = 0;
    }
    t->slot = sp_recycle_next(pool);
    if (t->slot != SP_NO_SLOT) {
        t->recycles = true;
        uint32_t interval = pool->options.health_check_interval;
        t->check = interval != 0 && ++pool->recycle_attempts % interval == 0;
    } else if (sp_pool_wants_refill(pool) && sp_now() >= j->refill_after) {
        pool->starting++;
    } else {
        found = false;
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

static void begin_births(struct janitor *j) {
    for (unsigned i = 0; i < j->n_births; i++) {
        while (j->births[i].phase == UNUSED) {
            if (!next_task(j, &j->births[i])) {
                return;
            }
            begin_birth(j, &j->births[i]); /* UNUSED again when it failed at once */
        }
    }
}

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

/* Of the two, those that a thread waits for come first. */
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

/* Not by the poller: a wake-up for each death would cost more than a look at several of them. */
static void check_dying(struct janitor *j) {
    const int64_t now = sp_now();
    if (now < j->check_dying_at && j->check_dying_at != SP_NEVER) {
        return;
    }
    const struct sp_dying_observer observer = {sp_pool_report_undead, j->pool};
    int64_t youngest = sp_dying_look(j->pool->launcher, &j->pool->dying, &observer);
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

/* Its successor may die as well: refills then wait as after a creation that failed. Of several at once one counts. */
static void back_off_after_death(struct janitor *j, int64_t ready_at) {
    int64_t now = sp_now();
    if (now - ready_at < YOUNG_NS && now >= j->refill_after) {
        j->deaths.delay = now - j->died_young > DEATHS_OVER_NS ? 0 : j->deaths.delay;
        j->died_young = now;
        j->refill_after = now + sp_back_off(&j->deaths, BACK_OFF_MIN_NS, BACK_OFF_MAX_NS);
    }
}

static unsigned cause_of_death(const struct sp_session *session) {
    const struct sp_launch_ops *ops = session->launcher->ops;
    return ops->gone != NULL && ops->gone(session) ? SP_EVICT_ZYGOTE_LOST : SP_EVICT_DEATH;
}

/* A sandbox has died by itself. Idle: evicted. Leased: marked, so that an unused one's return does not make it idle. */
static void note_death(struct janitor *j, uint32_t index) {
    sp_pool *pool = j->pool;
    pthread_mutex_lock(&pool->lock);
    struct sp_slot *slot = &pool->slots[index];
    bool dead = false;
    if (slot->session != NULL) {
        struct pollfd p = {.fd = slot->session->pidfd, .events = POLLIN};
        dead = poll(&p, 1, 0) > 0; /* the slot may have a new sandbox since the event */
    }
    int64_t ready_at = atomic_load(&slot->ready_at);
    if (dead && sp_pool_evict_one(pool, index, cause_of_death(slot->session))) {
        back_off_after_death(j, ready_at);
    } else if (dead) {
        if (sp_slot_mark_dead(slot) == SP_SLOT_IDLE && slot->session != NULL) {
            /* On its way in or out of the ring: look again. */
            (void)sp_poller_rearm(&pool->poller, slot->session->pidfd, index);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

/* ---- the loop ---- */

/* When it is to be looked at, whatever its socket says. */
static int64_t birth_due(const struct sp_birth *birth) {
    return birth->not_before != 0 ? earlier(birth->not_before, birth->deadline) : birth->deadline;
}

static int64_t next_wake(struct janitor *j) {
    sp_pool *pool = j->pool;
    int64_t wake = earlier(earlier(j->tend_after, j->check_dying_at), sp_now() + OWN_LOOK_NS);
    for (unsigned i = 0; i < j->n_births; i++) {
        const struct birth_task *t = &j->births[i];
        wake = t->phase == BORN ? earlier(wake, birth_due(&t->birth)) : wake;
        wake = t->phase == CHECKED ? earlier(wake, t->check_deadline) : wake;
    }
    uint32_t oldest = pool->options.max_idle_ns != 0 ? sp_ring_oldest(&pool->ring) : SP_RING_EMPTY;
    if (oldest != SP_RING_EMPTY) {
        /* The coarse clock lags by one tick: a wake-up at the very moment would come to nothing. */
        wake = earlier(wake, atomic_load(&pool->slots[oldest].ready_at) + pool->options.max_idle_ns + SP_MS(10));
    } else if (pool->options.max_idle_ns != 0) {
        wake = earlier(wake, sp_now() + REFILL_LOOK_NS); /* the peek is a hint: look again in time */
    }
    if (pool->options.min_size != 0) {
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
    if (key < BIRTH_KEY || key >= BIRTH_KEY + j->n_births) {
        return; /* of a poller that is not ours any more */
    }
    struct birth_task *t = &j->births[key - BIRTH_KEY];
    if (t->phase == BORN) {
        attend_birth(j, t);
    } else if (t->phase == CHECKED) {
        attend_check(j, t);
    }
}

static void attend_overdue(struct janitor *j) {
    int64_t now = sp_now();
    for (unsigned i = 0; i < j->n_births; i++) {
        struct birth_task *t = &j->births[i];
        if (t->phase == BORN && now >= birth_due(&t->birth)) {
            attend_birth(j, t);
        } else if (t->phase == CHECKED && now >= t->check_deadline) {
            attend_check(j, t);
        }
    }
}

/* Soon again while processes that were killed are not gone yet. */
static void tend(struct janitor *j) {
    sp_launcher *launcher = j->pool->launcher;
    bool more = launcher->ops->tend != NULL && launcher->ops->tend(launcher);
    j->tend_after = more ? sp_now() + TEND_NS : SP_NEVER;
}

/* Another zygote has made a sandbox. Whoever asked for it: each pool of the launcher tells. */
static void report_restarts(struct janitor *j) {
    uint64_t restarts = atomic_load(&j->pool->launcher->restarts);
    if (restarts != j->restarts) {
        sp_pool_report(j->pool, (sp_event){.kind = SP_EVENT_ZYGOTE_RESTARTED,
                                           .pid = sp_launcher_pid(j->pool->launcher),
                                           .count = restarts - j->restarts});
        j->restarts = restarts;
    }
}

/* The poller first: a kick that comes later is not taken back, and what came with an earlier one is seen now. */
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

static void end_births(struct janitor *j) {
    for (unsigned i = 0; i < j->n_births; i++) {
        if (j->births[i].phase != UNUSED) {
            sp_birth_abandon(&j->births[i].birth);
        }
    }
}

void *sp_janitor_main(void *arg) {
    sp_pool *pool = arg;
    struct janitor j = {.pool = pool,
                        .n_births = pool->options.refill_concurrency,
                        .back_off = {.noise = (uint64_t)sp_now()},
                        .check_dying_at = SP_NEVER};
    while (begin_turn(j.pool)) {
        end_discarded(&j);
        expire(j.pool);
        end_discarded(&j);
        check_dying(&j);
        begin_births(&j);
        tend(&j);
        report_restarts(&j);
        uint64_t keys[32];
        unsigned n = sp_poller_wait(&j.pool->poller, keys, sizeof keys / sizeof keys[0], next_wake(&j));
        for (unsigned i = 0; i < n; i++) {
            attend(&j, keys[i]);
        }
        attend_overdue(&j);
    }
    end_births(&j);
    pthread_mutex_lock(&pool->lock);
    pool->janitor_over = true;
    pthread_cond_broadcast(&pool->ended);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}
