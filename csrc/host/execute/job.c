/*
 * execute: start -> poll -> finish. A job claims the slot of its lease (BUSY) from start to finish, so that two threads
 * on one lease take turns. release() and close() may end the lease meanwhile. The job is then an orphan: it owns the
 * session, and has only to end it.
 */
#include "host/execute/job.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/execute/failure.h"
#include "host/sandbox/session.h"
#include "host/sys/thread.h"

/*
 * A caller whose streams never rest comes back this often to handle signals: its waits end at once, and a signal
 * interrupts none of them. Short enough that nobody waits for a Ctrl-C; long enough that 10 MiB of output take fewer
 * slices than anybody can measure, because getting the GIL back may cost 5 ms.
 */
#define BUSY_NS SP_MS(30)
/* A signal that comes just before the wait does not interrupt it. Only the main thread runs Python's handlers, so only
 * there the wait is this short. */
#define IDLE_NS SP_MS(80)
/* A descriptor that another part of the process closes during the wait does not end the wait: look this often. */
#define OWN_LOOK_NS SP_SEC(1)
/*
 * From KILL to EXITED. The kernel may need most of this time to unmap the memory of a command, and a busy machine to
 * end its processes; a lease is not given up for that. A sandbox that needs longer is killed from outside.
 */
#define KILL_GRACE_NS SP_SEC(2)

/* ---- start ---- */

void sp_job_end(struct sp_job *job, int code) {
    job->over = true;
    job->code = code;
    job->ended = sp_now();
}

/* Before the request is sent, so that an unused sandbox stays unused if this process has no descriptor left. */
static int send_first(struct sp_job *job, bool of_loop, sp_error *error) {
    int rc = of_loop ? sp_watch_open(&job->watch) : 0;
    return rc == 0 ? sp_job_send(job, error) : sp_error_set(error, SP_E_EXEC, SP_STAGE_SPAWN, -rc, "request");
}

int sp_job_begin(sp_pool *pool, int64_t handle, const sp_exec_request *request, bool of_loop, sp_job **out,
                 sp_error *error) {
    *out = NULL;
    if (!sp_pool_is_mine(pool)) {
        return SP_E_FORKED;
    }
    struct sp_job *job = calloc(1, sizeof *job);
    if (job == NULL || request->size != sizeof *request) {
        free(job);
        return job == NULL ? SP_E_NOMEM : SP_E_INVAL;
    }
    job->pool = pool;
    job->handle = handle;
    job->slot = (uint32_t)handle & SP_COUNT_MAX;
    job->request = *request;
    job->input_fd = job->out.fd = job->err.fd = job->channel.fd = job->watch.set = -1;
    int rc = sp_job_claim(job, !of_loop);
    if (rc != SP_OK) {
        free(job);
        return rc;
    }
    job->started = sp_now();
    job->deadline = request->timeout_ns < 0 || request->timeout_ns > SP_NEVER - job->started
                        ? SP_NEVER
                        : job->started + request->timeout_ns;
    job->watch_memory_at = job->started + SP_WATCH_MEMORY_AFTER_NS;
    rc = send_first(job, of_loop, error);
    if (rc == SP_E_LOST && job->timed_out) {
        /* init did not take the request in time. The sandbox is lost. */
        sp_job_end(job, SP_E_LOST);
        rc = SP_OK;
    }
    if (rc != 0 && rc != SP_AGAIN) {
        int orphan = atomic_load(&job->claim.orphan);
        bool lost = rc == SP_E_LOST || rc == SP_E_CREATE || job->descriptors_lost;
        /* A request that could not be sent leaves an unused sandbox unused. */
        uint64_t drop = job->first_use && !lost ? SP_SLOT_USED : 0;
        job->outcome = rc == SP_E_LOST || job->descriptors_lost ? SP_OUTCOME_LOSS : SP_OUTCOME_ORDINARY;
        sp_session_end(sp_job_leave(job, drop, lost ? SP_SLOT_LOST : 0));
        sp_watch_close(&job->watch);
        free(job);
        return orphan != 0 ? orphan : rc;
    }
    *out = job;
    return SP_OK;
}

int sp_job_start(sp_pool *pool, int64_t handle, const sp_exec_request *request, sp_job **out, sp_error *error) {
    return sp_job_begin(pool, handle, request, false, out, error);
}

/* ---- poll ---- */

/* Before the ACK there is nothing to kill; receive_from_init() calls this again when the ACK comes. */
static void kill_command(struct sp_job *job) {
    if (job->claim.session->acked && sp_session_is_whole(job->claim.session)) {
        job->claim.session->launcher->ops->kill_command(job->claim.session);
    }
}

/* The ACK has come. A deadline, and the time of the watch, may have been faster. */
static void begin_command(struct sp_job *job) {
    if (job->kill_requested) {
        kill_command(job);
    }
    if (job->watch_memory_at == SP_NEVER) {
        job->watch_memory_at = sp_now() + SP_WATCH_MEMORY_AFTER_NS;
    }
}

/* This process has no descriptors left for the streams of the runtime, whose request is acknowledged. */
static void give_up_streams(struct sp_job *job) {
    job->streamless = job->kill_requested = true;
    job->deadline = sp_now() + KILL_GRACE_NS;
    kill_command(job);
}

/* Receives init's records. After the ACK, init is the one to report how the command ended. */
static void receive_from_init(struct sp_job *job) {
    while (!job->over) {
        struct sp_record record;
        int ends[SP_RUNTIME_ENDS];
        int rc = sp_session_recv(job->claim.session, &record, ends);
        if (rc == -EAGAIN) {
            return;
        }
        if (rc == -EMFILE && job->claim.session->acked && !job->streamless) {
            give_up_streams(job);
            continue;
        }
        rc = rc != 0 ? rc : sp_job_adopt_streams(job, ends);
        if (rc != 0) {
            sp_job_end(job, rc == -EBADF ? sp_job_report_lost_descriptors(job) : SP_E_LOST);
        } else if (record.type != SP_REC_ACK) {
            job->last = record;
            sp_job_end(job, SP_OK);
        } else {
            begin_command(job);
        }
    }
}

/*
 * The first time, init is asked to kill the command, and gets a grace. The second time init does not answer, so the
 * sandbox is killed, and the command with it once the pidfd reports its death. If it does not, both are undead.
 */
static void pass_deadline(struct sp_job *job) {
    struct sp_session *session = job->claim.session;
    if (!job->kill_requested) {
        job->timed_out = job->kill_requested = true;
        job->deadline = sp_now() + KILL_GRACE_NS;
        kill_command(job);
        return;
    }
    if (sp_session_is_whole(session)) {
        session->launcher->ops->kill_sandbox(session);
    }
    const int64_t until = sp_now() + session->launcher->ops->death_grace_ns;
    if (sp_job_is_of_loop(job) && session->pidfd != -1) {
        job->awaits_death = true;
        job->deadline = until;
        return;
    }
    job->undead = session->pidfd != -1 && sp_wait_fd(session->pidfd, POLLIN, until) == -ETIMEDOUT;
    sp_job_end(job, SP_E_LOST);
}

static void look_at_clock(struct sp_job *job) {
    int64_t now = sp_now();
    if (now >= job->watch_memory_at && job->claim.session->acked) {
        job->watch_memory_at = SP_NEVER;
        if (sp_session_is_whole(job->claim.session)) {
            job->claim.session->launcher->ops->watch_memory(job->claim.session);
        }
    } else if (now >= job->watch_memory_at) {
        job->watch_memory_at = SP_NEVER; /* nothing runs yet: the ACK sets the time */
    }
    if (now >= job->deadline) { /* never, when that is SP_NEVER */
        pass_deadline(job);
    }
}

int64_t sp_job_next_look(const struct sp_job *job, int64_t rest) {
    int64_t look = sp_now() + OWN_LOOK_NS;
    look = look < rest ? look : rest;
    look = look < job->watch_memory_at ? look : job->watch_memory_at;
    return look < job->deadline ? look : job->deadline;
}

void sp_job_advance(struct sp_job *job) {
    int pumped = sp_job_pump(job);
    if (pumped != 0) {
        sp_job_end(job, pumped == -EBADF ? sp_job_report_lost_descriptors(job) : SP_E_NOMEM);
        return;
    }
    receive_from_init(job);
    if (!job->over) {
        look_at_clock(job);
    }
    if (job->over && job->code == SP_E_LOST) {
        int rc = sp_job_send_again(job);
        if (rc < 0) {
            sp_job_end(job, rc);
        }
    }
}

int sp_job_poll(sp_job *job) {
    if (!sp_pool_is_mine(job->pool)) {
        return SP_E_FORKED;
    }
    job->news = false;
    const int64_t began = sp_now();
    const int64_t rest = sp_is_main_thread() ? began + IDLE_NS : SP_NEVER;
    while (!job->over) {
        if (job->replacing) {
            int rc = sp_job_replace(job);
            if (rc < 0) {
                sp_job_end(job, rc);
            } else if (rc == SP_AGAIN) {
                return SP_AGAIN;
            }
            continue;
        }
        int n = sp_job_wait(job, sp_job_next_look(job, rest));
        if (n == -EINTR || (n == 0 && sp_now() >= rest && rest < job->deadline)) {
            return SP_AGAIN;
        }
        sp_job_advance(job);
        if (!job->over && (job->news || (n > 0 && sp_now() - began >= BUSY_NS))) {
            return SP_AGAIN;
        }
    }
    return SP_OK;
}

/* ---- finish ---- */

/* A request that could not be sent leaves the sandbox as it is: the lease stays usable, and one that is unused stays
 * unused. */
static struct sp_session *leave(struct sp_job *job) {
    const bool unsent = job->code == SP_E_EXEC;
    const uint64_t lost = SP_SLOT_LOST | (job->oom ? SP_SLOT_OOM : 0);
    return sp_job_leave(job, unsent && job->first_use ? SP_SLOT_USED : 0, job->code != SP_OK && !unsent ? lost : 0);
}

/*
 * What the cgroup of the sandbox, if there is one, counted for the command: it includes processes that nobody waited
 * for. The peak is the sandbox's: if it did not rise, it belongs to an earlier command. Where processes run beside it,
 * the cgroup's figures are not the command's alone, and those of init stay.
 */
static void account(struct sp_job *job) {
    struct sp_session *session = job->claim.session;
    struct sp_rec_exited *e = &job->last.u.exited;
    if (job->code != SP_OK) {
        job->last = (struct sp_record){.type = SP_REC_EXITED, .u.exited = {.status = SIGKILL}};
    }
    bool killed = e->status == SIGKILL;
    struct sp_usage now;
    job->oom = (e->flags & SP_EXITED_OOM) != 0;
    if (session->launcher->ops->usage == NULL || session->launcher->ops->usage(session, &now) != 0) {
        return;
    }
    if (!session->has_processes) {
        e->user_us = now.user_us - session->usage.user_us;
        e->system_us = now.system_us - session->usage.system_us;
        e->max_rss_bytes = now.peak_bytes > session->usage.peak_bytes ? now.peak_bytes : e->max_rss_bytes;
    }
    job->oom = job->oom || (killed && now.oom_kills > session->usage.oom_kills);
    session->usage = now;
}

/* The command and the children that it has waited for count together. SIGXCPU counts, too: see cpu_seconds_of(). */
static bool exceeded_cpu_time(const struct sp_job *job) {
    const struct sp_rec_exited *e = &job->last.u.exited;
    const uint64_t limit_us = job->request.cpu_time_ns / 1000;
    const int status = (int)e->status;
    const bool signalled = WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU;
    return job->request.cpu_time_ns != 0 &&
           (signalled || e->user_us >= limit_us || e->system_us >= limit_us - e->user_us);
}

static void fill_result(struct sp_job *job, sp_exec_result *result) {
    const struct sp_rec_exited *e = &job->last.u.exited;
    int status = (int)e->status;
    bool oom = job->oom;
    *result =
        (sp_exec_result){.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                         .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                         /* The command may have ended by itself while KILL was on its way. */
                         .timed_out = job->timed_out && !oom && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                         .oom_killed = oom,
                         .cpu_time_exceeded = exceeded_cpu_time(job),
                         .stdout_truncated = job->out.truncated,
                         .stderr_truncated = job->err.truncated,
                         .elapsed_ns = job->ended - job->started,
                         .user_us = (int64_t)e->user_us,
                         .system_us = (int64_t)e->system_us,
                         .max_rss_bytes = (int64_t)e->max_rss_bytes,
                         .out = job->out.bytes,
                         .out_len = job->out.len,
                         .err = job->err.bytes,
                         .err_len = job->err.len,
                         .channel_truncated = job->channel.truncated,
                         .channel = job->channel.bytes,
                         .channel_len = job->channel.len};
}

int sp_job_finish(sp_job *job, sp_exec_result *result, sp_error *error) {
    if (!sp_pool_is_mine(job->pool)) {
        return SP_E_FORKED;
    }
    /* Every writer is dead by now, and a pipe holds at most one turn: this reads the streams to their ends. */
    job->out.max = job->out.waits ? UINT64_MAX : job->out.max;
    job->err.max = job->err.waits ? UINT64_MAX : job->err.max;
    int pumped = sp_job_pump(job);
    if (pumped != 0 && job->code == SP_OK) {
        job->code = pumped == -EBADF ? sp_job_report_lost_descriptors(job) : SP_E_NOMEM;
    }
    int code = job->code;
    bool ran = code == SP_E_LOST || (code == SP_OK && job->last.type == SP_REC_EXITED);
    if (ran) {
        account(job);
    }
    /* A time-out or memory limit that only the end of the sandbox could enforce is reported as such; the lease is lost.
     */
    bool ended = code == SP_E_LOST && !job->undead && (job->timed_out || job->oom) && !job->streamless;
    if (job->streamless) {
        job->outcome = code == SP_E_LOST ? SP_OUTCOME_LOSS : SP_OUTCOME_ORDINARY;
        code = sp_error_set(error, SP_E_EXEC, SP_STAGE_SPAWN, EMFILE, "request");
    } else if (code == SP_OK && job->last.type == SP_REC_FAILED) {
        code = sp_error_of_command(error, &job->last.u.failed);
    } else if (code == SP_OK || ended) {
        fill_result(job, result);
        job->outcome = result->timed_out ? SP_OUTCOME_TIMEOUT : job->oom ? SP_OUTCOME_OOM_KILL : SP_OUTCOME_ORDINARY;
    } else if (code == SP_E_LOST || job->descriptors_lost) {
        job->outcome = SP_OUTCOME_LOSS;
    } else {
        *error = job->why;
    }
    sp_session_end(leave(job));
    int orphan = atomic_load(&job->claim.orphan);
    if (orphan != 0) {
        return orphan;
    }
    return ended ? SP_OK : code;
}

void sp_job_cancel(struct sp_job *job) {
    if (job->over) {
        return;
    }
    job->kill_requested = true;
    job->first_use = false;
    job->deadline = sp_now() + KILL_GRACE_NS;
    if (job->replacing) { /* the dead sandbox stays with the lease, which is lost */
        sp_job_give_up_replacement(job);
        sp_job_end(job, SP_E_LOST);
    }
    if (sp_job_is_of_loop(job)) {
        (void)sp_watch_put(&job->watch, SP_JOB_INPUT, -1, true);
    }
    sp_close_own(&job->input_fd, &job->input_identity); /* the caller's input may be gone */
    job->request.live = 0;                              /* nobody takes the output any more */
    job->out.waits = job->err.waits = false;
    kill_command(job);
}

void sp_job_free_finished(struct sp_job *job) {
    sp_job_close_streams(job);
    sp_watch_close(&job->watch);
    free(job);
}

void sp_job_free(sp_job *job) {
    if (job == NULL) {
        return;
    }
    if (job->claimed && sp_pool_is_mine(job->pool)) {
        sp_watch_close(&job->watch); /* from here on this call may wait */
        sp_job_cancel(job);
        while (sp_job_poll(job) == SP_AGAIN) {
        }
        sp_session_end(leave(job));
    }
    sp_job_free_finished(job);
}
