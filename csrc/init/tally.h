/*
 * Files that hold memory which no process shows: pipes, memfds, sockets. Told apart by device and inode, so that what
 * two processes hold counts once. What a pass has seen stays known for a while: a tenant can hand descriptors from
 * process to process faster than anybody can look, but not for long without being seen with them.
 */
#ifndef SANDPOOL_INIT_TALLY_H
#define SANDPOOL_INIT_TALLY_H

#include <stdint.h>
#include <sys/stat.h>

#include "common/clock.h"

#define SP_TALLY_FILES 4096 /* a power of two; what finds no place counts anew each time it is seen */
#define SP_TALLY_KEPT_NS SP_MS(250)

enum sp_tally_kind { SP_TALLY_PIPE, SP_TALLY_SOCKET, SP_TALLY_MEMFD, SP_TALLY_KINDS };

/* Zeroed before the first pass. */
struct sp_tally {
    struct {
        uint64_t key;  /* 0: never used */
        uint32_t kind; /* enum sp_tally_kind */
        uint32_t pages;
        int64_t seen; /* when */
    } files[SP_TALLY_FILES];
    uint64_t untracked[SP_TALLY_KINDS]; /* pages of those that found no place, in this pass */
};

/* Of one kind: what the pass has seen, and what was seen shortly before it and not again; in pages. */
struct sp_tally_sum {
    uint64_t present, gone;
    unsigned n_present, n_gone;
};

void sp_tally_begin_pass(struct sp_tally *tally);
void sp_tally_add(struct sp_tally *tally, enum sp_tally_kind kind, const struct stat *st, int64_t now);
/* `began`: when the pass did. */
void sp_tally_sum(const struct sp_tally *tally, int64_t began, int64_t now, struct sp_tally_sum sums[SP_TALLY_KINDS]);

#endif
