/* What init does when a workspace is attached: csrc/zygote/workspace.c does the rest. */
#ifndef SANDPOOL_INIT_WORKSPACE_H
#define SANDPOOL_INIT_WORKSPACE_H

#include "common/packet.h"
#include "init/plan.h"

/* Answers NAMESPACES, over the socket that came with it: with the namespaces of this process, or with the reason why
 * they cannot be opened. Runs in the standby. */
void sp_workspace_show_namespaces(struct sp_packet *request);

/*
 * Refuses to all later commands what must not be done in a directory of the host: to set a set-id bit, and, where unix
 * sockets were allowed only because no such directory was shown, to create one. Runs in init, while nothing of a tenant
 * lives. 0 or -errno.
 */
int sp_workspace_restrict(const struct sp_plan *plan);

#endif
