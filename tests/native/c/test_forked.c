/* After fork(2) the pool belongs to the parent: each call in the child is refused, and the end of the child changes
 * nothing of the pool. */
#include <stdlib.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "fake_pool.h"
#include "host/execute/job.h"

struct held {
    struct fake_pool f;
    int64_t handle;
    sp_ticket *ticket;
    sp_job *job; /* not finished */
};

static bool of_the_pool(const struct held *h) {
    sp_error error;
    sp_stats stats;
    sp_drain drain = {0};
    sp_renewal renewal = {0};
    sp_ticket *ticket = NULL;

    return sp_acquire(h->f.pool) == SP_E_FORKED && sp_warm(h->f.pool, 2, &error) == SP_E_FORKED &&
           sp_ticket_open(h->f.pool, 0, &ticket) == SP_E_FORKED && ticket == NULL &&
           sp_settle(h->f.pool, 0) == SP_E_FORKED && sp_idle_len(h->f.pool) == SP_E_FORKED &&
           sp_pool_resize(h->f.pool, 0, 1) == SP_E_FORKED && sp_drain_wait(h->f.pool, &drain, 0) == SP_E_FORKED &&
           sp_renew(h->f.pool, &renewal, 0, &error) == SP_E_FORKED && sp_snapshot(h->f.pool, &stats) == SP_E_FORKED &&
           sp_pool_close(h->f.pool, 0) == SP_E_FORKED;
}

static bool of_a_lease(const struct held *h) {
    const sp_exec_request request = request_for(MS);
    const sp_workspace workspace = {.size = sizeof workspace, .path = "/tmp"};
    sp_isolation isolation;
    sp_error error;
    sp_job *job = NULL;

    return sp_lease_is_unused(h->f.pool, h->handle) == SP_E_FORKED &&
           sp_workspace_attach(h->f.pool, h->handle, &workspace, &error) == SP_E_FORKED &&
           sp_lease_pid(h->f.pool, h->handle) == SP_E_FORKED &&
           sp_lease_isolation(h->f.pool, h->handle, &isolation) == SP_E_FORKED &&
           sp_job_start(h->f.pool, h->handle, &request, &job, &error) == SP_E_FORKED && job == NULL &&
           sp_release(h->f.pool, h->handle) == SP_E_FORKED;
}

static bool of_what_is_under_way(const struct held *h) {
    sp_exec_result result;
    sp_error error;
    sp_due due;

    return sp_ticket_turn(h->ticket, &error, &due) == SP_E_FORKED && sp_job_turn(h->job, &due) == SP_E_FORKED &&
           sp_ticket_poll(h->ticket, &error) == SP_E_FORKED && sp_job_poll(h->job) == SP_E_FORKED &&
           sp_job_finish(h->job, &result, &error) == SP_E_FORKED;
}

static int is_child;

/* LeakSanitizer calls it. It is turned off in a child: memory that other threads of the parent own looks leaked there.
 */
int __lsan_is_turned_off(void);                     /* NOLINT(bugprone-reserved-identifier) */
int __lsan_is_turned_off(void) { return is_child; } /* NOLINT(bugprone-reserved-identifier) */

static bool a_child_sees(bool (*refusal)(const struct held *), const struct held *h) {
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        is_child = 1;
        exit(refusal(h) ? 0 : 1); /* not _exit(): exit handlers run, and must not touch what is the parent's */
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static void every_call_of_a_forked_child_is_refused(void) {
    const sp_exec_request request = request_for(10000 * MS);
    struct held h;
    sp_exec_result result = {0};
    sp_error error;

    open_pool(&h.f, 0, 2, 0);
    CHECK(sp_warm(h.f.pool, 2, &error) == 2);
    h.handle = acquire(h.f.pool, SP_NEVER);
    h.ticket = open_ticket(h.f.pool, SP_NEVER);
    CHECK(sp_job_start(h.f.pool, h.handle, &request, &h.job, &error) == SP_OK);
    CHECK(a_child_sees(of_the_pool, &h));
    CHECK(a_child_sees(of_a_lease, &h));
    CHECK(a_child_sees(of_what_is_under_way, &h));

    CHECK(poll_to_end(h.job) == SP_OK && sp_job_finish(h.job, &result, &error) == SP_OK);
    sp_job_free(h.job);
    int64_t other = poll_ticket(h.ticket);
    sp_ticket_free(h.ticket);
    CHECK(other > 0 && sp_release(h.f.pool, other) == SP_OK && sp_release(h.f.pool, h.handle) == SP_OK);
    CHECK(sp_pool_close(h.f.pool, 5000 * MS) == SP_OK);
    shut_pool(&h.f);
}

int main(void) {
    check_deadline(30);
    RUN(every_call_of_a_forked_child_is_refused);
    return check_report();
}
