#include "init/plan.h"

#include <errno.h>

bool sp_may_leave_out(const struct sp_plan *plan, int err) {
    /* ENOSPC: the limit user.max_*_namespaces of this kind is used up, or 0. */
    bool refused = err == EPERM || err == EACCES || err == EINVAL || err == ENOSYS || err == ENOSPC || err == ENODEV;
    return (plan->config.flags & SP_CONFIG_DEGRADE) != 0 && refused;
}
