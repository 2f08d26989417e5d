/* One running command, from its pipes to its result. job.c (start, poll, finish), call.c (all three in one
 * call), loop.c (the turns of an event loop), claim.c (its claim on the lease), send.c (the request and who takes it)
 * and streams.c (the streams) share it.
 */
#ifndef SANDPOOL_HOST_EXECUTE_JOB_H
#define SANDPOOL_HOST_EXECUTE_JOB_H

#include <stdatomic.h>

#include "common/wire.h"
#include "host/execute/capture.h"
#include "host/pool/state.h"
#include "host/sandbox/session.h"
#include "host/sys/watch.h"

/* The places of the watch. */
enum { SP_JOB_SANDBOX, SP_JOB_OUT, SP_JOB_ERR, SP_JOB_INPUT, SP_JOB_CHANNEL };

struct sp_job {
    sp_pool *pool;
    int64_t handle;
    uint32_t slot;
    struct sp_claim claim;
    sp_exec_request request; /* its buffers are the caller's, until the job is freed */
    bool claimed;            /* the slot is BUSY for this job */
    bool first_use;          /* nothing ran in this sandbox before, so another one serves as well */
    bool over;
    struct sp_birth birth; /* while `replacing`: the birth of the sandbox that takes the place of a dead one */
    bool replacing;
    bool outdated;         /* while `replacing`: the old one is alive, but a path of the host leads elsewhere now */
    bool fresh;            /* the sandbox was created for this job */
    int replaced;          /* how often another sandbox took the place of a dead one */
    bool timed_out;        /* its deadline has passed */
    bool kill_requested;   /* the command is to be killed: its deadline has passed, or the caller gave the job up */
    bool descriptors_lost; /* another part of the process closed descriptors of the job or its session */
    bool streamless;       /* the streams of its runtime found no room among the descriptors of this process */
    bool undead;           /* neither the command nor its sandbox could be ended in time */
    bool oom;              /* the memory limit ended it */
    bool awaits_death;     /* of an event loop: its sandbox was killed, and the pidfd has to report that */
    struct sp_watch watch; /* open if an event loop waits for it, so that none of its calls may wait */
    int input_fd;
    struct sp_identity input_identity;
    uint64_t input_sent;
    bool input_ended; /* live input: nothing comes after this piece */
    bool news;        /* since the poll began, something came or was sent that a live call exchanges */
    int callers[3];   /* live call: descriptors of the caller to wait for, one to read and two to write; -1: none */
    struct sp_capture out, err;
    struct sp_capture channel; /* of a request that runs code; its `fd` is -1 otherwise */
    int64_t started, ended, deadline;
    int64_t watch_memory_at; /* when to ask init to watch the memory; SP_NEVER: it was asked, or the ACK is late */
    struct sp_record last;   /* EXITED or FAILED */
    int code;                /* how it ended: SP_OK or SP_E_* */
    sp_error why;            /* the error of a code that has one */
    enum sp_outcome outcome;
};

static inline bool sp_job_is_of_loop(const struct sp_job *job) { return job->watch.set != -1; }

/* ---- job.c ---- */
/* As sp_job_start(). For an event loop it opens the watch, and SP_AGAIN means that another job has the lease. */
int sp_job_begin(sp_pool *pool, int64_t handle, const sp_exec_request *request, bool of_loop, sp_job **out,
                 sp_error *error);
/* Moves what has come, handles init's records and looks at the clock. Does not wait. */
void sp_job_advance(struct sp_job *job);
/* The job is over, with this SP_OK or SP_E_*. */
void sp_job_end(struct sp_job *job, int code);
/* When to look again, even if no stream is ready; at the latest at `rest`. */
int64_t sp_job_next_look(const struct sp_job *job, int64_t rest);
/* The caller has given the job up: its command is asked to end. The lease stays usable if possible. */
void sp_job_cancel(struct sp_job *job);
/* Frees a job whose command has ended. It never waits. */
void sp_job_free_finished(struct sp_job *job);

/* ---- loop.c, for a job of an event loop ---- */
/* A turn that does not wait: SP_OK when the job is over, SP_AGAIN with *due filled, or SP_E_FORKED. */
int sp_job_turn(struct sp_job *job, sp_due *due);
/* The same without looking for what has come: to wait for the first time. */
int sp_job_due(struct sp_job *job, sp_due *due);

/* ---- claim.c ---- */
/* SP_OK, SP_AGAIN while another job has the lease, or SP_E_*. `may_wait`: waits a slice for that job. */
int sp_job_claim(struct sp_job *job, bool may_wait);
/* `drop`: flags to clear besides BUSY; `add`: flags to set. Returns the session when it is the job's to end. */
struct sp_session *sp_job_leave(struct sp_job *job, uint64_t drop, uint64_t add);
/* Reports that another part of the process closed descriptors of the job or its session. Returns the code to end with;
 * the whole pool may be concerned. */
int sp_job_report_lost_descriptors(struct sp_job *job);

/* ---- send.c ---- */
/* Sends the request. 0; SP_AGAIN: the sandbox was dead and unused, so another one is being made; or SP_E_*. */
int sp_job_send(struct sp_job *job, sp_error *error);
/* The sandbox is lost. SP_AGAIN: another one is being made, because nothing has run; else the code to report. */
int sp_job_send_again(struct sp_job *job);
/* While job->replacing: waits one slice for the other sandbox, but in an event loop. 0: it has the request; SP_AGAIN;
 * or SP_E_*. */
int sp_job_replace(struct sp_job *job);
void sp_job_give_up_replacement(struct sp_job *job);

/* ---- streams.c ---- */
/* Makes the pipes and sends the request. 0 or -errno; nothing is left open on failure. */
int sp_job_open_streams(struct sp_job *job);
void sp_job_close_streams(struct sp_job *job);
/* Takes the ends that the ACK of a runtime has brought, if it has: the first is -1 otherwise. 0 or -errno; none is left
 * to the caller. */
int sp_job_adopt_streams(struct sp_job *job, int ends[SP_RUNTIME_ENDS]);
/* Moves what can be moved without waiting. 0, -ENOMEM, or -EBADF: a pipe is no longer ours. */
int sp_job_pump(struct sp_job *job);
/* Makes the watch contain what sp_job_wait() would wait for. 0 or -errno. */
int sp_job_watch(struct sp_job *job);
/* Waits for the sandbox or a stream until `until`: > 0, 0 at the time, or -errno (-EINTR). */
int sp_job_wait(struct sp_job *job, int64_t until);

#endif
