/* Attaches a workspace to a lease in which nothing has run. */
#include "common/clock.h"
#include "host/pool/state.h"
#include "host/sandbox/session.h"

#define ATTACH_TIMEOUT_NS SP_SEC(10)

static int attach(struct sp_session *session, const sp_workspace *workspace, sp_error *error) {
    const struct sp_launch_ops *ops = session->launcher->ops;
    if (ops->attach == NULL) {
        return SP_E_UNSUPPORTED;
    }
    if (!sp_session_is_whole(session)) {
        return SP_E_DESCRIPTORS;
    }
    if (ops->is_current != NULL && !ops->is_current(session)) {
        return SP_E_LOST; /* a path of the host leads elsewhere now: another sandbox serves as well */
    }
    return ops->attach(session, workspace, sp_now() + ATTACH_TIMEOUT_NS, error);
}

int sp_workspace_attach(sp_pool *pool, int64_t handle, const sp_workspace *workspace, sp_error *error) {
    int code = sp_lease_is_unused(pool, handle);
    if (code < 0) {
        return code;
    }
    if (workspace->size != sizeof *workspace) {
        return SP_E_INVAL;
    }
    bool unused = code != 0;
    /* From here on the lease counts as used, so that no other tenant gets its sandbox, whatever happens. */
    struct sp_session *session = sp_lease_share(pool, handle, &code);
    if (session != NULL) {
        code = unused ? attach(session, workspace, error) : SP_E_INVAL;
        sp_session_unref(session);
    }
    return code;
}
