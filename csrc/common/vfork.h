/*
 * A child that shares the memory of its parent, as with vfork(2): nothing is copied, so its cost does not grow with the
 * parent. The child has no exit signal: the parent gets no SIGCHLD, and its plain wait() does not see the child. Linux
 * only: vfork_linux.c.
 */
#ifndef SANDPOOL_COMMON_VFORK_H
#define SANDPOOL_COMMON_VFORK_H

/*
 * Runs `run(arg)` in such a child, with all signals blocked and with the descriptor table of this process, while the
 * calling thread waits for its end. Attributes of a process, such as its resource limits, are the child's own. Returns
 * 0, or -errno when there was no child; `run` leaves its result in *arg.
 */
int sp_vfork_run(int (*run)(void *), void *arg);

#endif
