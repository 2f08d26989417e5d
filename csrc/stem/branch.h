/* A copy of the process of a code session. */
#ifndef SANDPOOL_STEM_BRANCH_H
#define SANDPOOL_STEM_BRANCH_H

/*
 * A copy of the calling process, whose parent becomes init: 0 in the copy, 1 in the caller, or -errno. The copy sends a
 * byte over `control` at once, by which the kernel shows the receiver its pid. What has to be done with the interpreter
 * before and after a fork is the caller's.
 */
int sp_stem_branch(int control);

#endif
