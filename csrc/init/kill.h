/* How init kills all processes of its sandbox, and how it ends itself. */
#ifndef SANDPOOL_INIT_KILL_H
#define SANDPOOL_INIT_KILL_H

#include "init/plan.h"

/* Kills every process of the sandbox but init, in one call, which no fork can escape. 0, or -1 when there was none. */
int sp_kill_tenants(const struct sp_plan *plan);
/* kill(2), for init. It does not wait for init's supervisor: common/kill_mark.h. */
int sp_signal(pid_t pid, int signal);
/* Ends init. With a pid namespace, the kernel then ends every other process; in the Landlock tier init does it first.
 */
_Noreturn void sp_end_init(const struct sp_plan *plan);

#endif
