/*
 * How much shared memory a process's mappings reach. What was touched and then unmapped, or touched by a process that
 * is gone, is in no figure of a process, but stays as long as some mapping reaches it.
 */
#ifndef SANDPOOL_INIT_REACH_H
#define SANDPOOL_INIT_REACH_H

#include <stdint.h>
#include <sys/types.h>

#define SP_REACH_FILES 512 /* a power of two; further ones count anew in every process */

#define SP_REACH_LINES 65536 /* of mappings are read in all: what lies behind them is not known */

/* Zeroed before the first process. */
struct sp_reach {
    uint64_t bytes;
    unsigned lines;
    struct {
        uint64_t inode, end; /* inode 0: free */
    } files[SP_REACH_FILES];
};

/* Adds the shared mappings of the process behind `dir` of files on the device `dev`. */
void sp_reach_add(struct sp_reach *reach, int dir, dev_t dev);

#endif
