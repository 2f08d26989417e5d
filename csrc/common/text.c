#include "common/text.h"

#include <stddef.h>
#include <string.h>

char *sp_append(char *at, const char *end, const char *text) {
    size_t len = strlen(text);
    if (at == NULL || (size_t)(end - at) <= len) {
        return NULL;
    }
    memcpy(at, text, len + 1);
    return at + len;
}

char *sp_append_number(char *at, const char *end, uint64_t value) {
    char digits[24];
    char *d = digits + sizeof digits - 1;
    *d = '\0';
    do {
        *--d = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return sp_append(at, end, d);
}

bool sp_path_is_below(const char *path, const char *dir) {
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}
