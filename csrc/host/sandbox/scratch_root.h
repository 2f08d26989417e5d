/*
 * The directory that holds the scratch directories of one launcher. The host keeps it locked as long as it lives. An
 * unlocked directory was left behind by a host process that was killed. A child that the host has forked holds the
 * lock, too, until it ends or starts another program.
 */
#ifndef SANDPOOL_HOST_SANDBOX_SCRATCH_ROOT_H
#define SANDPOOL_HOST_SANDBOX_SCRATCH_ROOT_H

/* Creates such a directory in `parent` and locks it. Returns its descriptor, and in *path its path, for the caller to
 * free(3); or -errno. */
int sp_scratch_root_make(const char *parent, char **path);

/*
 * Removes the directories in `parent` that killed hosts of this user have left behind. Other users may write to
 * `parent`, so this follows no link, and touches nothing in a directory that belongs to another user.
 */
void sp_scratch_root_sweep(const char *parent);

/* Removes the directory and all that is in it, once every sandbox has been killed: what still dies may write for a
 * moment. Gives up after a second; the sweep of a later start then removes the rest. */
void sp_scratch_root_remove(int root, const char *path);

#endif
