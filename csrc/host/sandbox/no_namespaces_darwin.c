/* macOS has no namespaces, so it has no launcher with a zygote. The launcher of host/agent is used there. */
#include <errno.h>

#include "host/sandbox/launch.h"

sp_launcher *sp_launcher_open(const sp_sandbox_options *options, sp_error *error) {
    (void)options;
    (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, ENOTSUP, "no namespaces on this system");
    return NULL;
}
