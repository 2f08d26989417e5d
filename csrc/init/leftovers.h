/*
 * What a command leaves running. Without processes beside it, everything that lives in the sandbox is the command's.
 * Beside processes, a mark tells which process belongs to a command: its hard RLIMIT_LOCKS, a limit that has no effect,
 * is lower than init's. Descendants inherit the mark, whatever their parent or session becomes, and nobody without
 * privilege in the host can raise a hard limit again.
 */
#ifndef SANDPOOL_INIT_LEFTOVERS_H
#define SANDPOOL_INIT_LEFTOVERS_H

#include <stdbool.h>

#include "init/plan.h"

/* Marks the calling process and its descendants. Async-signal-safe. */
void sp_leftovers_mark(void);
enum sp_leftovers {
    SP_LEFTOVERS_NONE,
    SP_LEFTOVERS_KILLED, /* each of them was killed by the call before, too, and has not ended yet */
    SP_LEFTOVERS_NEW,
};

/* Kills the marked processes that exist at this moment. Where a command's processes cannot be distinguished, kills all.
 */
enum sp_leftovers sp_leftovers_kill_marked(const struct sp_plan *plan);
/* Kills everything but init, and reaps it. */
void sp_leftovers_kill_all(const struct sp_plan *plan);

#endif
