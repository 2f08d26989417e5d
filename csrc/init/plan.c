#include "init/plan.h"

#include <string.h>

bool sp_plan_next_bind(const struct sp_plan *plan, const char **cursor, struct sp_plan_bind *bind) {
    bool first = *cursor == plan->binds;
    const char *text = sp_strings_next(cursor, plan->binds_end);
    if (text == NULL) {
        return false;
    }
    bind->index = first ? 0 : bind->index + 1;
    bind->writable = text[0] == 'w';
    bind->path = text + 1;
    bind->staged = strncmp(bind->path, "/tmp/", 5) == 0;
    return true;
}

int sp_failed(struct sp_rec_failed *why, uint32_t stage, int err, const char *detail) {
    memset(why, 0, sizeof *why);
    why->stage = stage;
    why->err = (uint32_t)err;
    if (detail != NULL) {
        size_t len = strnlen(detail, SP_DETAIL_SIZE - 1);
        memcpy(why->detail, detail, len);
    }
    return -err;
}
