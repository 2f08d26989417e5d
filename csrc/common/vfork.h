/*
 * A child that shares the memory of its parent, as vfork(2) has it: it costs the same however large the parent is, and
 * copies nothing. It has no exit signal, so that the parent's process hears of none and its wait() does not meet the
 * child. Of Linux: vfork_linux.c.
 */
#ifndef SANDPOOL_COMMON_VFORK_H
#define SANDPOOL_COMMON_VFORK_H

/*
 * Runs `run(arg)` in such a child, with all signals blocked and with this process's table of descriptors, while the
 * calling thread waits for its end. What is a process's own (its resource limits, say) is the child's. 0 or -errno when
 * there was no child; what `run` did it leaves in *arg.
 */
int sp_vfork_run(int (*run)(void *), void *arg);

#endif
