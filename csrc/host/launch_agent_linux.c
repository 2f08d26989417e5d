#include "host/launch_agent.h"

/* Every descriptor of ours is close-on-exec. */
short sp_spawn_flags(void) { return 0; }

/* A command dies with the stand-in's agent: agent/process_linux.c. */
void sp_kill_strays(const char *scratch) { (void)scratch; }
