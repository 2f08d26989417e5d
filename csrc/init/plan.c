#include "init/plan.h"

#include <string.h>

bool sp_path_is_below(const char *path, const char *dir) {
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
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
