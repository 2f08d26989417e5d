/*
 * init serves requests itself while processes of popen live. No standby may exist then, because the tenant could stop
 * it, or kill it. pid 1 can be neither stopped nor killed from inside, so init itself waits for the control socket, for
 * the process sockets and for the ends of its children, and never waits for one of them alone.
 *
 * One process or command after the other is started by a plain fork. When nothing of the tenant lives any more, init
 * goes back to the standby, which starts commands faster.
 */
#ifndef SANDPOOL_INIT_ATTEND_H
#define SANDPOOL_INIT_ATTEND_H

#include "init/children.h"
#include "init/memory.h"
#include "init/plan.h"
#include "init/request.h"

#define SP_PROCESSES_MAX 64

struct sp_attend {
    const struct sp_plan *plan;
    int control;
    bool served;             /* a request came after the SERVE */
    struct sp_child command; /* at most one runs; pid 0: none */
    struct sp_child processes[SP_PROCESSES_MAX];
    unsigned n_processes;
    struct sp_memory_base base;
    struct sp_memory_watch memory;
    int64_t watch_at; /* when to begin the memory watch; SP_NEVER: it has begun, or nothing lives */
};

void sp_attend_begin(struct sp_attend *attend, const struct sp_plan *plan, int control,
                     const struct sp_memory_base *base);
/* Goes on with the memory watch of a command that runs already. */
void sp_attend_take_watch(struct sp_attend *attend, const struct sp_memory_watch *watch);
/* Starts the process of a SPAWN, or reports why not. Takes the descriptors of the request. */
void sp_attend_spawn(struct sp_attend *attend, struct sp_request *request, struct sp_command *command);
/* Serves until nothing of the tenant lives. 0, or -errno: the host is gone or has sent something malformed. */
int sp_attend(struct sp_attend *attend);

#endif
