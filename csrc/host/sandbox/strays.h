/*
 * What the launcher of agents needs from each system. strays_darwin.c is the real one; with strays_linux.c, tests run
 * the same launcher over a stand-in for `sandbox-exec`.
 */
#ifndef SANDPOOL_HOST_SANDBOX_STRAYS_H
#define SANDPOOL_HOST_SANDBOX_STRAYS_H

/* Additional POSIX_SPAWN_* flags, so that a program inherits only the descriptors that the file actions name. */
short sp_spawn_flags(void);

/*
 * Kills the strays: processes of a sandbox whose agent was killed before it could kill them. `scratch` is the directory
 * to which only this sandbox may write.
 */
void sp_kill_strays(const char *scratch);

#endif
