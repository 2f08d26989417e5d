#include "init/exec.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/stage.h"
#include "init/confine.h"
#include "init/landlock_tier.h"

/* The terminal becomes the controlling terminal of the new session. */
static int start_session(const struct sp_plan *plan, const struct sp_command *command) {
    bool in_group = sp_tier_is_grouped(plan);
    if ((!in_group && setsid() == -1) || (command->has_terminal && ioctl(command->fds[0], TIOCSCTTY, 0) != 0)) {
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(command->fds[i], i) == -1) {
            return -1;
        }
    }
    return 0;
}

int sp_command_enter(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    int rc = sp_command_limit_cpu(command);
    if (rc != 0) {
        return sp_failed(why, SP_STAGE_LIMITS, -rc, "RLIMIT_CPU");
    }
    if (sp_limit_command() != 0 || start_session(plan, command) != 0) {
        return sp_failed(why, SP_STAGE_SPAWN, errno, "session and streams");
    }
    if (chdir(command->cwd) != 0) {
        return sp_failed(why, SP_STAGE_CWD, errno, command->cwd);
    }
    if (sp_in_landlock_tier(plan)) {
        sp_tier_set_home(command->env);
    }
    rc = sp_install_filter(&plan->exec_filter);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_SECCOMP, -rc, "filter of the command");
}

void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    sigset_t none;
    if (command->channel != -1) {
        (void)sp_failed(why, SP_STAGE_EXEC, ENOSYS, "interpreter");
        return;
    }
    if (command->for_runtime) { /* none waits while processes live */
        (void)sp_failed(why, SP_STAGE_EXEC, EBUSY, "runtime");
        return;
    }
    if (sp_command_enter(plan, command, why) != 0) {
        return;
    }
    sp_limit_data_of_exec(plan);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int err = sp_command_search(command);
    (void)sp_failed(why, SP_STAGE_EXEC, err, command->argv[0]);
}
