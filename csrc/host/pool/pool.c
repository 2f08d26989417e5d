/* The pool from open on; close.c has its end. */
#include "host/pool/state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/sys/fork_mark.h"

/* How many births a warm() attends to at once. The zygote clones one after the other; the inits then run in parallel.
 */
#define WARM_WINDOW 16
#define HEALTH_TIMEOUT_NS SP_SEC(5)

/* ---- warm ---- */

struct warm_window {
    struct sp_birth births[WARM_WINDOW];
    uint32_t begun, done; /* births done .. begun - 1 are under way, modulo the window */
};

/* Waits for the oldest birth of the window and inserts it. 1 inserted, 0 not wanted any more, or SP_E_CREATE. */
static int warm_step(sp_pool *pool, struct warm_window *w, sp_error *error) {
    struct sp_birth *birth = &w->births[w->done % WARM_WINDOW];
    int rc;
    do { /* in slices: nothing wakes a birth that waits for another zygote when the pool is closed */
        rc = sp_birth_wait(birth, sp_now() + SP_SLICE_NS, error);
    } while (rc == SP_AGAIN && !sp_ledger_closed(atomic_load(&pool->ledger)));
    if (rc == SP_AGAIN) {
        sp_birth_abandon(birth);
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_NONE, ESHUTDOWN, NULL);
    }
    w->done++;
    pthread_mutex_lock(&pool->lock);
    pool->starting--;
    sp_pool_check_settled(pool);
    if (rc != 0) {
        sp_pool_count_failed_creation(pool, error);
    }
    int inserted = 0;
    if (rc == 0) {
        sp_pool_record_latency(pool, SP_LATENCY_CREATE, birth->took);
        uint32_t index = sp_pool_take_slot(pool);
        inserted = index != SP_NO_SLOT && sp_pool_insert(pool, index, birth->session);
        if (index != SP_NO_SLOT && !inserted) {
            sp_pool_free_slot(pool, index);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (rc == 0 && !inserted) {
        sp_session_end(birth->session);
    }
    return rc != 0 ? rc : inserted;
}

static uint32_t missing(sp_pool *pool, uint32_t target) {
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    uint32_t have = sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) + pool->starting;
    return sp_ledger_closed(ledger) || have >= target ? 0 : target - have;
}

static int begin_birth(sp_pool *pool, struct warm_window *w, sp_error *error) {
    int rc = sp_birth_begin(pool->launcher, &w->births[w->begun % WARM_WINDOW], error);
    if (rc == 0) {
        w->begun++;
    } else {
        pthread_mutex_lock(&pool->lock);
        pool->starting--;
        sp_pool_count_failed_creation(pool, error);
        pthread_mutex_unlock(&pool->lock);
    }
    return rc;
}

/* Creates what is missing up to target, several at a time. The number inserted, or the first error. */
static int64_t create_missing(sp_pool *pool, uint32_t target, sp_error *error) {
    struct warm_window w = {.begun = 0};
    sp_error later;
    int64_t inserted = 0;
    int rc = 0;
    pthread_mutex_lock(&pool->lock);
    uint32_t wanted = missing(pool, target);
    pool->starting += wanted;
    pthread_mutex_unlock(&pool->lock);
    while (w.done < w.begun || (w.begun < wanted && rc == 0)) {
        if (w.begun < wanted && w.begun - w.done < WARM_WINDOW && rc == 0) {
            rc = begin_birth(pool, &w, error);
            wanted -= rc != 0; /* that one is accounted for */
            continue;
        }
        int step = warm_step(pool, &w, rc == 0 ? error : &later);
        inserted += step > 0;
        rc = rc == 0 && step < 0 ? step : rc;
    }
    pthread_mutex_lock(&pool->lock);
    pool->starting -= wanted - w.begun;
    pthread_mutex_unlock(&pool->lock);
    return rc != 0 ? rc : inserted;
}

int64_t sp_warm(sp_pool *pool, uint32_t target, sp_error *error) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    pthread_mutex_lock(&pool->lock);
    bool closed = sp_ledger_closed(atomic_load(&pool->ledger));
    if (pool->options.max_idle_ns != 0 && !closed) {
        int64_t before = sp_coarse_now() - pool->options.max_idle_ns;
        while (sp_pool_evict_older(pool, before)) {
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (closed) {
        return SP_E_CLOSED;
    }
    sp_pool_kick(pool);
    int64_t n = create_missing(pool, target < pool->options.max_size ? target : pool->options.max_size, error);
    /* Births that were under way when the pool was closed fail; the reason is not theirs. */
    return sp_ledger_closed(atomic_load(&pool->ledger)) ? SP_E_CLOSED : n;
}

/* ---- open ---- */

static int copy_strings(sp_pool *pool) {
    sp_pool_options *o = &pool->options;
    pool->strings = malloc(o->health_argv_len + o->health_env_len + 1);
    if (pool->strings == NULL) {
        return -ENOMEM;
    }
    if (o->health_argv_len != 0) {
        memcpy(pool->strings, o->health_argv, o->health_argv_len);
    }
    if (o->health_env_len != 0) {
        memcpy(pool->strings + o->health_argv_len, o->health_env, o->health_env_len);
    }
    o->health_argv = pool->strings;
    o->health_env = pool->strings + o->health_argv_len;
    return 0;
}

/* A thread of ours must not take the host's signals: it starts with all of them blocked, and keeps them so. */
static int start_janitor(sp_pool *pool) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&pool->janitor, NULL, sp_janitor_main, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pool->janitor_runs = rc == 0;
    return -rc;
}

static void init_locks(sp_pool *pool) {
    pthread_mutex_init(&pool->lock, NULL);
    sp_cond_init(&pool->slot_free);
    sp_cond_init(&pool->ended);
    sp_cond_init(&pool->settled);
}

static _Atomic uint64_t serials;

static int build(sp_pool *pool, sp_launcher *launcher, const sp_pool_options *options) {
    pool->options = *options;
    if (options->refill_concurrency == 0) {
        pool->options.refill_concurrency = SP_BIRTHS_DEFAULT;
    }
    if (options->health_timeout_ns == 0) {
        pool->options.health_timeout_ns = HEALTH_TIMEOUT_NS;
    }
    pool->owner_pid = getpid();
    /* relaxed: only that each number is given once */
    pool->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
    pool->as_root = geteuid() == 0;
    pool->free_head = pool->recycle_head = pool->recycle_tail = SP_NO_SLOT;
    pool->poller = (struct sp_poller){.set = -1, .kick = -1};
    init_locks(pool);
    sp_launcher_enter(launcher);
    pool->launcher = launcher;
    if (options->events != NULL) { /* the caller may tell, so that it is not over */
        sp_events_ref(options->events);
        (void)sp_events_enter(options->events);
    }
    pool->mine = sp_fork_mark_new();
    pool->slots = calloc(SP_COUNT_MAX, sizeof *pool->slots); /* untouched pages cost nothing */
    pool->links = calloc(SP_COUNT_MAX, sizeof *pool->links);
    if (pool->mine == NULL || pool->slots == NULL || pool->links == NULL || copy_strings(pool) != 0) {
        return -ENOMEM;
    }
    sp_ring_init(&pool->ring, pool->links, SP_COUNT_MAX);
    return sp_poller_open(&pool->poller);
}

sp_pool *sp_pool_open(sp_launcher *launcher, const sp_pool_options *options, sp_error *error) {
    if (options->size != sizeof *options || options->min_size > options->max_size || options->max_size > SP_COUNT_MAX ||
        options->max_in_use > SP_COUNT_MAX || options->refill_concurrency > SP_BIRTHS_MAX ||
        options->health_timeout_ns < 0) {
        (void)sp_error_set(error, SP_E_INVAL, SP_STAGE_NONE, EINVAL, "pool options");
        return NULL;
    }
    sp_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        (void)sp_error_set(error, SP_E_NOMEM, SP_STAGE_NONE, ENOMEM, NULL);
        return NULL;
    }
    int rc = build(pool, launcher, options);
    if (rc != 0) {
        (void)sp_error_set(error, rc == -ENOMEM ? SP_E_NOMEM : SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "pool");
    } else {
        rc = create_missing(pool, options->min_size, error) < 0 ? -1 : 0;
        if (rc == 0 && (rc = start_janitor(pool)) != 0) { /* after it: a refill must not take its births */
            (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "pool");
        }
    }
    if (rc != 0) {
        sp_pool_free(pool);
        return NULL;
    }
    return pool;
}

int64_t sp_pool_owner_pid(sp_pool *pool) { return pool->owner_pid; }
