/*
 * A table of files that hold memory which no process shows: pipes, memfds, sockets. Device and inode identify a file,
 * so that one that two processes hold counts once. A file that a pass has seen stays in the table for a while: a tenant
 * can pass descriptors between processes faster than a pass can follow, but it cannot avoid for long that one sees
 * them.
 */
#ifndef SANDPOOL_INIT_TALLY_H
#define SANDPOOL_INIT_TALLY_H

#include <stdint.h>
#include <sys/stat.h>

#include "common/clock.h"

#define SP_TALLY_FILES 4096 /* a power of two; a file for which there is no place counts each time it is seen */
#define SP_TALLY_KEPT_NS SP_MS(250)

enum sp_tally_kind { SP_TALLY_PIPE, SP_TALLY_SOCKET, SP_TALLY_MEMFD, SP_TALLY_KINDS };

/* To be zeroed before the first pass. */
struct sp_tally {
    struct {
        uint64_t key;  /* 0: never used */
        uint32_t kind; /* enum sp_tally_kind */
        uint32_t pages;
        int64_t seen; /* when it was last seen */
    } files[SP_TALLY_FILES];
    uint64_t
        untracked[SP_TALLY_KINDS]; /* files without a place, in this pass: of memfds the pages, of others the number */
};

/* The files of one kind: `present` were seen by the pass, `gone` shortly before it and not again. */
struct sp_tally_sum {
    uint64_t present, gone; /* pages */
    unsigned n_present, n_gone;
};

void sp_tally_begin_pass(struct sp_tally *tally);
void sp_tally_add(struct sp_tally *tally, enum sp_tally_kind kind, const struct stat *st, int64_t now);
/* `began`: when the pass began. */
void sp_tally_sum(const struct sp_tally *tally, int64_t began, int64_t now, struct sp_tally_sum sums[SP_TALLY_KINDS]);

#endif
