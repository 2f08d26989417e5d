#include "host/linux/late.h"

#include <stdatomic.h>
#include <stddef.h>

/* Without a lock, which a fork of the application could leave locked for ever in the child. */
static _Atomic(struct sp_late *) first;

void sp_late_keep(struct sp_late *late) {
    late->next = atomic_load(&first);
    while (!atomic_compare_exchange_weak(&first, &late->next, late)) {
    }
}

void sp_late_reap(void) {
    struct sp_late *all = atomic_exchange(&first, NULL);
    while (all != NULL) {
        struct sp_late *late = all;
        all = late->next;
        if (!late->reap(late)) {
            sp_late_keep(late);
        }
    }
}
