/*
 * How the process that the host started becomes the zygote. The first process, a child of the host's reaper, gives up
 * root, clones the second one into new namespaces, as another child of that reaper, and exits. The second process is
 * pid 1 of its pid namespace, so that all sandboxes end when it ends.
 */
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fact.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/files.h"
#include "init/proc.h"
#include "zygote/zygote.h"

static uint64_t parse_number(const char **at) {
    uint64_t value = 0;
    for (; **at == ' '; ++*at) {
    }
    for (; **at >= '0' && **at <= '9'; ++*at) {
        value = value * 10 + (uint64_t)(**at - '0');
    }
    return value;
}

/* Whether the id is 0 in the parent user namespace, too. The lines of the map are "inside outside count". */
static bool is_root_outside(const char *map, uint64_t id) {
    char text[4096];
    if (!sp_read_text(SP_PROC_FD, map, text, sizeof text)) {
        return true;
    }
    for (const char *at = text; *at != '\0'; at += *at == '\n') {
        uint64_t inside = parse_number(&at);
        uint64_t outside = parse_number(&at);
        uint64_t count = parse_number(&at);
        if (id >= inside && id - inside < count) {
            return outside + (id - inside) == 0;
        }
        if (*at != '\n') {
            break;
        }
    }
    return true;
}

/*
 * Whether the zygote may keep its id. Where "nobody" is not mapped (EINVAL) or the capability is missing (EPERM), it
 * cannot change to another id. It may keep the id of an ordinary user, who is root only inside a user namespace. It may
 * not keep the id of the real root, who owns the files and knobs of the host even without any capability.
 */
static bool may_stay(int err, const char *map, uint64_t id) {
    return (err == EINVAL || err == EPERM) && !is_root_outside(map, id);
}

static int drop_root(struct sp_rec_failed *why) {
    const unsigned id = SP_UNPRIVILEGED_ID;
    if (geteuid() != 0 && getuid() != 0) {
        return 0;
    }
    /* EPERM: the user namespace has given up setgroups, so that no process in it could drop a group. */
    if (setgroups(0, NULL) != 0 && errno != EPERM) {
        return sp_failed(why, SP_STAGE_DROP_ROOT, errno, "setgroups");
    }
    if (setresgid(id, id, id) != 0 && !may_stay(errno, "self/gid_map", getegid())) {
        return sp_failed(why, SP_STAGE_DROP_ROOT, errno, "gid 65534");
    }
    if (setresuid(id, id, id) != 0 && !may_stay(errno, "self/uid_map", geteuid())) {
        return sp_failed(why, SP_STAGE_DROP_ROOT, errno, "uid 65534");
    }
    return 0;
}

#define ALWAYS (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_PIDFD)

static long clone_once(uint64_t flags, int cgroup, int *pidfd) {
    if (cgroup == -1) {
        return syscall(SYS_clone, (unsigned long)flags | SIGCHLD, NULL, pidfd, NULL, 0L);
    }
    struct clone_args args = {.flags = flags | CLONE_INTO_CGROUP,
                              .pidfd = (uint64_t)(uintptr_t)pidfd,
                              .exit_signal = SIGCHLD,
                              .cgroup = (unsigned)cgroup};
    return syscall(SYS_clone3, &args, sizeof args);
}

/* The kernel does not report which kind of namespace it refuses, so this tries all combinations of those that a sandbox
 * can do without. */
static long clone_into(struct sp_plan *plan, uint64_t more, int cgroup, int *pidfd) {
    static const uint32_t sets[] = {0, SP_FACT_CGROUP_NS, SP_FACT_UTS_NS, SP_FACT_CGROUP_NS | SP_FACT_UTS_NS};
    const uint32_t before = plan->left_out;
    /* A cgroup namespace would start at the zygote's own cgroup, and the zygote could not reach those of the sandboxes.
     */
    bool later = (plan->config.flags & SP_CONFIG_CGROUP) != 0;
    int err = 0;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        plan->left_out = before | sets[i]; /* before the clone: the child reads its copy */
        uint64_t flags = ALWAYS | more | ((plan->left_out & SP_FACT_UTS_NS) != 0 ? 0 : CLONE_NEWUTS) |
                         (later || (plan->left_out & SP_FACT_CGROUP_NS) != 0 ? 0 : CLONE_NEWCGROUP);
        long pid = clone_once(flags, cgroup, pidfd);
        if (pid != -1) {
            return pid;
        }
        err = i == 0 ? errno : err;
        if (!sp_may_leave_out(plan, errno)) {
            break;
        }
    }
    plan->left_out = before;
    errno = err;
    return -1;
}

long sp_zygote_clone(struct sp_plan *plan, int cgroup, int *pidfd) {
    if (sp_in_landlock_tier(plan)) {
        sp_zygote_tier_next(plan);
        long pid = clone_once(CLONE_PIDFD, cgroup, pidfd);
        if (pid > 0) {
            sp_zygote_tier_created((pid_t)pid);
        }
        return pid;
    }
    return clone_into(plan, 0, cgroup, pidfd);
}

int sp_zygote_enter(int sock, struct sp_plan *plan, struct sp_rec_failed *why) {
    int rc = drop_root(why);
    if (rc != 0) {
        return rc;
    }
    uid_t uid = geteuid();
    gid_t gid = getegid();
    /* A change of uid has made the process undumpable, and an undumpable process may not write its own id maps. */
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    sp_auto_fd int pidfd = -1;
    long pid = clone_into(plan, CLONE_PARENT, -1, &pidfd);
    if (pid == -1) {
        return sp_failed(why, SP_STAGE_USERNS, errno, "clone(CLONE_NEWUSER)");
    }
    if (pid > 0) {
        struct sp_record created = {.type = SP_REC_CREATED};
        rc = sp_packet_send(sock, &(struct sp_outgoing){.record = &created, .fds = &pidfd, .n_fds = 1}, SP_NEVER);
        _exit(rc == 0 ? 0 : 1);
    }
    rc = sp_deny_setgroups();
    rc = rc != 0 ? rc : sp_write_id_maps(uid, gid);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_IDMAP, -rc, "id maps of the zygote");
}
