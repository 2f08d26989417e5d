/* Attaches a workspace to a live sandbox: see csrc/zygote/workspace.c. */
#ifndef SANDPOOL_HOST_LINUX_ATTACH_H
#define SANDPOOL_HOST_LINUX_ATTACH_H

#include <pthread.h>

#include "common/idmap.h"
#include "host/linux/zygote.h"
#include "host/sandbox/launch.h"

/* What a launcher keeps for its workspaces. All of it is used under the lock. */
struct sp_workspaces {
    pthread_mutex_t lock;
    struct sp_idmap_kept maps[2]; /* without and with the group */
    struct sp_identity identities[2];
};

void sp_workspaces_init(struct sp_workspaces *workspaces);
void sp_workspaces_close(struct sp_workspaces *workspaces);

/* Waits until the deadline. 0; SP_E_LOST: the sandbox or its zygote is dead; or SP_E_EXEC with *error filled. */
int sp_attach_workspace(struct sp_workspaces *workspaces, struct sp_session *session, const struct sp_zygote *zygote,
                        const sp_workspace *workspace, int64_t deadline, sp_error *error);

#endif
