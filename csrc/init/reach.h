/*
 * How much shared memory a process's mappings reach. What was touched and then unmapped, or touched by a process that
 * is gone, is in no figure of a process, but stays as long as some mapping reaches it.
 */
#ifndef SANDPOOL_INIT_REACH_H
#define SANDPOOL_INIT_REACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "init/budget.h"

#define SP_REACH_FILES 512 /* a power of two; further ones count anew in every process */

#define SP_REACH_LINES 65536 /* so many mappings in all processes are too many to be looked through */

/* Zeroed before the first process. */
struct sp_reach {
    uint64_t bytes;
    unsigned lines;
    struct {
        uint64_t inode, end; /* inode 0: free */
    } files[SP_REACH_FILES];
};

/*
 * Adds the shared mappings of the process behind `dir` of files on the device `dev`. False when they cannot be looked
 * through: there are too many, the budget is spent, or one has a name that no path can have. (The kernel keeps the text
 * of a line as long as somebody has the file open, and below thousands of directories a name has megabytes.)
 */
bool sp_reach_add(struct sp_reach *reach, int dir, dev_t dev, const struct sp_budget *budget);

#endif
