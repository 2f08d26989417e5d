/*
 * The runtime: a program of the configuration that starts with the sandbox and waits for one piece of code to run, such
 * as an interpreter that has loaded what it needs. It is confined as a command is. Each sandbox executes its own, so
 * that no two share an address space layout or a secret of the process.
 *
 * Its descriptors 0 to 2 are pipes, and 3 is one end of a stream socket. init keeps the other ends. When code is to be
 * run, the standby gives them to the host, and writes the request to the socket; from then on the runtime is the
 * command. docs/protocol.md has the lines that it reads and writes.
 */
#ifndef SANDPOOL_INIT_RUNTIME_H
#define SANDPOOL_INIT_RUNTIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "init/command.h"
#include "init/plan.h"

/* The descriptor of the socket in the runtime. */
#define SP_RUNTIME_SOCKET 3

struct sp_runtime {
    pid_t pid;          /* 0: there is none */
    int ends[4];        /* stdin, stdout, stderr, socket: what the host gets; -1: closed */
    _Atomic bool ended; /* init has reaped it, and these are valid: */
    int status;
    struct rusage usage;
};

/* Starts it. 0, or -errno with *why filled; then there is none. */
int sp_runtime_start(struct sp_runtime *runtime, const struct sp_plan *plan, struct sp_rec_failed *why);
/* Waits until it says that it is ready. 0, or -errno with *why filled, whose detail is the last line of its stderr. */
int sp_runtime_await(struct sp_runtime *runtime, int64_t until, struct sp_rec_failed *why);
/* Writes the request, of the words "run", code and options, to the socket. 0, also if the runtime has ended, or
 * -EBADMSG. */
int sp_runtime_request(const struct sp_runtime *runtime, const struct sp_command *command);
/* init gives up its descriptors, and the runtime is no longer its to end: it is the command, or was reaped. */
void sp_runtime_leave(struct sp_runtime *runtime);
/* Kills it, if there is one. init reaps it as it reaps any process that it does not know. */
void sp_runtime_end(struct sp_runtime *runtime);

#endif
