/* sources: csrc/init/workspace.c csrc/common/packet.c csrc/common/wire.c csrc/common/clock.c csrc/common/fd.c
 * csrc/common/fd_linux.c csrc/common/vfork_linux.c */
/* What init sends to the zygote so that a workspace can be attached, or why it cannot. */
#include "init/workspace.h"

#include "check.h"
#include "common/fd.h"
#include "common/stage.h"
#include "init/confine.h"
#include "nth.h"

static int of_filter, of_sockets;

int sp_install_filter(const struct sp_plan_filter *filter) { return filter != NULL ? of_filter : 0; }
int sp_refuse_unix_sockets(void) { return of_sockets; }

static int show(void) {
    struct sp_packet answer;
    int pair[2];
    make_pair(pair);
    struct sp_packet request = {.fds = {pair[1], -1, -1, -1, -1}, .n_fds = 1};
    sp_workspace_show_namespaces(&request);
    CHECK(sp_packet_recv(pair[0], &answer, NULL, 0) == 0);
    bool shown = answer.record.type == SP_REC_NAMESPACES && answer.n_fds == 2;
    bool failed = answer.record.type == SP_REC_FAILED && answer.record.u.failed.stage == SP_STAGE_WORKSPACE;
    CHECK(shown || failed);
    sp_packet_close(&answer);
    sp_fd_close(&pair[0]);
    return shown ? 0 : -(int)answer.record.u.failed.err;
}

static void nothing(void) {}

static void namespaces_are_shown_or_the_reason_is(void) {
    const struct sweep sweep = {.prepare = nothing, .act = show, .err = EMFILE};
    CHECK(show() == 0 && count_fatal(&sweep, SYS_openat) == 2);
}

static void what_runs_with_a_workspace_is_restricted_further(void) {
    struct sp_plan plan = {.config.flags = 0};
    CHECK(sp_workspace_restrict(&plan) == 0);
    of_sockets = -EINVAL;
    CHECK(sp_workspace_restrict(&plan) == 0);
    plan.config.flags = SP_CONFIG_UNIX_SCOPED;
    CHECK(sp_workspace_restrict(&plan) == -EINVAL);
    of_filter = -ENOMEM;
    CHECK(sp_workspace_restrict(&plan) == -ENOMEM);
}

int main(void) {
    check_deadline(30);
    RUN(namespaces_are_shown_or_the_reason_is);
    RUN(what_runs_with_a_workspace_is_restricted_further);
    return check_report();
}
