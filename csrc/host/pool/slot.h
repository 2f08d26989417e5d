/* A slot is the place of one sandbox in a pool. slot.c has the table of its states, and every write of its word. */
#ifndef SANDPOOL_HOST_POOL_SLOT_H
#define SANDPOOL_HOST_POOL_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sp_session;

enum sp_slot_state { SP_SLOT_EMPTY, SP_SLOT_STARTING, SP_SLOT_IDLE, SP_SLOT_LEASED, SP_SLOT_RECYCLING };

/* A slot's word: {generation:48, flags:12, state:4}. The generation rises with every lease, so old handles fail. */
#define SP_SLOT_STATE UINT64_C(0xf)
#define SP_SLOT_USED UINT64_C(0x10)    /* a command may have run: never lease it to another */
#define SP_SLOT_BUSY UINT64_C(0x20)    /* a job runs on it */
#define SP_SLOT_LOST UINT64_C(0x40)    /* its sandbox died with a command that may have run */
#define SP_SLOT_DEAD UINT64_C(0x80)    /* its sandbox died by itself; an unused lease may still have another */
#define SP_SLOT_SHARED UINT64_C(0x100) /* a process or a file call may have used it: like USED, and never cleared */
#define SP_SLOT_OOM UINT64_C(0x200)    /* with LOST: the memory limit ended the sandbox */
#define SP_SLOT_GENERATION_SHIFT 16

/* A handle: {generation, slot index}, always >= 1 << SP_HANDLE_SHIFT. */
#define SP_HANDLE_SHIFT 14

#define SP_NO_SLOT UINT32_MAX

/*
 * The claim of a job on the lease that it runs on, embedded in the job: it is all that the pool knows of a job. When
 * the lease ends before the job does, the claim becomes an orphan: it then owns the session, which nobody else has.
 */
struct sp_claim {
    struct sp_session *session; /* the slot's, borrowed; an orphan's own. Changed under the lock */
    atomic_int orphan;          /* 0, or the code with which release() or close() ended the lease */
    struct sp_claim *next;      /* in the pool's list of orphans to kill; under the lock, as the next two */
    bool queued_for_kill;
    bool being_killed; /* outside the lock: the session has to stay */
};

struct sp_slot {
    _Atomic uint64_t word;
    struct sp_session *session; /* owned by the slot's current owner; NULL when LOST or taken over by a job */
    struct sp_claim *claim;     /* while BUSY; under the lock */
    _Atomic int64_t ready_at;   /* when it became idle; written before the push, also peeked at by the janitor */
    int64_t released_at;        /* of RECYCLING; under the lock */
    uint32_t next;              /* in the free list or the recycle queue; under the lock */
};

static inline int64_t sp_slot_handle(uint64_t word, uint32_t index) {
    return (int64_t)((word >> SP_SLOT_GENERATION_SHIFT) << SP_HANDLE_SHIFT | index);
}

static inline unsigned sp_slot_state_of(uint64_t word) { return (unsigned)(word & SP_SLOT_STATE); }

/* ---- the transitions: see the table in slot.c ---- */
void sp_slot_take(struct sp_slot *slot);
void sp_slot_make_idle(struct sp_slot *slot);
/* The handle of the lease; `index` is the slot's. */
int64_t sp_slot_lease(struct sp_slot *slot, uint32_t index);
/* False: the word is no longer `word`. */
bool sp_slot_give_back(struct sp_slot *slot, uint64_t word);
bool sp_slot_claim(struct sp_slot *slot, uint64_t word);
/* False: the word is no longer `word`. */
bool sp_slot_share(struct sp_slot *slot, uint64_t word);
/* `drop`: flags to clear besides BUSY; `add`: flags to set. */
void sp_slot_unclaim(struct sp_slot *slot, uint64_t drop, uint64_t add);
/* The state after it: LEASED when the slot was marked. */
enum sp_slot_state sp_slot_mark_dead(struct sp_slot *slot);
void sp_slot_replace(struct sp_slot *slot);
void sp_slot_recycle(struct sp_slot *slot);
/* The word before it; its state is LEASED if there was a lease to be ended. */
uint64_t sp_slot_end_lease(struct sp_slot *slot);
void sp_slot_clear(struct sp_slot *slot);

#endif
