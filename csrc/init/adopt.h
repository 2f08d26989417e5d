/*
 * A code session can make a copy of its process whose parent is init. The host learns the pid of the copy from the
 * kernel, and sends init a pidfd: from then on the copy is a process like those of SPAWN, which init reports on and
 * kills for the host.
 */
#ifndef SANDPOOL_INIT_ADOPT_H
#define SANDPOOL_INIT_ADOPT_H

#include <sys/types.h>

/* The pid, in this namespace, of a child of the calling process that has not been reaped; -ESRCH if the pidfd is of
 * another process, or of none any more. */
pid_t sp_adopt(int pidfd);

#endif
