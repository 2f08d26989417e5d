/*
 * Memory figures of the whole machine. Reading them takes microseconds. The growth of a figure since an earlier reading
 * is an upper bound of what one sandbox has taken, unless other processes have freed memory in the meantime.
 */
#ifndef SANDPOOL_INIT_MACHINE_H
#define SANDPOOL_INIT_MACHINE_H

#include <stdint.h>

/* Bytes of shared memory: tmpfs, memfds, System V segments, shared anonymous mappings. */
uint64_t sp_machine_shared(void);
struct sp_machine_kernel {
    uint64_t used;    /* what it cannot drop: slab, page tables, stacks, and what no figure contains, such as buffers */
    uint64_t objects; /* the part of this that is in slabs and vmalloc areas: all but the pages of buffers */
};

/* A reading, and when it was taken; 0: none was. */
struct sp_machine_reading {
    struct sp_machine_kernel kernel;
    int64_t at;
};

/* Bytes that the kernel uses itself. 0 when they cannot be read. `meminfo`: a descriptor of /proc/meminfo. */
struct sp_machine_kernel sp_machine_kernel(int meminfo);
/* For creations in a row: takes a new reading only if the last one is older than a few milliseconds. `proc`: a
 * descriptor of /proc. */
void sp_machine_read_sometimes(struct sp_machine_reading *reading, int proc);
/* Bytes of free pages in the lists of each processor, which sp_machine_kernel() counts as used. `proc`: a descriptor of
 * /proc. */
uint64_t sp_machine_free_lists(int proc);
/* How many processors this process may use. */
unsigned sp_machine_processors(void);

#endif
