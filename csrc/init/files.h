/* Functions for files and mounts that the zygote (for the template) and init (for the sandbox) share. */
#ifndef SANDPOOL_INIT_FILES_H
#define SANDPOOL_INIT_FILES_H

#include <stdint.h>
#include <sys/types.h>

#include "common/text.h"

/* Gives up setgroups(2) for this user namespace and those that are created in it, which inherit that
 * (user_namespaces(7)). 0 or -errno. */
int sp_deny_setgroups(void);
/* Writes this process's uid_map and gid_map so that `outside` ids are SP_INSIDE_ID here. 0 or -errno. The kernel
 * accepts an unprivileged gid map only after setgroups has been given up. */
int sp_write_id_maps(uid_t outside_uid, gid_t outside_gid);
/* Like mkdir -p: creates all directories of `path` that are missing. Changes `path` while it works, and restores it. */
int sp_make_dirs(char *path, mode_t mode);
/* Creates the directories above `path`, and then a directory or an empty file at `path` to mount on. */
int sp_make_mount_point(char *path, int is_dir);
/* Binds `source` at `target` recursively, and sets these MOUNT_ATTR_* on every mount of it. */
int sp_bind(const char *source, const char *target, uint64_t attrs);

#endif
