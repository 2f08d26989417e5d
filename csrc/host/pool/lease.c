/*
 * acquire and release: the hot path. A hit is one CAS on the ledger, one take from the ring and one store; giving an
 * unused lease back is the reverse. No lock, no system call, no allocation.
 */

#include "host/pool/state.h"

int sp_abi(void) { return SP_ABI; }

static _Thread_local struct {
    uint64_t pool; /* its serial: the address of a freed pool may be used again */
    int64_t handle;
} last_acquired;

int64_t sp_lease_remember_last(const sp_pool *pool, int64_t handle) {
    last_acquired.pool = pool->serial;
    last_acquired.handle = handle;
    return handle;
}

int64_t sp_last_acquired(sp_pool *pool) { return last_acquired.pool == pool->serial ? last_acquired.handle : 0; }

struct sp_slot *sp_lease_slot(sp_pool *pool, int64_t handle, uint64_t *word) {
    uint32_t index = (uint32_t)handle & SP_COUNT_MAX;
    if (handle < (INT64_C(1) << SP_HANDLE_SHIFT) || index >= SP_COUNT_MAX) {
        return NULL;
    }
    struct sp_slot *slot = &pool->slots[index];
    /* acquire: pairs with the release in sp_slot_lease(), so that the lease's session is seen */
    *word = atomic_load_explicit(&slot->word, memory_order_acquire);
    bool on = sp_slot_handle(*word, index) == handle && (*word & SP_SLOT_STATE) == SP_SLOT_LEASED;
    return on ? slot : NULL;
}

int64_t sp_acquire(sp_pool *pool) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    const uint32_t bound = pool->options.max_in_use;
    do {
        if ((ledger & (SP_LEDGER_CLOSED | SP_LEDGER_DRAINING)) != 0) {
            return sp_ledger_closed(ledger) ? SP_E_CLOSED : SP_SLOW;
        }
        /* seq_cst: pairs with waiters.c, which raises `waiting` and then reads the ledger. So one of the two sees
         * the other. */
        if (sp_ledger_idle(ledger) == 0 || sp_ledger_must_fold(ledger) || sp_ledger_in_use(ledger) == SP_COUNT_MAX ||
            (bound != 0 && (sp_ledger_in_use(ledger) >= bound || atomic_load(&pool->waiting) != 0))) {
            return SP_SLOW;
        }
    } while (!atomic_compare_exchange_weak(&pool->ledger, &ledger,
                                           ledger - SP_LEDGER_IDLE + SP_LEDGER_IN_USE + SP_LEDGER_HIT));
    return sp_lease_remember_last(pool, sp_pool_lease_newest(pool));
}

/* At capacity the oldest entry is evicted instead of the one just pushed, which has no permit yet; the permits stay. */
static void give_back_full(sp_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    sp_ledger_add(pool, 0 - SP_LEDGER_IN_USE);
    sp_pool_count_eviction(pool, SP_EVICT_CAPACITY, NULL);
    uint32_t oldest = sp_ring_claim_oldest(&pool->ring);
    if (oldest != SP_RING_EMPTY) { /* close() may have drained the ring */
        sp_pool_discard(pool, pool->slots[oldest].session);
        sp_pool_free_slot(pool, oldest);
    }
    pthread_mutex_unlock(&pool->lock);
    sp_pool_kick(pool);
}

/* Puts an unused sandbox back where the next acquire finds it. */
static void give_back(sp_pool *pool, uint32_t index) {
    struct sp_slot *slot = &pool->slots[index];
    atomic_store_explicit(&slot->ready_at, sp_coarse_now(), memory_order_relaxed); /* released by the push */
    sp_ring_push(&pool->ring, index);
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    do {
        if (sp_ledger_closed(ledger) ||
            sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) >= sp_pool_max_size(pool)) {
            give_back_full(pool);
            return;
        }
    } while (!atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger - SP_LEDGER_IN_USE + SP_LEDGER_IDLE));
    /* seq_cst, after the ledger: see sp_pool_resize() */
    if (sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) >= sp_pool_max_size(pool)) {
        pthread_mutex_lock(&pool->lock);
        sp_pool_keep_max_size(pool);
        pthread_mutex_unlock(&pool->lock);
        sp_pool_kick(pool);
    }
}

/*
 * Under the lock. The place of a used sandbox is recycled, or freed if the pool has no room for it. A waiter is served
 * before that: the entry that it takes makes room, and none is evicted in order to be replaced.
 */
static void free_place(sp_pool *pool, uint32_t index) {
    uint64_t lease = SP_LEDGER_IN_USE; /* 0 once it counts no longer */
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    /* The check and the taking of the place are one step, because unused leases come back without the lock. */
    for (;;) {
        if (sp_ledger_idle(ledger) + sp_ledger_recycling(ledger) < sp_pool_max_size(pool)) {
            if (atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger + SP_LEDGER_RECYCLING - lease)) {
                break;
            }
        } else if (lease != 0 && pool->waiters.head != NULL) {
            sp_ledger_add(pool, 0 - lease);
            lease = 0;
            sp_waiters_grant(pool);
            ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
        } else if (sp_pool_evict_oldest(pool, SP_EVICT_CAPACITY)) {
            ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
        } else if (atomic_compare_exchange_weak(&pool->ledger, &ledger, ledger - lease)) {
            sp_pool_count_eviction(pool, SP_EVICT_CAPACITY, NULL);
            sp_pool_free_slot(pool, index);
            return;
        }
    }
    sp_recycle_put(pool, index);
}

static int release_used(sp_pool *pool, int64_t handle) {
    uint64_t word;
    pthread_mutex_lock(&pool->lock);
    struct sp_slot *slot = sp_lease_slot(pool, handle, &word);
    bool closed = sp_ledger_closed(atomic_load(&pool->ledger));
    if (slot != NULL && !closed) {
        if ((word & SP_SLOT_BUSY) != 0) {
            sp_claim_orphan(pool, slot->claim, SP_E_RELEASED);
        } else {
            sp_pool_discard(pool, slot->session);
        }
        slot->session = NULL;
        sp_slot_recycle(slot);
        free_place(pool, (uint32_t)handle & SP_COUNT_MAX);
        sp_waiters_grant(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    if (slot == NULL || closed) {
        return SP_E_RELEASED;
    }
    sp_pool_kick(pool);
    return SP_OK;
}

int sp_release(sp_pool *pool, int64_t handle) {
    uint64_t word;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    struct sp_slot *slot = sp_lease_slot(pool, handle, &word);
    if (slot == NULL) {
        return SP_E_RELEASED;
    }
    if ((word & (SP_SLOT_USED | SP_SLOT_SHARED | SP_SLOT_BUSY | SP_SLOT_DEAD)) != 0) {
        return release_used(pool, handle);
    }
    if (!sp_slot_give_back(slot, word)) {
        return sp_release(pool, handle); /* it was claimed or released meanwhile: look again */
    }
    give_back(pool, (uint32_t)handle & SP_COUNT_MAX);
    /* seq_cst, after the ledger: see sp_acquire(). drain() sets its flag in the ledger and then reads it, so it misses
     * no lease that ends. */
    if (atomic_load(&pool->waiting) != 0 || sp_ledger_draining(atomic_load(&pool->ledger))) {
        pthread_mutex_lock(&pool->lock);
        sp_waiters_grant(pool);
        pthread_mutex_unlock(&pool->lock);
    }
    return SP_OK;
}

int sp_idle_len(sp_pool *pool) {
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    uint64_t ledger = atomic_load_explicit(&pool->ledger, memory_order_relaxed);
    if (sp_ledger_closed(ledger)) {
        return SP_E_CLOSED;
    }
    return (int)(sp_ledger_idle(ledger) + sp_ledger_recycling(ledger));
}

/* The lease's session; NULL, with the reason in *code. Under the lock. */
static struct sp_session *find_session(sp_pool *pool, int64_t handle, int *code) {
    uint64_t word;
    bool closed = sp_ledger_closed(atomic_load(&pool->ledger));
    struct sp_slot *slot = sp_lease_slot(pool, handle, &word);
    *code = closed ? SP_E_CLOSED : slot == NULL ? SP_E_RELEASED : SP_E_LOST;
    return slot != NULL && !closed ? slot->session : NULL;
}

struct sp_session *sp_lease_share(sp_pool *pool, int64_t handle, int *code) {
    uint64_t word;
    pthread_mutex_lock(&pool->lock);
    struct sp_session *session = find_session(pool, handle, code);
    struct sp_slot *slot = sp_lease_slot(pool, handle, &word);
    /* Giving an unused lease back does not take the lock, so the word may change, and the lease may be over. */
    while (session != NULL && (slot == NULL || !sp_slot_share(slot, word))) {
        session = find_session(pool, handle, code);
        slot = sp_lease_slot(pool, handle, &word);
    }
    if (session != NULL) {
        atomic_fetch_add_explicit(&session->refs, 1, memory_order_relaxed); /* the lock orders it */
        *code = SP_OK;
    }
    pthread_mutex_unlock(&pool->lock);
    return session;
}

bool sp_lease_is_out_of_memory(sp_pool *pool, int64_t handle) {
    uint64_t word;
    return sp_lease_slot(pool, handle, &word) != NULL && (word & SP_SLOT_OOM) != 0;
}

int sp_lease_is_unused(sp_pool *pool, int64_t handle) {
    uint64_t word;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    return sp_lease_slot(pool, handle, &word) != NULL && (word & (SP_SLOT_USED | SP_SLOT_SHARED)) == 0;
}

int64_t sp_lease_pid(sp_pool *pool, int64_t handle) {
    int code;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    pthread_mutex_lock(&pool->lock);
    const struct sp_session *session = find_session(pool, handle, &code);
    int64_t pid = session != NULL ? session->pid : code;
    pthread_mutex_unlock(&pool->lock);
    return pid;
}

int sp_lease_isolation(sp_pool *pool, int64_t handle, sp_isolation *isolation) {
    int code;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    pthread_mutex_lock(&pool->lock);
    const struct sp_session *session = find_session(pool, handle, &code);
    if (session != NULL) {
        *isolation = session->isolation;
        code = SP_OK;
    }
    pthread_mutex_unlock(&pool->lock);
    return code;
}
