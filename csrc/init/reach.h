/*
 * Adds up how much shared memory the mappings of processes can reach. Pages that a process has touched and then
 * unmapped, or that a dead process has touched, are in no figure of a process, but exist as long as some mapping
 * reaches them.
 */
#ifndef SANDPOOL_INIT_REACH_H
#define SANDPOOL_INIT_REACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "init/budget.h"

#define SP_REACH_FILES 512 /* a power of two; further files count again for every process */

#define SP_REACH_LINES 65536 /* so many mappings in all processes are too many to examine */

/* To be zeroed before the first process. */
struct sp_reach {
    uint64_t bytes;
    unsigned lines;
    struct {
        uint64_t inode, end; /* inode 0: free */
    } files[SP_REACH_FILES];
};

/*
 * Adds the shared mappings of files on the device `dev` in the process of the /proc directory `dir`. False when they
 * cannot all be examined: there are too many, the budget is spent, or a line is longer than any path. (Below thousands
 * of nested directories a name has megabytes, and the kernel keeps the text of a line as long as the file is open.)
 */
bool sp_reach_add(struct sp_reach *reach, int dir, dev_t dev, const struct sp_budget *budget);

#endif
