#include "host/execute/failure.h"

#include <errno.h>
#include <stdbool.h>

#include "common/stage.h"
#include "host/sandbox/launch.h"

static bool is_not_found(const struct sp_rec_failed *why) {
    switch (why->err) {
    case ENOENT:
    case EACCES:
    case ENOEXEC:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return why->stage == SP_STAGE_EXEC;
    default:
        return false;
    }
}

int sp_error_of_command(sp_error *error, const struct sp_rec_failed *why) {
    return sp_error_set(error, is_not_found(why) ? SP_E_NOT_FOUND : SP_E_EXEC, why->stage, (int)why->err, why->detail);
}
