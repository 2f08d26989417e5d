/*
 * The directory that holds the scratch directories of one launcher. Its host keeps it locked as long as it lives: so
 * one that nobody has locked is what a killed host left. A child that was forked off that host holds the lock, too,
 * until it ends or starts another program.
 */
#ifndef SANDPOOL_HOST_AGENT_SCRATCH_ROOT_H
#define SANDPOOL_HOST_AGENT_SCRATCH_ROOT_H

/* Makes and locks one in `parent`. Its descriptor, with *path for free(3); or -errno. */
int sp_scratch_root_make(const char *parent, char **path);

/*
 * Removes those in `parent` that hosts of this user left. `parent` may be open to everybody: no link is followed, and
 * nothing is touched that is in a directory of somebody else's.
 */
void sp_scratch_root_sweep(const char *parent);

#endif
