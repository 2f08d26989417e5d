/* Errors as the C core returns them to its callers: a code, the stage that failed, its errno and a detail. */
#include <stdio.h>
#include <string.h>

#include "host/sandbox/launch.h"

int sp_error_set(sp_error *error, int code, uint32_t stage, int err, const char *detail) {
    memset(error, 0, sizeof *error);
    error->code = code;
    error->stage = (int32_t)stage;
    error->err = err;
    if (detail != NULL) {
        (void)snprintf(error->detail, sizeof error->detail, "%s", detail);
    }
    return code;
}

int sp_error_from(sp_error *error, const struct sp_rec_failed *why) {
    return sp_error_set(error, SP_E_CREATE, why->stage, (int)why->err, why->detail);
}

const char *sp_stage_name(int stage) {
    static const char *const names[] = {
#define X(name, word) word,
        SP_STAGES(X)
#undef X
    };
    return stage >= 0 && stage < SP_STAGE_COUNT ? names[stage] : "unknown";
}
