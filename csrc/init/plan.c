#include "init/plan.h"

#include <errno.h>
#include <string.h>

bool sp_path_is_below(const char *path, const char *dir) {
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

bool sp_may_leave_out(const struct sp_plan *plan, int err) {
    /* ENOSPC: the limit user.max_*_namespaces of this kind is used up, or 0. */
    bool refused = err == EPERM || err == EACCES || err == EINVAL || err == ENOSYS || err == ENOSPC || err == ENODEV;
    return (plan->config.flags & SP_CONFIG_DEGRADE) != 0 && refused;
}
