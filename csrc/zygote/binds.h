/* What binds.c uses: where the binds come from, and the search for set-id files in them. */
#ifndef SANDPOOL_ZYGOTE_BINDS_H
#define SANDPOOL_ZYGOTE_BINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "init/plan.h"

/* ---- source.c ---- */
/* An O_PATH descriptor of what the host has at the bind's source, if that may be shown; or -errno. `base`: where the
 * host's tree is mounted, "" for "/". */
int sp_source_open(const struct sp_plan *plan, const struct sp_plan_bind *bind, const char *base);
/* The same as a detached tree. */
int sp_source_clone(const struct sp_plan *plan, const struct sp_plan_bind *bind, const char *base);
/* The same, resolved in the host's mounts, as they are now, once the template has become the root. */
int sp_source_clone_outside(const struct sp_plan *plan, const struct sp_plan_bind *bind);
/* Keeps the mount namespace in which the host's tree is visible, and leaves it for a copy. Without it (a filter of the
 * host may refuse the calls) no path can be bound anew, and no workspace attached. */
void sp_outside_keep(void);
/* The descriptor of that namespace, which belongs to source.c; -1: there is none. */
int sp_outside(void);
/* For the program that the zygote has become. */
void sp_outside_take_over(int fd);

/* ---- binds.c: what it knows once the template has become the root, for the program that the zygote becomes ---- */
struct sp_binds_known {
    bool attached[SP_BINDS_MAX];
    struct sp_rec_failed last_failure;
};
void sp_binds_tell(struct sp_binds_known *known);
void sp_binds_take_over(const struct sp_binds_known *known);

/* ---- search.c ---- */
#define SP_SEARCH_SKIPS 64

/* A search of a writable tree for files that give rights to whoever runs them. All zeros before the first use. */
struct sp_search {
    struct {
        uint64_t device, inode;
    } skipped[SP_SEARCH_SKIPS];
    size_t n_skipped;
    uint64_t device; /* of the directory that was looked at last */
    unsigned entries;
    unsigned depth;
    bool is_short; /* it gives up with -EOVERFLOW where it would take long, or a large stack */
};

/* Leaves out the directory or file that is open as `fd`. 0 or -errno. */
int sp_search_skip(struct sp_search *search, int fd);
/*
 * Mounts each set-id file and each file with capabilities below `root`, a mounted directory, read-only over itself; a
 * directory that cannot be searched is covered as a whole. The reasons are in pysandpool/_backend/setid.py. The current
 * directory is "/" afterwards. 0 or -errno; after a failure some may be covered.
 */
int sp_search_and_cover(struct sp_search *search, int root);

#endif
