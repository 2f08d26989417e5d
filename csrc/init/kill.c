#include "init/kill.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/kill_mark.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"

int sp_signal(pid_t pid, int signal) { return (int)syscall(SYS_kill, pid, signal, SP_KILL_MARK); }

int sp_kill_tenants(const struct sp_plan *plan) {
    return sp_in_landlock_tier(plan) ? sp_tier_kill(plan) : kill(-1, SIGKILL);
}

_Noreturn void sp_end_init(const struct sp_plan *plan) {
    if (sp_in_landlock_tier(plan)) {
        sp_leftovers_kill_all(plan);
    }
    _exit(0);
}
