/* How a pool is opened; close.c has its end. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "host/pool/warm.h"
#include "host/sys/fork_mark.h"

#define HEALTH_TIMEOUT_NS SP_SEC(5)

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

/* The janitor must not receive the host's signals: it starts, and stays, with all of them blocked. */
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
    sp_cond_init(&pool->drained);
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
    atomic_store(&pool->bounds, sp_pool_bounds(options->min_size, options->max_size));
    pool->owner_pid = getpid();
    /* relaxed: only that each number is given once */
    pool->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
    pool->as_root = geteuid() == 0;
    pool->free_head = pool->recycle_head = pool->recycle_tail = SP_NO_SLOT;
    pool->poller = (struct sp_poller){.set = -1, .kick = -1};
    init_locks(pool);
    sp_launcher_enter(launcher);
    pool->launcher = launcher;
    if (options->events != NULL) { /* the caller may report events too, so the queue is open */
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
        rc = sp_warm_create_missing(pool, options->min_size, error) < 0 ? -1 : 0;
        if (rc == 0 && (rc = start_janitor(pool)) != 0) { /* after the warming, so that no refill takes its births */
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
