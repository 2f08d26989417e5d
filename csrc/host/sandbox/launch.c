/* The two counts of a launcher (references keep its memory, pools keep its process), and what it is asked. */
#include "host/sandbox/launch.h"

void sp_launcher_ref(sp_launcher *launcher) {
    /* relaxed: whoever gives us a launcher holds a reference already */
    atomic_fetch_add_explicit(&launcher->refs, 1, memory_order_relaxed);
}

void sp_launcher_unref(sp_launcher *launcher) {
    /* acq_rel: what other owners did with it comes before its end, which is by the last of them */
    if (launcher != NULL && atomic_fetch_sub_explicit(&launcher->refs, 1, memory_order_acq_rel) == 1) {
        struct sp_session *left = NULL;
        sp_dying_forget(launcher, &left);
        launcher->ops->free(launcher);
    }
}

void sp_launcher_enter(sp_launcher *launcher) {
    sp_launcher_ref(launcher);
    atomic_fetch_add_explicit(&launcher->pools, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&launcher->lookers, 1, memory_order_relaxed);
}

void sp_launcher_leave(sp_launcher *launcher, int64_t deadline) {
    /* acq_rel: as in unref, for the process instead of the memory */
    if (atomic_fetch_sub_explicit(&launcher->pools, 1, memory_order_acq_rel) == 1) {
        launcher->ops->shutdown(launcher, deadline);
    }
}

int64_t sp_launcher_pid(sp_launcher *launcher) { return launcher->ops->pid != NULL ? launcher->ops->pid(launcher) : 0; }

uint32_t sp_launcher_cgroup(sp_launcher *launcher) {
    return launcher->ops->cgroup != NULL ? launcher->ops->cgroup(launcher) : 0;
}
