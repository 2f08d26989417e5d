#include "init/standby.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/confine.h"
#include "init/exec.h"
#include "init/file.h"
#include "init/leftovers.h"
#include "init/request.h"
#include "init/workspace.h"

static int acknowledge(struct sp_standby *standby, uint32_t id) {
    struct sp_record record = {.type = SP_REC_ACK, .u.id.id = id};
    sp_memory_base_late(&standby->base);
    /* Before the ACK, because after it the host may ask init to kill the command of this number. */
    atomic_store_explicit(&standby->id, id, memory_order_release);
    return sp_packet_send(standby->control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

/*
 * The standby, which will become the command, runs this: a process of its own, with descriptors of its own, on init's
 * memory. It ends with an exec, or with the reason for a failure in *standby.
 */
static int standby_main(void *arg) {
    struct sp_standby *standby = arg;
    struct sp_request request;
    struct sp_command command;
    /* The kernel clears it when this process leaves the memory, by exec too. set_tid_address(2) instead of the flag
     * CLONE_CHILD_CLEARTID, because the clone() of musl 1.2.5 and later refuses the flag. */
    (void)syscall(SYS_set_tid_address, &standby->not_execed);
    /* Before the request comes, so that no request waits for it. */
    sp_limit_processes(standby->plan);
    sp_leftovers_mark();
    int rc = sp_request_recv(standby->control, &request, &command, sp_file_serve);
    if (rc == 0 && request.packet.record.type == SP_REC_SERVE) {
        standby->yielded = true;
        return 0;
    }
    if (rc == 0 && request.packet.record.type == SP_REC_NAMESPACES) {
        sp_workspace_show_namespaces(&request.packet);
        standby->restricts = true;
        return 0;
    }
    rc = rc == 0 && request.packet.record.type != SP_REC_EXEC ? -EBADMSG : rc;
    rc = rc != 0 ? rc : acknowledge(standby, request.exec.id);
    if (rc != 0) {
        standby->control_error = rc;
        return 1;
    }
    sp_command_exec(standby->plan, &command, &standby->why);
    return 127;
}

int sp_standby_start(struct sp_standby *standby, const struct sp_plan *plan, int control) {
    static char stack[64 * 1024] __attribute__((aligned(16)));
    sp_request_free_large();
    memset(standby, 0, sizeof *standby);
    standby->plan = plan;
    standby->control = control;
    sp_memory_base_early(&standby->base, plan);
    standby->not_execed = 1;
    standby->pid = clone(standby_main, stack + sizeof stack, CLONE_VM | SIGCHLD, standby);
    return standby->pid != -1 ? 0 : -errno;
}
