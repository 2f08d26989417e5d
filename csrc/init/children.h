/*
 * The processes that init starts while others of the tenant live: those of popen, and a command beside them. Each is a
 * plain fork of init, never a child that shares its memory or for which it waits, because a tenant can stop a process
 * of its own uid. Before its exec a child is undumpable, like init: nobody can trace it or take its descriptors.
 */
#ifndef SANDPOOL_INIT_CHILDREN_H
#define SANDPOOL_INIT_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "init/plan.h"
#include "init/request.h"

struct sp_child {
    pid_t pid;         /* 0: this place is free */
    int socket;        /* the process socket; of a command the control socket; -1: the host has closed it */
    int start;         /* a pipe from the child: a failure before the exec, or end of file at the exec; -1: over */
    uint32_t id;       /* of the EXEC */
    bool is_command;   /* of EXEC */
    bool interprets;   /* the interpreter runs it */
    bool timed_out;    /* killed at its deadline */
    bool oom;          /* killed by the memory watch */
    int64_t deadline;  /* SP_NEVER: none */
    int64_t killed_at; /* when it was last sent SIGKILL; 0: never */
    struct sp_rec_failed why; /* stage != 0: it could not be started */
};

/* Starts the child of an EXEC or SPAWN. 0, or -errno with child->why filled; child->pid is 0 then. */
int sp_child_start(struct sp_child *child, const struct sp_plan *plan, const struct sp_request *request,
                   struct sp_command *command);
/* Reads what has come over the pipe `start`. Reports the start of a process. */
void sp_child_read_start(struct sp_child *child);
/* Reads signals from the process socket, and sends them to the process. */
void sp_child_read_signals(struct sp_child *child);
void sp_child_kill(struct sp_child *child);
/* A child that was killed and does not end may be held by a process that traces it: kills that one. */
void sp_child_free_from_tracer(struct sp_child *child);
/* Reports the end of the child, or why it could not be started. 0 or -errno. */
int sp_child_report(const struct sp_child *child, int status, const struct rusage *usage);

/* Microseconds. */
uint64_t sp_micros(struct timeval t);
/* EXITED of a command or process. */
struct sp_record sp_exited(uint32_t id, int status, const struct rusage *usage);
/* A child that calls PTRACE_TRACEME makes init its tracer. init lets it run on. */
void sp_child_detach(pid_t pid, int status);

#endif
