/*
 * A call: one execute from start to finish, over a job.
 */
#include "host/execute/job.h"

int sp_call_run(sp_pool *pool, int64_t handle, sp_call *call) {
    int rc = SP_OK;
    if (call->job == NULL) {
        rc = sp_job_start(pool, handle, &call->request, &call->job, &call->error);
    }
    rc = rc != SP_OK ? rc : sp_job_poll(call->job);
    return rc != SP_OK ? rc : sp_job_finish(call->job, &call->result, &call->error);
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
