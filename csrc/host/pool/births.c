#include "host/pool/births.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "common/clock.h"

#define BACK_OFF_MIN_NS SP_MS(50)
#define BACK_OFF_MAX_NS SP_SEC(5)

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

void sp_births_put_refills_off(struct sp_births *b, struct sp_back_off *back_off) {
    b->refill_after = sp_now() + sp_back_off(back_off, BACK_OFF_MIN_NS, BACK_OFF_MAX_NS);
}

/* Hands the fresh sandbox to the pool. `session` is NULL: the birth or the check failed. */
static void finish_task(struct sp_births *b, struct sp_birth_task *t, struct sp_session *session) {
    sp_pool *pool = b->pool;
    pthread_mutex_lock(&pool->lock);
    if (session != NULL) {
        sp_pool_record_latency(pool, SP_LATENCY_CREATE, t->birth.duration);
    }
    if (t->recycles) {
        if (session != NULL) {
            sp_recycle_done(pool, t->slot, session);
        } else {
            sp_recycle_failed(pool, t->slot,
                              t->phase == SP_BIRTH_CHECKED ? SP_EVICT_HEALTH_CHECK : SP_EVICT_FAILED_RECYCLE);
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
    t->phase = SP_BIRTH_UNUSED;
}

static void birth_failed(struct sp_births *b, struct sp_birth_task *t, const sp_error *error) {
    pthread_mutex_lock(&b->pool->lock);
    sp_pool_count_failed_creation(b->pool, error);
    pthread_mutex_unlock(&b->pool->lock);
    sp_births_put_refills_off(b, &b->back_off);
    finish_task(b, t, NULL);
}

static uint64_t key_of(struct sp_births *b, const struct sp_birth_task *t) {
    return SP_BIRTH_KEY + (uint64_t)(t - b->tasks);
}

/* A birth that waits for another zygote has no socket to poll; it gets a new socket with the next request. */
static void attend_again(struct sp_births *b, struct sp_birth_task *t) {
    const struct sp_session *session = t->birth.session;
    if (session->control != -1 && sp_poller_rearm(&b->pool->poller, session->control, key_of(b, t)) != 0) {
        (void)sp_poller_add(&b->pool->poller, session->control, key_of(b, t));
    }
}

static void begin_check(struct sp_births *b, struct sp_birth_task *t) {
    const sp_pool_options *o = &b->pool->options;
    struct sp_check check = {.argc = o->health_argc,
                             .envc = o->health_envc,
                             .argv = o->health_argv,
                             .env = o->health_env,
                             .argv_len = o->health_argv_len,
                             .env_len = o->health_env_len};
    struct sp_session *session = t->birth.session;
    t->phase = SP_BIRTH_CHECKED;
    t->check_deadline = sp_now() + o->health_timeout_ns;
    pthread_mutex_lock(&b->pool->lock);
    b->pool->checks++;
    pthread_mutex_unlock(&b->pool->lock);
    if (session->launcher->ops->check_begin(session, &check, t->check_deadline) != 0) {
        sp_session_end(session);
        finish_task(b, t, NULL);
    }
}

static void attend_check(struct sp_births *b, struct sp_birth_task *t) {
    struct sp_session *session = t->birth.session;
    int status = 0;
    int rc = session->launcher->ops->check_step(session, &status);
    if (rc == SP_AGAIN && sp_now() < t->check_deadline) {
        attend_again(b, t);
    } else if (rc == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        finish_task(b, t, session);
    } else {
        sp_session_end(session);
        finish_task(b, t, NULL);
    }
}

static void attend_birth(struct sp_births *b, struct sp_birth_task *t) {
    sp_error error;
    int rc = sp_birth_step(&t->birth, &error);
    if (rc == SP_AGAIN) {
        attend_again(b, t);
    } else if (rc != 0) {
        birth_failed(b, t, &error);
    } else {
        b->back_off.delay = 0;
        if (t->check) {
            begin_check(b, t);
        } else {
            finish_task(b, t, t->birth.session);
        }
    }
    if (t->phase == SP_BIRTH_CHECKED) {
        attend_check(b, t);
    }
}

static void begin_birth(struct sp_births *b, struct sp_birth_task *t) {
    sp_error error;
    t->phase = SP_BIRTH_STARTED;
    if (sp_birth_begin(b->pool->launcher, &t->birth, &error) != 0) {
        birth_failed(b, t, &error);
    } else if (t->birth.not_before == 0 &&
               sp_poller_add(&b->pool->poller, t->birth.session->control, key_of(b, t)) != 0) {
        sp_birth_abandon(&t->birth);
        (void)sp_error_set(&error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOMEM, "poller");
        birth_failed(b, t, &error);
    }
}

/* Decides under the lock what the birth `t` is for. False: there is nothing to do. */
static bool next_task(struct sp_births *b, struct sp_birth_task *t) {
    sp_pool *pool = b->pool;
    bool found = true;
    memset(t, 0, sizeof *t);
    pthread_mutex_lock(&pool->lock);
    if (pool->creation_succeeded) {
        pool->creation_succeeded = false;
        b->back_off.delay = 0;
        b->refill_after = 0;
    }
    t->slot = sp_recycle_next(pool);
    if (t->slot != SP_NO_SLOT) {
        t->recycles = true;
        uint32_t interval = pool->options.health_check_interval;
        t->check = interval != 0 && ++pool->recycle_attempts % interval == 0;
    } else if (sp_pool_wants_refill(pool) && sp_now() >= b->refill_after) {
        pool->starting++;
    } else {
        found = false;
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

void sp_births_begin(struct sp_births *b) {
    for (unsigned i = 0; i < b->n; i++) {
        while (b->tasks[i].phase == SP_BIRTH_UNUSED) {
            if (!next_task(b, &b->tasks[i])) {
                return;
            }
            begin_birth(b, &b->tasks[i]); /* unused again if it failed at once */
        }
    }
}

/* When a birth has to be looked at even if its socket is silent. */
static int64_t birth_due(const struct sp_birth *birth) {
    return birth->not_before != 0 ? earlier(birth->not_before, birth->deadline) : birth->deadline;
}

int64_t sp_births_due(const struct sp_births *b) {
    int64_t due = SP_NEVER;
    for (unsigned i = 0; i < b->n; i++) {
        const struct sp_birth_task *t = &b->tasks[i];
        due = t->phase == SP_BIRTH_STARTED ? earlier(due, birth_due(&t->birth)) : due;
        due = t->phase == SP_BIRTH_CHECKED ? earlier(due, t->check_deadline) : due;
    }
    return due;
}

void sp_births_attend(struct sp_births *b, uint64_t key) {
    if (key < SP_BIRTH_KEY || key >= SP_BIRTH_KEY + b->n) {
        return; /* another part of the process has replaced the poller's descriptor */
    }
    struct sp_birth_task *t = &b->tasks[key - SP_BIRTH_KEY];
    if (t->phase == SP_BIRTH_STARTED) {
        attend_birth(b, t);
    } else if (t->phase == SP_BIRTH_CHECKED) {
        attend_check(b, t);
    }
}

void sp_births_attend_overdue(struct sp_births *b) {
    int64_t now = sp_now();
    for (unsigned i = 0; i < b->n; i++) {
        struct sp_birth_task *t = &b->tasks[i];
        if (t->phase == SP_BIRTH_STARTED && now >= birth_due(&t->birth)) {
            attend_birth(b, t);
        } else if (t->phase == SP_BIRTH_CHECKED && now >= t->check_deadline) {
            attend_check(b, t);
        }
    }
}

void sp_births_end(struct sp_births *b) {
    for (unsigned i = 0; i < b->n; i++) {
        if (b->tasks[i].phase != SP_BIRTH_UNUSED) {
            sp_birth_abandon(&b->tasks[i].birth);
        }
    }
}
