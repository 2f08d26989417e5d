/*
 * A call: one execute from start to finish, over a job.
 */
#include "host/execute/job.h"

/* While another job has the lease, an event loop looks again this often. */
#define BUSY_LOOK_NS SP_MS(5)

/* Passes on what the caller has taken and brought since the last time. */
static void take_from_caller(struct sp_job *job, sp_call *call) {
    if ((call->taken & SP_LIVE_OUT) != 0) {
        job->out.len = 0;
    }
    if ((call->taken & SP_LIVE_ERR) != 0) {
        job->err.len = 0;
    }
    call->taken = 0;
    if ((job->request.live & SP_LIVE_INPUT) != 0) {
        job->request.input = call->request.input;
        job->request.input_len = call->request.input_len;
        job->input_sent = 0;
        job->input_ended = call->input_ended != 0;
    }
    job->callers[0] = call->readable;
    job->callers[1] = call->writable[0];
    job->callers[2] = call->writable[1];
}

static void show_to_caller(const struct sp_job *job, sp_call *call) {
    call->result.out = job->out.bytes;
    call->result.out_len = (job->request.live & SP_LIVE_OUT) != 0 ? job->out.len : 0;
    call->result.err = job->err.bytes;
    call->result.err_len = (job->request.live & SP_LIVE_ERR) != 0 ? job->err.len : 0;
    if ((job->request.live & SP_LIVE_INPUT) != 0) {
        call->request.input += job->input_sent;
        call->request.input_len -= job->input_sent;
    }
}

static int poll_live(struct sp_job *job, sp_call *call) {
    take_from_caller(job, call);
    int rc = sp_job_poll(job);
    if (rc == SP_AGAIN) {
        show_to_caller(job, call);
    }
    return rc;
}

int sp_call_run(sp_pool *pool, int64_t handle, sp_call *call) {
    sp_job *job = call->job;
    if (job == NULL) {
        int started = sp_job_start(pool, handle, &call->request, &job, &call->error);
        if (started != SP_OK) {
            return started;
        }
        call->job = job;
    }
    int rc = call->request.live != 0 ? poll_live(job, call) : sp_job_poll(job);
    return rc != SP_OK ? rc : sp_job_finish(job, &call->result, &call->error);
}

static int turn(struct sp_job *job, sp_call *call, sp_due *due) {
    if (job->request.live == 0) {
        return sp_job_turn(job, due);
    }
    take_from_caller(job, call);
    int rc = sp_job_turn(job, due);
    if (rc == SP_AGAIN) {
        show_to_caller(job, call);
    }
    return rc;
}

int sp_call_turn(sp_pool *pool, int64_t handle, sp_call *call, sp_due *due) {
    sp_job *job = call->job;
    int rc;
    if (job != NULL) {
        rc = turn(job, call, due);
    } else {
        rc = sp_job_begin(pool, handle, &call->request, true, &job, &call->error);
        if (rc == SP_AGAIN) {
            *due = (sp_due){.fd = -1, .after_ns = BUSY_LOOK_NS};
        }
        if (rc != SP_OK) {
            return rc;
        }
        call->job = job;
        rc = sp_job_due(job, due);
    }
    return rc != SP_OK ? rc : sp_job_finish(job, &call->result, &call->error);
}

void sp_call_cancel(sp_call *call) {
    sp_job *job = call->job;
    if (job != NULL && job->claimed && sp_pool_is_mine(job->pool)) {
        sp_job_cancel(job);
    }
}

void sp_call_close(sp_call *call) {
    sp_job *job = call->job;
    call->job = NULL;
    sp_job_free(job);
}

void sp_call_discard(uintptr_t call) {
    sp_job *job = ((sp_call *)call)->job;
    ((sp_call *)call)->job = NULL;
    if (job != NULL) {
        sp_job_free_finished(job);
    }
}
