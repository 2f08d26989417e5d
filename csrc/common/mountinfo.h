/* The lines of /proc/self/mountinfo, see proc_pid_mountinfo(5). Linux only: mountinfo_linux.c. */
#ifndef SANDPOOL_COMMON_MOUNTINFO_H
#define SANDPOOL_COMMON_MOUNTINFO_H

#include <limits.h>
#include <stdbool.h>

struct sp_mountinfo {
    int id;
    const char *options; /* of this mount, not of its file system; they end at a blank */
    char point[PATH_MAX];
};

/* False for a line that is cut before its options end, or whose mount point does not fit. `options` points into it. */
bool sp_mountinfo_parse(const char *line, struct sp_mountinfo *mount);
/* Whether the options have this one, such as "ro". */
bool sp_mountinfo_has(const struct sp_mountinfo *mount, const char *option);

#endif
