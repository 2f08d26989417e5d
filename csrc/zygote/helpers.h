/*
 * Work of the zygote that is split among processes, so that other processors take part in it. A helper is a fork of the
 * zygote, in its namespaces, and does one part. For use before the filters, while the zygote has no other children.
 */
#ifndef SANDPOOL_ZYGOTE_HELPERS_H
#define SANDPOOL_ZYGOTE_HELPERS_H

#include <sys/types.h>

#include "common/wire.h"

#define SP_HELPERS_MAX 16

/* Starts as zeros. */
struct sp_helpers {
    pid_t pids[SP_HELPERS_MAX];
    struct sp_rec_failed *whys; /* shared with the helpers */
    unsigned n;
};

/* Has a helper do the work, or does it at once if there can be none. The work returns 0, or -errno and the reason. */
int sp_helpers_begin(struct sp_helpers *helpers, int (*work)(const void *arg, struct sp_rec_failed *why),
                     const void *arg, struct sp_rec_failed *why);
/* Waits for all of them. 0, or -errno and the reason of the first that has failed. */
int sp_helpers_end(struct sp_helpers *helpers, struct sp_rec_failed *why);

#endif
