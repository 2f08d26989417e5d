#include "init/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/stage.h"
#include "init/confine.h"

void sp_workspace_show_namespaces(struct sp_packet *request) {
    struct sp_record record = {.type = SP_REC_NAMESPACES};
    struct sp_rec_failed why;
    sp_auto_fd int mnt = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    sp_auto_fd int user = mnt != -1 ? open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC) : -1;
    const int fds[] = {mnt, user};
    if (user != -1) {
        (void)sp_packet_send(request->fds[0], &(struct sp_outgoing){.record = &record, .fds = fds, .n_fds = 2},
                             sp_now());
    } else {
        (void)sp_failed(&why, SP_STAGE_WORKSPACE, errno, "/proc/self/ns");
        sp_packet_fail(request->fds[0], 0, &why);
    }
    sp_packet_close(request);
}

int sp_workspace_restrict(const struct sp_plan *plan) {
    bool scoped = (plan->config.flags & SP_CONFIG_UNIX_SCOPED) != 0;
    int rc = sp_install_filter(&plan->attach_filter);
    return rc != 0 || !scoped ? rc : sp_refuse_unix_sockets();
}
