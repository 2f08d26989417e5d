/* Compares tables of verdicts with the files of tests/native/golden/, or writes those files. */
#ifndef SANDPOOL_TESTS_GOLDEN_H
#define SANDPOOL_TESTS_GOLDEN_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "seccomp_sim.h"

static inline const char *word(uint32_t verdict) {
    switch (verdict) {
    case SECCOMP_RET_ALLOW:
        return "allow";
    case SECCOMP_RET_KILL_PROCESS:
        return "kill";
    case ERRNO(0):
        return "nothing, as if done";
    case ERRNO(EPERM):
        return "EPERM";
    case ERRNO(EIO):
        return "EIO";
    case ERRNO(EINVAL):
        return "EINVAL";
    case ERRNO(ENOTTY):
        return "ENOTTY";
    case ERRNO(ENOSYS):
        return "ENOSYS";
    case ERRNO(ENOPROTOOPT):
        return "ENOPROTOOPT";
    case ERRNO(EOPNOTSUPP):
        return "EOPNOTSUPP";
    case ERRNO(EAFNOSUPPORT):
        return "EAFNOSUPPORT";
    default:
        return "?";
    }
}

/* `name` is a file of tests/native/golden; `source` is the __FILE__ of the test. */
static inline void compare_golden(const char *source, const char *name, const char *text, bool update) {
    char path[512];
    int dir = (int)(strrchr(source, '/') != NULL ? strrchr(source, '/') - source : 0);
    snprintf(path, sizeof path, "%.*s/../golden/%s", dir, source, name);
    FILE *golden = fopen(path, update ? "w" : "r");
    if (golden == NULL) {
        printf("%s: %s\n", path, strerror(errno));
        CHECK(golden != NULL);
        return;
    }
    if (update) {
        fwrite(text, 1, strlen(text), golden);
    } else {
        char line[160];
        const char *at = text;
        while (fgets(line, sizeof line, golden) != NULL && strncmp(at, line, strlen(line)) == 0) {
            at += strlen(line);
        }
        if (*at != '\0' || !feof(golden)) {
            printf("%s differs at: %.*s\n", path, (int)strcspn(at, "\n"), at);
        }
        CHECK(*at == '\0' && feof(golden));
    }
    fclose(golden);
}

#endif
