/*
 * A job whose caller is an event loop: turns that do not wait. Between two turns the loop waits for the watch, and at
 * most until the next due. All of the job's waits are states here: for another sandbox (`replacing`), for the command,
 * and for the death of a sandbox that was killed (`awaits_death`).
 */
#include <errno.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/execute/job.h"

/* While another sandbox is made, this often: whether the deadline has passed, or the lease has ended. */
#define REPLACING_LOOK_NS SP_MS(50)

static void await_death(struct sp_job *job) {
    const bool dead = sp_wait_fd(job->claim.session->pidfd, POLLIN, 0) != -ETIMEDOUT;
    if (dead || sp_now() >= job->deadline) {
        job->undead = !dead;
        sp_job_end(job, SP_E_LOST);
    }
}

static void replace(struct sp_job *job) {
    int rc = sp_job_replace(job);
    if (rc < 0) {
        sp_job_end(job, rc);
    }
}

int sp_job_due(struct sp_job *job, sp_due *due) {
    int rc = job->over ? 0 : sp_job_watch(job);
    if (rc != 0) {
        bool full = rc == -ENOMEM || rc == -ENOSPC;
        sp_job_end(job, full ? SP_E_NOMEM : sp_job_report_lost_descriptors(job));
    }
    if (job->over) {
        sp_watch_empty(&job->watch);
        return SP_OK;
    }
    sp_watch_set_refresh(job->watch.set);
    const int64_t rest = job->replacing ? sp_now() + REPLACING_LOOK_NS : SP_NEVER;
    *due = (sp_due){.fd = job->watch.set, .after_ns = sp_left_until(sp_job_next_look(job, rest))};
    return SP_AGAIN;
}

int sp_job_turn(struct sp_job *job, sp_due *due) {
    if (!sp_pool_is_mine(job->pool)) {
        return SP_E_FORKED;
    }
    job->news = false;
    if (job->replacing) {
        replace(job);
    } else if (job->awaits_death) {
        await_death(job);
    } else if (!job->over) {
        sp_job_advance(job);
    }
    return sp_job_due(job, due);
}
