/*
 * From a child of the host to the zygote proper. The first process gives up root, clones the second into new
 * namespaces and exits: so the host has no child that its own wait() could meet, and the second, being pid 1 of its pid
 * namespace, takes every sandbox with it when it ends.
 */
#include <errno.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/files.h"
#include "zygote/zygote.h"

static int drop_root(struct sp_rec_failed *why) {
    if (geteuid() != 0 && getuid() != 0) {
        return 0;
    }
    /* setgroups is forbidden in a user namespace that gave it up; then there are no groups to lose that could be. */
    if ((setgroups(0, NULL) != 0 && errno != EPERM) ||
        setresgid(SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID) != 0 ||
        setresuid(SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID) != 0) {
        return sp_failed(why, SP_STAGE_DROP_ROOT, errno, "uid and gid 65534");
    }
    return 0;
}

/* A cgroup namespace would begin at the zygote's own cgroup, and put those of the sandboxes out of its reach. */
static long clone_zygote(const struct sp_plan *plan, int *pidfd) {
    unsigned long flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD |
                          ((plan->config.flags & SP_CONFIG_CGROUP) != 0 ? 0 : CLONE_NEWCGROUP) | SIGCHLD;
    return syscall(SYS_clone, flags, NULL, pidfd, NULL, 0L);
}

int sp_zygote_enter(int sock, const struct sp_plan *plan, struct sp_rec_failed *why) {
    int rc = drop_root(why);
    if (rc != 0) {
        return rc;
    }
    uid_t uid = geteuid();
    gid_t gid = getegid();
    /* After a change of uid the process is undumpable, and then may not write its own id maps. */
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    sp_auto_fd int pidfd = -1;
    long pid = clone_zygote(plan, &pidfd);
    if (pid == -1) {
        return sp_failed(why, SP_STAGE_USERNS, errno, "clone(CLONE_NEWUSER)");
    }
    if (pid > 0) {
        struct sp_record created = {.type = SP_REC_CREATED};
        rc = sp_packet_send(sock, &(struct sp_outgoing){.record = &created, .fds = &pidfd, .n_fds = 1}, SP_NEVER);
        _exit(rc == 0 ? 0 : 1);
    }
    rc = sp_write_id_maps(uid, gid);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_IDMAP, -rc, "id maps of the zygote");
}
