/*
 * A code session can make a copy of its process whose parent is init. The host learns the pid of the copy from the
 * kernel, and sends init a pidfd: from then on the copy is a process like those of SPAWN, which init reports on and
 * kills for the host.
 */
#ifndef SANDPOOL_INIT_ADOPT_H
#define SANDPOOL_INIT_ADOPT_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Whether the process of the pidfd is a child of the calling process that has not been reaped: `pid`, or -ESRCH. The
 * host has read this pid from the kernel. init could not: before Linux 5.14 an undumpable process may not read its own
 * fdinfo.
 */
pid_t sp_adopt(int pidfd, uint32_t pid);

#endif
