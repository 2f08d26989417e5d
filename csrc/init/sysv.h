/* System V objects of the sandbox's ipc namespace. They exist without any process, and no limit of the kernel counts
 * them. */
#ifndef SANDPOOL_INIT_SYSV_H
#define SANDPOOL_INIT_SYSV_H

#include <stdint.h>

/* Bytes of all segments, attached or not, and an upper bound of what queues and semaphores cost the kernel: each of
 * `threads` may have changes of every semaphore that its end takes back (SEM_UNDO). */
uint64_t sp_sysv_used(unsigned threads);
/* Removes them all. */
void sp_sysv_remove(void);

#endif
