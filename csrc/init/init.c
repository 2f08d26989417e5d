#include "init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fact.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/confine.h"
#include "init/descriptors.h"
#include "init/files.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "init/mounts.h"
#include "init/prove.h"

#define SP_CONTROL_FD 3

/* The name of the zygote, which this process has inherited, does not say what it is. */
static void take_name(const struct sp_plan *plan) {
    static const char name[] = "sandpool-init";
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
    size_t room = plan->command_line != NULL ? strlen(plan->command_line) : 0;
    if (room >= sizeof name - 1) {
        memset(plan->command_line, 0, room);
        memcpy(plan->command_line, name, sizeof name - 1);
    }
}

/* Closes what the zygote had open, except 0-2 (/dev/null), the control socket and the descriptor of /proc. */
static int keep_only_control(int control, struct sp_rec_failed *why) {
    if (control != SP_CONTROL_FD && dup3(control, SP_CONTROL_FD, O_CLOEXEC) == -1) {
        return sp_failed(why, SP_STAGE_NAMESPACES, errno, "control socket");
    }
    int rc = sp_close_from(SP_PROC_FD, SP_PROC_FD + 1);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_NAMESPACES, -rc, "close_range");
}

/* In the zygote's user namespace this process has the id SP_INSIDE_ID, too: the map is the identity of one id. The
 * zygote has given up setgroups for all sandboxes. */
static int enter_identity(struct sp_rec_failed *why) {
    /* Undumpable as the zygote made it, this process could not write its own id maps. */
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    int rc = sp_write_id_maps(SP_INSIDE_ID, SP_INSIDE_ID);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_IDMAP, -rc, "id maps of the sandbox");
}

/*
 * Opens /dev/null anew. All sandboxes inherit the same open file from the zygote, and its flags, owner and locks would
 * let tenants communicate.
 */
static int open_own_null(struct sp_rec_failed *why) {
    sp_auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++) {
        if (null == -1 || dup2(null, fd) == -1) {
            return sp_failed(why, SP_STAGE_DEV, errno, "/dev/null");
        }
    }
    return 0;
}

/* A cgroup namespace starts at the cgroup of the process that creates it, so init creates it once it is in its own. */
static int enter_cgroup_namespace(const struct sp_plan *plan, struct sp_rec_failed *why) {
    bool wanted = (plan->config.flags & SP_CONFIG_CGROUP) != 0 && (plan->left_out & SP_FACT_CGROUP_NS) == 0;
    return !wanted || unshare(CLONE_NEWCGROUP) == 0 ? 0 : sp_failed(why, SP_STAGE_CGROUP, errno, "cgroup namespace");
}

/* Where that is refused (Podman's profile), the namespace has the name of the host's, and only its numbers are its own.
 * *missing: the fact that is none then. */
static int set_hostname(const struct sp_plan *plan, uint32_t *missing, struct sp_rec_failed *why) {
    static const char hostname[] = "sandbox";
    if ((plan->left_out & SP_FACT_UTS_NS) != 0 || sethostname(hostname, sizeof hostname - 1) == 0) {
        return 0;
    }
    *missing |= SP_FACT_UTS_NS;
    bool refused = errno == EPERM || errno == EACCES || errno == ENOSYS;
    return refused ? 0 : sp_failed(why, SP_STAGE_NAMESPACES, errno, "sethostname");
}

static int enter_sandbox(const struct sp_plan *plan, uint32_t *missing, struct sp_rec_failed *why) {
    if (sp_in_landlock_tier(plan)) {
        umask(022);
        int rc = open_own_null(why);
        return rc != 0 ? rc : sp_tier_enter(plan, why);
    }
    int rc = enter_identity(why);
    rc = rc != 0 ? rc : enter_cgroup_namespace(plan, why);
    umask(0);
    rc = rc != 0 ? rc : sp_init_mounts(plan, why);
    umask(022);
    rc = rc != 0 ? rc : open_own_null(why);
    rc = rc != 0 ? rc : set_hostname(plan, missing, why);
    if (rc == 0 && chdir("/tmp") != 0) {
        rc = sp_failed(why, SP_STAGE_NAMESPACES, errno, "/tmp");
    }
    return rc;
}

/* Blocks the signals that init waits for, so that they queue for sigwait. A command starts with an empty mask. Called
 * before READY, because the host may send a kill signal after it. */
static void block_signals(void) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SP_KILL_SIGNAL);
    sigaddset(&awaited, SP_WATCH_MEMORY_SIGNAL);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
}

_Noreturn void sp_init_main(const struct sp_plan *plan, int control) {
    struct sp_record ready = {.type = SP_REC_READY};
    struct sp_rec_failed why;
    uint32_t missing = 0;
    take_name(plan);
    int rc = keep_only_control(control, &why);
    if (rc == 0) {
        control = SP_CONTROL_FD;
        rc = enter_sandbox(plan, &missing, &why);
    }
    struct sp_proof proof = {.status = -1};
    if (rc == 0) {
        sp_prove_namespaces(plan, &proof);
    }
    rc = rc != 0 ? rc : sp_confine(plan, &ready.u.ready.landlock_abi, &why);
    if (rc != 0) {
        sp_packet_fail(control, 0, &why);
        _exit(1);
    }
    sp_prove_confinement(plan, ready.u.ready.landlock_abi, &proof);
    ready.u.ready.facts = proof.facts & ~missing;
    (void)close(SP_PROC_FD); /* it shows the pid namespace of the zygote */
    block_signals();
    sp_init_serve(plan, control, &ready);
    /* The end of pid 1 ends every process of the sandbox, and with them its namespaces and mounts. */
    sp_end_init(plan);
}
