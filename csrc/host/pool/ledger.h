/*
 * The pool's counts in one word, so that every transition is one atomic step and every snapshot is consistent:
 *
 *   63      44 43       42     41     28 27        14 13     0
 *   | hits:20 | draining | closed | in_use | recycling | idle   |
 *
 * One lease more than in_use can hold would carry into `closed`: whoever raises it looks first.
 *
 * `idle` counts *permits*: an entry is pushed to the ring before its permit is added, and a permit is taken before an
 * entry is popped. So whoever holds a permit finds an entry in the ring. `hits` is folded into a wide counter, under
 * the pool's mutex, before it can overflow.
 */
#ifndef SANDPOOL_HOST_POOL_LEDGER_H
#define SANDPOOL_HOST_POOL_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#define SP_COUNT_MAX 16383u

#define SP_LEDGER_IDLE (UINT64_C(1) << 0)
#define SP_LEDGER_RECYCLING (UINT64_C(1) << 14)
#define SP_LEDGER_IN_USE (UINT64_C(1) << 28)
#define SP_LEDGER_CLOSED (UINT64_C(1) << 42)
#define SP_LEDGER_DRAINING (UINT64_C(1) << 43) /* no new leases for the time being, see drain.c */
#define SP_LEDGER_HIT (UINT64_C(1) << 44)

static inline uint32_t sp_ledger_idle(uint64_t l) { return (uint32_t)(l & SP_COUNT_MAX); }
static inline uint32_t sp_ledger_recycling(uint64_t l) { return (uint32_t)(l >> 14 & SP_COUNT_MAX); }
static inline uint32_t sp_ledger_in_use(uint64_t l) { return (uint32_t)(l >> 28 & SP_COUNT_MAX); }
static inline bool sp_ledger_closed(uint64_t l) { return (l & SP_LEDGER_CLOSED) != 0; }
static inline bool sp_ledger_draining(uint64_t l) { return (l & SP_LEDGER_DRAINING) != 0; }
static inline uint64_t sp_ledger_hits(uint64_t l) { return l >> 44; }
/* Half of the field: the fast path then leaves the folding to one that holds the mutex. */
static inline bool sp_ledger_must_fold(uint64_t l) { return (l >> 63) != 0; }

#endif
