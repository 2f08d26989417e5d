/*
 * What the host's paths of a configuration lead to. The template of a zygote has each of them bound, and the kernel
 * goes on showing the same files when the host renames others into their places. So the launcher looks at every birth
 * and at the first command of a lease. If a path leads elsewhere by then, the zygote binds it anew: see rebind.h.
 */
#ifndef SANDPOOL_HOST_LINUX_PATHS_H
#define SANDPOOL_HOST_LINUX_PATHS_H

#include <stdbool.h>
#include <stdint.h>

#include "sandpool.h"

/* A bind of the configuration, covers left out. */
struct sp_path {
    const char *path;   /* inside */
    const char *source; /* on the host */
    uint32_t index;     /* in the options, and in CONFIG */
    int64_t parent;     /* in this list: the innermost one that contains the path; -1: none */
    int64_t within;     /* the innermost one whose source contains this source; -1: none */
    bool writable;
    bool listed; /* it is looked at: see is_listed() */
};

/* One look. Two looks are equal if nothing has changed in between. */
struct sp_look {
    uint64_t total;  /* of all that follows; 0: none yet, or a path does not exist */
    uint64_t mounts; /* what is mounted on the paths and below them */
    uint64_t rootfs;
    struct sp_found {
        uint64_t digest; /* 0: not known */
        uint64_t device, inode;
    } found[]; /* of each path */
};

struct sp_paths {
    struct sp_mounts *mounts;
    const char *rootfs; /* NULL: none */
    uint32_t n;
    struct sp_path *paths;
    char *text;
};

/* 0 or -ENOMEM. *made becomes NULL if the options name no path of the host. */
int sp_paths_make(const sp_sandbox_options *options, struct sp_paths **made);
void sp_paths_free(struct sp_paths *paths);
/* Room for a look, all zeros; NULL on ENOMEM. The caller frees it. */
struct sp_look *sp_look_new(const struct sp_paths *paths);
void sp_look_copy(const struct sp_paths *paths, struct sp_look *to, const struct sp_look *from);
/*
 * Returns look->total, a number that changes when a path leads to another file or directory, when its owner changes,
 * and when something is mounted or unmounted on it or below it. 0: a path does not exist; *error then says which one.
 * `look` may be NULL. Any thread. One statx(2) for each path, and a poll(2); after a change of the host's mounts, all
 * of them are read.
 */
uint64_t sp_paths_look(struct sp_paths *paths, struct sp_look *look, sp_error *error);

#endif
