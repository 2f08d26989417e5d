/* System V objects of the sandbox's ipc namespace: they need no process to stay, and no limit of the kernel counts
 * them.
 */
#ifndef SANDPOOL_INIT_SYSV_H
#define SANDPOOL_INIT_SYSV_H

#include <stdint.h>

/* Bytes of segments, attached or not, and of what queues and semaphores cost the kernel, the latter at the most. */
uint64_t sp_sysv_used(void);
/* Removes them all. */
void sp_sysv_remove(void);

#endif
