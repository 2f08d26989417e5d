/*
 * The request on its way to a sandbox. Until init has acknowledged it, nothing of the command can have started. So if
 * the sandbox of an unused lease dies, a fresh one replaces it silently, and the request is sent again. The same
 * happens to a sandbox that shows what a path of the host led to when it was created, and does not any more.
 */
#include <errno.h>
#include <poll.h>

#include "common/clock.h"
#include "host/execute/job.h"
#include "host/sandbox/session.h"

/* How many dead sandboxes in a row an unused lease passes over silently. */
#define MAX_ATTEMPTS 3

/* ---- another sandbox, made in slices, so that the caller can handle signals meanwhile ---- */

static int begin_replacement(struct sp_job *job, sp_error *error) {
    int rc = sp_birth_begin(job->pool->launcher, &job->birth, error);
    job->replacing = rc == 0;
    return rc == 0 ? SP_AGAIN : rc;
}

/* A turn of the birth may close the socket that the loop waits for, which must have left the watch by then. */
static void stop_watching(struct sp_job *job) {
    if (sp_job_is_of_loop(job)) {
        (void)sp_watch_put(&job->watch, SP_JOB_SANDBOX, -1, false);
    }
}

void sp_job_give_up_replacement(struct sp_job *job) {
    if (job->replacing) {
        stop_watching(job);
        job->replacing = false;
        sp_birth_abandon(&job->birth);
    }
}

/* The new sandbox takes the place of the old one. Both `created` and the evictions rise: one entry left, one came. */
static void take_place(struct sp_job *job) {
    sp_pool *pool = job->pool;
    struct sp_session *old = job->birth.session;
    pthread_mutex_lock(&pool->lock);
    if (atomic_load(&job->claim.orphan) == 0) {
        old = job->claim.session;
        job->claim.session = job->birth.session;
        pool->slots[job->slot].session = job->claim.session;
        sp_slot_replace(&pool->slots[job->slot]);
        (void)sp_poller_add(&pool->poller, job->claim.session->pidfd, job->slot);
        pool->created++;
        sp_pool_record_latency(pool, SP_LATENCY_CREATE, job->birth.duration);
        sp_pool_count_eviction(pool, job->outdated ? SP_EVICT_OUTDATED : SP_EVICT_REPLACED, old);
    }
    pthread_mutex_unlock(&pool->lock);
    job->outdated = false;
    job->fresh = true;
    sp_session_end(old);
}

int sp_job_replace(struct sp_job *job) {
    sp_pool *pool = job->pool;
    stop_watching(job);
    int rc = sp_job_is_of_loop(job) ? sp_birth_step(&job->birth, &job->why)
                                    : sp_birth_wait(&job->birth, sp_now() + SP_SLICE_NS, &job->why);
    if (rc == SP_AGAIN) {
        job->timed_out = sp_now() >= job->deadline;
        if (atomic_load(&job->claim.orphan) != 0 || job->timed_out) {
            sp_job_give_up_replacement(job);
            return SP_E_LOST; /* an orphan's code is what the caller gets in the end */
        }
        return SP_AGAIN;
    }
    job->replacing = false;
    if (rc != 0) {
        pthread_mutex_lock(&pool->lock);
        sp_pool_count_failed_creation(pool, &job->why);
        pthread_mutex_unlock(&pool->lock);
        return rc;
    }
    take_place(job);
    return atomic_load(&job->claim.orphan) != 0 ? SP_E_LOST : sp_job_send(job, &job->why);
}

/* Once for each lease. A sandbox that was created for this job need not be looked at. */
static bool is_outdated(const struct sp_job *job) {
    const struct sp_session *session = job->claim.session;
    bool unused = job->first_use && !job->fresh;
    return unused && session->launcher->ops->is_current != NULL && !session->launcher->ops->is_current(session);
}

/* Whether its pidfd reports the death of the sandbox. */
static bool is_dead(const struct sp_session *session) {
    return session->pidfd != -1 && sp_wait_fd(session->pidfd, POLLIN, 0) == 0;
}

/* A job without a command only makes sure that the sandbox of the lease lives, or that another one is made. */
static int prepare(struct sp_job *job, sp_error *error) {
    if (job->first_use && is_dead(job->claim.session)) {
        return ++job->replaced == MAX_ATTEMPTS ? SP_E_LOST : begin_replacement(job, error);
    }
    job->over = true;
    return 0;
}

static bool died(int rc) { return rc == -EPIPE || rc == -ECONNRESET || rc == -ETIMEDOUT; }

int sp_job_send(struct sp_job *job, sp_error *error) {
    job->outdated = is_outdated(job);
    if (job->outdated) {
        return begin_replacement(job, error);
    }
    if (job->request.argc == 0) {
        return prepare(job, error);
    }
    int rc = sp_job_open_streams(job);
    if (rc == 0) {
        return 0;
    }
    if (rc == -EBADF) {
        int code = sp_job_report_lost_descriptors(job);
        if (code != SP_E_DESCRIPTORS || !job->first_use) {
            return code;
        }
        job->descriptors_lost = false; /* nothing ran in that sandbox, so another one serves as well */
    } else if (!died(rc)) {
        return sp_error_set(error, SP_E_EXEC, SP_STAGE_SPAWN, -rc, "request");
    }
    job->timed_out = rc == -ETIMEDOUT && sp_now() >= job->deadline;
    if (!job->first_use || ++job->replaced == MAX_ATTEMPTS || job->timed_out) {
        return SP_E_LOST;
    }
    return begin_replacement(job, error);
}

int sp_job_send_again(struct sp_job *job) {
    if (!job->first_use || job->claim.session->acked || job->timed_out || atomic_load(&job->claim.orphan) != 0) {
        return SP_E_LOST;
    }
    if (++job->replaced >= MAX_ATTEMPTS) {
        return SP_E_LOST;
    }
    sp_job_close_streams(job);
    job->over = false;
    return begin_replacement(job, &job->why);
}
