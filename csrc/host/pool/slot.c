/*
 * The states of a slot. Every write of a slot's word is one of these transitions:
 *
 *   event      from                       to                       by whom
 *   ---------  -------------------------  -----------------------  ---------------------------------------------
 *   take       EMPTY                      STARTING                 under the lock, for a sandbox in the making
 *   make_idle  STARTING, RECYCLING        IDLE                     under the lock, before the push to the ring
 *   lease      IDLE, STARTING, RECYCLING  LEASED, next generation  its only owner, who took, made or was handed it
 *   give_back  LEASED without flags       IDLE                     the lease's holder, without the lock
 *   claim      LEASED                     LEASED + BUSY + USED     a job, under the lock
 *   share      LEASED                     LEASED + SHARED          a process or a file call, under the lock
 *   unclaim    LEASED + BUSY              LEASED, perhaps + LOST   the job, under the lock; - USED if nothing ran
 *   mark_dead  LEASED                     LEASED + DEAD            the janitor, under the lock
 *   replace    LEASED + DEAD              LEASED                   the job of an unused lease, under the lock
 *   recycle    LEASED with a flag         RECYCLING                release(), under the lock
 *   end_lease  LEASED                     EMPTY                    close(), under the lock
 *   clear      any but LEASED             EMPTY                    its only owner, under the lock
 *
 * give_back is the only one that does not take the lock. So a holder of the lock changes a leased slot's word by CAS
 * where give_back may happen, and may store it where it cannot: while a flag is set.
 */
#include "host/pool/slot.h"

#include <assert.h>

static uint64_t generation_of(uint64_t word) { return (word >> SP_SLOT_GENERATION_SHIFT) << SP_SLOT_GENERATION_SHIFT; }

/* relaxed: the caller owns the slot, or holds the lock under which the word was last stored */
static uint64_t own_word(const struct sp_slot *slot) { return atomic_load_explicit(&slot->word, memory_order_relaxed); }

void sp_slot_take(struct sp_slot *slot) {
    uint64_t word = own_word(slot);
    assert(sp_slot_state_of(word) == SP_SLOT_EMPTY);
    atomic_store(&slot->word, generation_of(word) | SP_SLOT_STARTING);
}

void sp_slot_make_idle(struct sp_slot *slot) {
    uint64_t word = own_word(slot);
    assert(sp_slot_state_of(word) == SP_SLOT_STARTING || sp_slot_state_of(word) == SP_SLOT_RECYCLING);
    atomic_store(&slot->word, generation_of(word) | SP_SLOT_IDLE);
}

int64_t sp_slot_lease(struct sp_slot *slot, uint32_t index) {
    uint64_t word = own_word(slot);
    assert(sp_slot_state_of(word) != SP_SLOT_EMPTY && sp_slot_state_of(word) != SP_SLOT_LEASED);
    word = ((word >> SP_SLOT_GENERATION_SHIFT) + 1) << SP_SLOT_GENERATION_SHIFT | SP_SLOT_LEASED;
    /* release: pairs with sp_lease_slot() on whatever thread the handle is used */
    atomic_store_explicit(&slot->word, word, memory_order_release);
    return sp_slot_handle(word, index);
}

bool sp_slot_give_back(struct sp_slot *slot, uint64_t word) {
    uint64_t idle = (word & ~SP_SLOT_STATE) | SP_SLOT_IDLE;
    /* acq_rel: of two releases one wins; a job that claims at the same time loses or wins as a whole */
    return atomic_compare_exchange_strong_explicit(&slot->word, &word, idle, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

bool sp_slot_claim(struct sp_slot *slot, uint64_t word) {
    return atomic_compare_exchange_strong(&slot->word, &word, word | SP_SLOT_BUSY | SP_SLOT_USED);
}

bool sp_slot_share(struct sp_slot *slot, uint64_t word) {
    return atomic_compare_exchange_strong(&slot->word, &word, word | SP_SLOT_SHARED);
}

void sp_slot_unclaim(struct sp_slot *slot, uint64_t drop, uint64_t add) {
    atomic_fetch_or(&slot->word, add);
    /* BUSY goes last: until then nobody gives the slot back. */
    atomic_fetch_and(&slot->word, ~(SP_SLOT_BUSY | drop));
}

enum sp_slot_state sp_slot_mark_dead(struct sp_slot *slot) {
    uint64_t word = atomic_load(&slot->word);
    while (sp_slot_state_of(word) == SP_SLOT_LEASED &&
           !atomic_compare_exchange_weak(&slot->word, &word, word | SP_SLOT_DEAD)) {
    }
    return (enum sp_slot_state)sp_slot_state_of(word);
}

void sp_slot_replace(struct sp_slot *slot) { atomic_fetch_and(&slot->word, ~SP_SLOT_DEAD); }

void sp_slot_recycle(struct sp_slot *slot) {
    uint64_t word = own_word(slot);
    assert(sp_slot_state_of(word) == SP_SLOT_LEASED);
    atomic_store_explicit(&slot->word, generation_of(word) | SP_SLOT_RECYCLING, memory_order_release);
}

uint64_t sp_slot_end_lease(struct sp_slot *slot) {
    uint64_t word = atomic_load(&slot->word);
    while (sp_slot_state_of(word) == SP_SLOT_LEASED &&
           !atomic_compare_exchange_weak(&slot->word, &word, generation_of(word) | SP_SLOT_EMPTY)) {
    }
    return word;
}

void sp_slot_clear(struct sp_slot *slot) {
    uint64_t word = own_word(slot);
    assert(sp_slot_state_of(word) != SP_SLOT_LEASED);
    atomic_store(&slot->word, generation_of(word) | SP_SLOT_EMPTY);
}
