/*
 * What agent/launcher.c needs of each system: agent/strays_darwin.c, and agent/strays_linux.c, with which tests run the
 * same launcher over a stand-in for `sandbox-exec`.
 */
#ifndef SANDPOOL_HOST_AGENT_STRAYS_H
#define SANDPOOL_HOST_AGENT_STRAYS_H

/* POSIX_SPAWN_* beside those that every system has: that nothing is inherited but what the file actions name. */
short sp_spawn_flags(void);

/*
 * Kills what is left of a sandbox whose agent was killed before it could do so. `scratch` is the directory that only
 * this sandbox may write.
 */
void sp_kill_strays(const char *scratch);

#endif
