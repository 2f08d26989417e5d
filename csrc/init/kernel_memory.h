/*
 * Memory that the kernel keeps for a tenant's processes in no page of theirs: file locks, epoll watches, mappings, the
 * buffers of open /proc files. No figure has it, and to count it takes init long; but all of it is slab, of which the
 * machine's sum is cheap. So it is counted when that has grown, and else once in a while: what somebody else has given
 * back may have made up for it.
 */
#ifndef SANDPOOL_INIT_KERNEL_MEMORY_H
#define SANDPOOL_INIT_KERNEL_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define SP_KERNEL_OBJECTS 8192 /* locks and epoll watches: nobody needs more, and each takes microseconds to count */

/* When to count. Zeroed before the first look. */
struct sp_kernel_watch {
    uint64_t slab; /* the machine's, at its lowest since the last count */
    int64_t counted, next;
};

/* What one count has found. */
struct sp_kernel_sum {
    unsigned objects;
    unsigned lists; /* open /proc/PID/fdinfo files: each may hold the text of all objects */
};

/* True when a count is due; `slack` is growth that is let pass. */
bool sp_kernel_is_due(struct sp_kernel_watch *watch, uint64_t slack);
/* To be called around a count. */
void sp_kernel_count_begins(struct sp_kernel_watch *watch);
void sp_kernel_count_ends(struct sp_kernel_watch *watch);

/* Adds what the descriptor `fd` of the process behind `dir` holds. */
void sp_kernel_add_file(struct sp_kernel_sum *sum, int dir, const char *fd, bool of_proc);
/* With so many mappings; UINT64_MAX / 2 when there is too much to be counted. */
uint64_t sp_kernel_bytes(const struct sp_kernel_sum *sum, unsigned mappings, unsigned mappings_max);

#endif
