/* Processes over the fake launcher: their states, their lease, and threads that start them while the lease ends. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "check.h"
#include "fake_pool.h"
#include "host/execute/job.h"

static sp_process_request process_request(void) {
    return (sp_process_request){.size = sizeof(sp_process_request),
                                .argc = 1,
                                .argv = "/bin/true",
                                .argv_len = sizeof "/bin/true",
                                .env = "",
                                .fds = {-1, -1, -1}};
}

static sp_process *start(sp_pool *pool, int64_t handle, int *code) {
    const sp_process_request request = process_request();
    sp_process *process = NULL;
    sp_error error;

    *code = sp_process_start(pool, handle, &request, &process, &error);
    return process;
}

/* Polls until the process is in this state or beyond. The code of the last poll. */
static int poll_until(sp_process *process, uint32_t state, sp_process_status *status) {
    sp_error error;
    int rc = sp_process_poll(process, status, &error);

    while (rc == SP_OK && status->state < state) {
        struct pollfd p = {.fd = sp_process_fd(process), .events = POLLIN};
        (void)poll(&p, 1, 100);
        rc = sp_process_poll(process, status, &error);
    }
    return rc;
}

static void a_process_ends(void) {
    struct fake_pool f;
    sp_process_status status;
    int code = 0;

    open_pool(&f, 1, 1, 0);
    sp_fake_health(f.launcher, 7);
    const int64_t handle = acquire(f.pool, -1);
    CHECK(sp_lease_is_unused(f.pool, handle) == 1);
    sp_process *process = start(f.pool, handle, &code);
    CHECK(code == SP_OK && sp_lease_is_unused(f.pool, handle) == 0);
    CHECK(poll_until(process, SP_PROCESS_ENDED, &status) == SP_OK);
    CHECK(status.exit_code == 7 && status.signal == 0 && status.pid > 0 && sp_process_fd(process) == -1);
    CHECK(sp_process_signal(process, SIGTERM) == SP_OK && sp_process_signal(process, 65) == SP_E_INVAL);
    sp_process_free(process);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(REACHED(stats_of(f.pool).recycle_count == 1, 5000)); /* it is not handed out again */
    shut_pool(&f);
}

static void the_lease_ends_a_process(void) {
    struct fake_pool f;
    sp_process_status status;
    int code = 0;

    open_pool(&f, 1, 1, 0);
    sp_fake_mute(f.launcher, 1);
    const int64_t handle = acquire(f.pool, -1);
    sp_process *process = start(f.pool, handle, &code);
    CHECK(poll_until(process, SP_PROCESS_RUNNING, &status) == SP_OK && status.state == SP_PROCESS_RUNNING);
    CHECK(sp_process_signal(process, SIGTERM) == SP_OK);
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(poll_until(process, SP_PROCESS_ENDED, &status) == SP_OK && status.signal == SIGKILL);
    sp_process_free(process);
    CHECK(start(f.pool, handle, &code) == NULL && code == SP_E_RELEASED);
    shut_pool(&f);
}

static void a_job_without_a_command_replaces_a_dead_sandbox(void) {
    struct fake_pool f;
    sp_exec_request nothing = {.size = sizeof nothing - 1, .timeout_ns = -1};
    sp_exec_result result = {0};
    sp_job *job = NULL;
    sp_error error;
    int code = 0;

    open_pool(&f, 1, 1, 0);
    for (int dead = 1; dead >= 0; dead--) {
        const int64_t handle = acquire(f.pool, -1);
        nothing.size = sizeof nothing - 1;
        CHECK(sp_job_start(f.pool, handle, &nothing, &job, &error) == SP_E_INVAL && job == NULL);
        nothing.size++;
        const int64_t pid = sp_lease_pid(f.pool, handle);
        CHECK(dead == 0 || sp_fake_kill(f.launcher, pid) == 0);
        CHECK(sp_job_start(f.pool, handle, &nothing, &job, &error) == SP_OK);
        while (sp_job_poll(job) == SP_AGAIN) {
        }
        sp_job_cancel(job); /* too late: it is over */
        CHECK(sp_job_finish(job, &result, &error) == SP_OK);
        sp_job_free(job);
        CHECK((sp_lease_pid(f.pool, handle) != pid) == (dead == 1));
        sp_process *process = start(f.pool, handle, &code);
        CHECK(code == SP_OK);
        sp_process_free(process);
        CHECK(sp_release(f.pool, handle) == SP_OK);
        CHECK(REACHED(stats_of(f.pool).idle_count == 1 && stats_of(f.pool).recycling_count == 0, 5000));
    }
    CHECK(stats_of(f.pool).latencies[SP_LATENCY_EXECUTE].counts[0] == 0);
    shut_pool(&f);
}

/* Whatever it returns, the lease counts as used: no other tenant gets its sandbox. */
static void a_workspace_needs_a_launcher_that_can_attach_one(void) {
    struct fake_pool f;
    sp_workspace workspace = {.size = sizeof workspace, .mode = SP_WORKSPACE_RO, .path = "/tmp"};
    sp_error error;

    open_pool(&f, 1, 1, 0);
    const int64_t handle = acquire(f.pool, -1);
    workspace.size--;
    CHECK(sp_workspace_attach(f.pool, handle, &workspace, &error) == SP_E_INVAL);
    workspace.size++;
    CHECK(sp_lease_is_unused(f.pool, handle) == 1);
    CHECK(sp_workspace_attach(f.pool, handle, &workspace, &error) == SP_E_UNSUPPORTED);
    CHECK(sp_lease_is_unused(f.pool, handle) == 0);
    CHECK(sp_workspace_attach(f.pool, handle, &workspace, &error) == SP_E_INVAL); /* it has been used */
    CHECK(sp_release(f.pool, handle) == SP_OK);
    CHECK(sp_workspace_attach(f.pool, handle, &workspace, &error) == SP_E_RELEASED);
    shut_pool(&f);
}

static int attach_nothing(struct sp_session *session, const sp_workspace *workspace, int64_t deadline,
                          sp_error *error) {
    (void)session, (void)workspace, (void)deadline, (void)error;
    CHECK(!"it is attached");
    return SP_OK;
}

static atomic_bool is_outdated;

static bool is_current(const struct sp_session *session) {
    (void)session;
    return !atomic_load(&is_outdated);
}

/* The paths of its sandbox have changed, or the application has closed its descriptors. */
static void a_workspace_is_not_attached_to_what_has_no_use(void) {
    struct fake_pool f = {.fds_before = count_fds()};
    const sp_pool_options options = pool_options(0, 1, 0);
    const sp_workspace workspace = {.size = sizeof workspace, .mode = SP_WORKSPACE_RO, .path = "/tmp"};
    struct sp_launch_ops ops;
    sp_error error;

    f.launcher = sp_launcher_fake();
    ops = *f.launcher->ops;
    ops.attach = attach_nothing;
    ops.is_current = is_current;
    f.launcher->ops = &ops;
    f.pool = sp_pool_open(f.launcher, &options, &error);
    for (int lost = 0; lost < 2; lost++) {
        const int64_t handle = acquire(f.pool, -1);
        const int control = f.pool->slots[slot_of(handle)].session->control;
        const int foreign = open("/dev/null", O_RDWR | O_CLOEXEC);
        atomic_store(&is_outdated, true);
        CHECK(lost == 0 || dup2(foreign, control) == control);
        CHECK(sp_workspace_attach(f.pool, handle, &workspace, &error) == (lost != 0 ? SP_E_DESCRIPTORS : SP_E_LOST));
        atomic_store(&is_outdated, false);
        CHECK(sp_release(f.pool, handle) == SP_OK);
        CHECK(REACHED(stats_of(f.pool).in_use_count == 0, 5000));
        CHECK(lost == 0 || close(control) == 0);
        CHECK(close(foreign) == 0);
    }
    shut_pool(&f);
}

/* ---- the memory limit of a cgroup, which ends a sandbox as a whole ---- */

static _Atomic uint64_t oom_kills;

static int count_oom_kills(struct sp_session *session, struct sp_usage *usage) {
    (void)session;
    *usage = (struct sp_usage){.oom_kills = atomic_load(&oom_kills)};
    return 0;
}

static void open_with_cgroups(struct fake_pool *f) {
    static struct sp_launch_ops ops;
    const sp_pool_options options = pool_options(0, 1, 0);
    sp_error error;

    f->fds_before = count_fds();
    f->launcher = sp_launcher_fake();
    ops = *f->launcher->ops;
    ops.usage = count_oom_kills;
    f->launcher->ops = &ops;
    f->pool = sp_pool_open(f->launcher, &options, &error);
}

/* The sandbox of a process dies, `oom` by its limit; with a command beside it that sees that first. */
static void check_end(struct fake_pool *f, bool oom, bool beside) {
    const sp_exec_request endless = request_for(INT64_MAX);
    sp_exec_result result = {0};
    sp_process_status status;
    sp_job *job = NULL;
    sp_error error;
    int code = 0;

    atomic_store(&oom_kills, 0);
    const int64_t handle = acquire(f->pool, -1);
    sp_process *process = start(f->pool, handle, &code);
    CHECK(poll_until(process, SP_PROCESS_RUNNING, &status) == SP_OK && status.state == SP_PROCESS_RUNNING);
    CHECK(!beside || sp_job_start(f->pool, handle, &endless, &job, &error) == SP_OK);
    atomic_store(&oom_kills, oom ? 1 : 0);
    CHECK(sp_fake_kill(f->launcher, sp_lease_pid(f->pool, handle)) == 0);
    if (job != NULL) {
        while (sp_job_poll(job) == SP_AGAIN) {
        }
        CHECK(sp_job_finish(job, &result, &error) == (oom ? SP_OK : SP_E_LOST) && (result.oom_killed != 0) == oom);
        sp_job_free(job);
    }
    CHECK(poll_until(process, SP_PROCESS_ENDED, &status) == SP_OK && status.signal == SIGKILL);
    CHECK((status.oom_killed != 0) == oom);
    sp_process_free(process);
    CHECK(sp_release(f->pool, handle) == SP_OK);
}

static void the_memory_limit_ends_a_sandbox_and_its_process(void) {
    struct fake_pool f;

    open_with_cgroups(&f);
    sp_fake_mute(f.launcher, 1);
    for (int i = 0; i < 4; i++) {
        check_end(&f, i % 2 == 1, i / 2 == 1);
    }
    shut_pool(&f);
}

/* ---- threads ---- */

#define ROUNDS 60
#define STARTERS 3

struct shared {
    sp_pool *pool;
    _Atomic int64_t handle;
    atomic_bool over;
};

static bool is_an_end(int code) { return code == SP_OK || code == SP_E_RELEASED || code == SP_E_LOST; }

static void *start_many(void *arg) {
    struct shared *s = arg;

    while (!atomic_load(&s->over)) {
        sp_process_status status;
        int code = 0;
        sp_process *process = start(s->pool, atomic_load(&s->handle), &code);

        CHECK(is_an_end(code));
        if (process != NULL) {
            (void)sp_process_signal(process, SIGUSR1);
            CHECK(is_an_end(poll_until(process, SP_PROCESS_ENDED, &status)));
            sp_process_free(process);
        }
    }
    return NULL;
}

/* Each start holds the session while the owner ends it: no descriptor is closed under a thread, and none is left. */
static void threads_start_processes_while_the_lease_ends(void) {
    struct fake_pool f;
    struct shared s = {0};
    pthread_t threads[STARTERS];

    open_pool(&f, 2, 2, 0);
    s.pool = f.pool;
    atomic_store(&s.handle, acquire(f.pool, -1));
    for (int i = 0; i < STARTERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, start_many, &s) == 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        const int64_t handle = atomic_load(&s.handle);
        sp_fake_mute(f.launcher, i % 4 == 2);
        sleep_ns(MS);
        int code = i % 2 == 0 ? SP_OK : use(f.pool, handle);
        CHECK(code <= SP_OK);
        CHECK(sp_release(f.pool, handle) == SP_OK);
        atomic_store(&s.handle, acquire(f.pool, -1));
    }
    atomic_store(&s.over, true);
    CHECK(sp_release(f.pool, atomic_load(&s.handle)) == SP_OK);
    for (int i = 0; i < STARTERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    shut_pool(&f);
}

int main(void) {
    check_deadline(60);
    RUN(a_process_ends);
    RUN(the_lease_ends_a_process);
    RUN(the_memory_limit_ends_a_sandbox_and_its_process);
    RUN(a_job_without_a_command_replaces_a_dead_sandbox);
    RUN(a_workspace_needs_a_launcher_that_can_attach_one);
    RUN(a_workspace_is_not_attached_to_what_has_no_use);
    RUN(threads_start_processes_while_the_lease_ends);
    return check_report();
}
