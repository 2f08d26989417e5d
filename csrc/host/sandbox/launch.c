/* The two counts of a launcher (references keep its memory, pools keep its process), and the calls that query it. */
#include "host/sandbox/launch.h"

void sp_launcher_ref(sp_launcher *launcher) {
    /* relaxed: the caller already holds a reference */
    atomic_fetch_add_explicit(&launcher->refs, 1, memory_order_relaxed);
}

void sp_launcher_unref(sp_launcher *launcher) {
    /* acq_rel: everything that the other owners did with the launcher happens before the last owner frees it */
    if (launcher != NULL && atomic_fetch_sub_explicit(&launcher->refs, 1, memory_order_acq_rel) == 1) {
        struct sp_session *left = NULL;
        sp_dying_drop(launcher, &left);
        launcher->ops->free(launcher);
    }
}

void sp_launcher_enter(sp_launcher *launcher) {
    sp_launcher_ref(launcher);
    atomic_fetch_add_explicit(&launcher->pools, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&launcher->checkers, 1, memory_order_relaxed);
}

void sp_launcher_leave(sp_launcher *launcher, int64_t deadline) {
    /* acq_rel: as in sp_launcher_unref(), for the process instead of the memory */
    if (atomic_fetch_sub_explicit(&launcher->pools, 1, memory_order_acq_rel) == 1) {
        launcher->ops->shutdown(launcher, deadline);
    }
}

int64_t sp_launcher_pid(sp_launcher *launcher) { return launcher->ops->pid != NULL ? launcher->ops->pid(launcher) : 0; }

size_t sp_launcher_diagnostics(sp_launcher *launcher, char *into, size_t size) {
    return launcher->ops->diagnostics != NULL ? launcher->ops->diagnostics(launcher, into, size) : 0;
}

uint32_t sp_launcher_cgroup(sp_launcher *launcher) {
    return launcher->ops->cgroup != NULL ? launcher->ops->cgroup(launcher) : 0;
}
