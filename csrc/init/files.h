/* The few file and mount helpers that the template (zygote) and the sandbox's own set-up (init) share. */
#ifndef SANDPOOL_INIT_FILES_H
#define SANDPOOL_INIT_FILES_H

#include <stdint.h>
#include <sys/types.h>

/* Writes the whole text to an existing file with one write(2), as the kernel's /proc files want it. 0 or -errno. */
int sp_write_file(const char *path, const char *text);
/* Writes this process's setgroups, uid_map and gid_map so that `outside` ids are SP_INSIDE_ID here. 0 or -errno. */
int sp_write_id_maps(uid_t outside_uid, gid_t outside_gid);
/* mkdir -p: all of `path`, which is changed while it works and restored. Existing directories are fine. */
int sp_make_dirs(char *path, mode_t mode);
/* mkdir -p of what lies above `path`, then a directory or an empty file there to mount on. */
int sp_make_mount_point(char *path, int is_dir);
/* Recursive bind of `source` at `target` with these MOUNT_ATTR_* set on every mount of it. */
int sp_bind(const char *source, const char *target, uint64_t attrs);
/* Bounded text building without stdio: appends, or yields NULL when it does not fit. */
char *sp_append(char *at, const char *end, const char *text);
char *sp_append_number(char *at, const char *end, uint64_t value);

#endif
