/*
 * Figures of the whole machine. They cost microseconds, and bound from above what one sandbox can have taken since an
 * earlier figure, as long as nobody else has given the same back.
 */
#ifndef SANDPOOL_INIT_MACHINE_H
#define SANDPOOL_INIT_MACHINE_H

#include <stdint.h>

/* Bytes of shared memory: tmpfs, memfds, System V segments, shared anonymous mappings. */
uint64_t sp_machine_shared(void);
/*
 * Bytes that the kernel holds for itself and cannot drop: slab, page tables, stacks, and what no figure names, such as
 * the buffers of pipes and sockets. 0 when it cannot be told. `meminfo`: a descriptor of /proc/meminfo.
 */
uint64_t sp_machine_kernel(int meminfo);
/* Bytes of free pages that wait in the lists of each processor, which sp_machine_kernel() takes for used. `proc`: of
 * /proc. */
uint64_t sp_machine_free_lists(int proc);
/* How many processors this process may use. */
unsigned sp_machine_processors(void);

#endif
