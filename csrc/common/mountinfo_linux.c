#include "common/mountinfo.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Blanks and some other characters of a path are written as octal escapes. Returns the end of the field, or NULL when
 * the path does not fit. */
static const char *unescape(const char *at, char *path, size_t size) {
    size_t len = 0;
    while (*at != '\0' && *at != ' ') {
        bool escaped = at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' && at[3] >= '0' &&
                       at[3] <= '7';
        if (len == size - 1) {
            return NULL;
        }
        path[len++] = escaped ? (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0')) : *at;
        at += escaped ? 4 : 1;
    }
    path[len] = '\0';
    return at;
}

bool sp_mountinfo_parse(const char *line, struct sp_mountinfo *mount) {
    mount->id = (int)strtol(line, NULL, 10);
    for (int field = 0; field < 4 && line != NULL; field++) {
        line = strchr(line, ' ');
        line = line != NULL ? line + 1 : NULL;
    }
    const char *end = line != NULL ? unescape(line, mount->point, sizeof mount->point) : NULL;
    if (end == NULL || *end != ' ' || mount->point[0] != '/') {
        return false;
    }
    mount->options = end + 1;
    return strchr(mount->options, ' ') != NULL;
}

bool sp_mountinfo_has(const struct sp_mountinfo *mount, const char *option) {
    const size_t len = strlen(option);
    for (const char *at = mount->options;; at++) {
        if (strncmp(at, option, len) == 0 && (at[len] == ',' || at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
        at += strcspn(at, ", ");
        if (*at != ',') {
            return false;
        }
    }
}
