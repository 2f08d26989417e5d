/* sources: csrc/common/mountinfo_linux.c */
/* A line of mountinfo: its fields are those that a split at the blanks finds, with the escapes of the path undone. */
#include "common/mountinfo.h"
#include "fuzz.h"

static bool is_octal(const char *at, unsigned digits) {
    for (unsigned i = 0; i < digits; i++) {
        if (at[i] < '0' || at[i] > (i == 0 ? '3' : '7')) {
            return false;
        }
    }
    return true;
}

static void check_point(const char *field, const char *point) {
    for (; *field != '\0'; point++) {
        const bool escaped = *field == '\\' && is_octal(field + 1, 3);
        const int code = escaped ? (field[1] - '0') * 64 + (field[2] - '0') * 8 + field[3] - '0' : *field;
        MUST(*point == (char)code);
        if (code == 0) {
            return; /* the kernel writes no such escape */
        }
        field += escaped ? 4 : 1;
    }
    MUST(*point == '\0');
}

static void check_option(const struct sp_mountinfo *mount, const char *options, const char *option) {
    char *copy = strdup(options);
    char *rest = copy;
    bool found = false;
    for (char *one = strsep(&rest, ","); one != NULL; one = strsep(&rest, ",")) {
        found = found || strcmp(one, option) == 0;
    }
    free(copy);
    MUST(sp_mountinfo_has(mount, option) == found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sp_mountinfo mount;
    char *line = strndup((const char *)data, size);
    char *copy = strdup(line);
    char *rest = copy;
    char *fields[7] = {NULL};
    unsigned n = 0;
    while (n < 7 && rest != NULL) {
        fields[n++] = strsep(&rest, " ");
    }
    const bool whole = n == 7 && (fields[4][0] == '/' || strncmp(fields[4], "\\057", 4) == 0);
    MUST(sp_mountinfo_parse(line, &mount) == whole);
    if (whole) {
        static const char *const options[] = {"ro", "nosuid", "nodev", "noexec", "r"};
        MUST(fields[0][0] < '0' || fields[0][0] > '9' || mount.id == (int)strtol(fields[0], NULL, 10));
        check_point(fields[4], mount.point);
        for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
            check_option(&mount, fields[5], options[i]);
        }
    }
    free(copy);
    free(line);
    return 0;
}
