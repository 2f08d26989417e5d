#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/execute/job.h"
#include "host/sandbox/session.h"

/* A send that takes longer than this goes to an init that does not read. */
#define SEND_TIMEOUT_NS SP_SEC(10)
/* As much as one turn of reading. */
#define INPUT_TURN ((uint64_t)SP_CAPTURE_TURN)
/* What a pipe takes at once that has the size it was made with. A larger one takes fewer turns. */
#define FULL_PIPE 65536
/* Bytes of a live output that the caller has not taken. */
#define LIVE_BYTES ((uint64_t)SP_CAPTURE_TURN)

static int open_input(struct sp_job *job, int *far_end) {
    int pair[2];
    int rc = sp_pipe(pair);
    if (rc != 0) {
        return rc;
    }
    *far_end = pair[0];
    job->input_fd = pair[1];
    job->input_identity = sp_identity_of(pair[1]);
    return fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
}

/*
 * The limit to set for `ns` of CPU time. The kernel limits whole seconds, and counts ticks, which on a busy machine
 * were ahead of the time that a process had used by a sixth. So the limit is half as large again, rounded up: no
 * command is killed before it has used its time, and the result says which one has.
 */
static uint32_t cpu_seconds_of(uint64_t ns) {
    const uint64_t seconds = ns == 0 ? 0 : ns / 2000000000 * 3 + (ns % 2000000000 * 3 / 2 + 999999999) / 1000000000;
    return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

static int send_request(struct sp_job *job, const int far_ends[4]) {
    const sp_exec_request *r = &job->request;
    struct sp_session_exec exec = {.argc = r->argc,
                                   .envc = r->envc,
                                   .cwd = r->cwd != NULL ? r->cwd : job->claim.session->home,
                                   .argv = r->argv,
                                   .env = r->env,
                                   .argv_len = r->argv_len,
                                   .env_len = r->env_len,
                                   .fds = r->has_input != 0 ? far_ends : far_ends + 1,
                                   .has_stdin = r->has_input != 0,
                                   .runs = r->runs == SP_RUNS_INTERPRETER,
                                   .for_runtime = r->runs == SP_RUNS_RUNTIME,
                                   .cpu_seconds = cpu_seconds_of(r->cpu_time_ns)};
    const int64_t until = sp_now() + SEND_TIMEOUT_NS;
    return sp_session_send_exec(job->claim.session, &exec, job->deadline < until ? job->deadline : until);
}

/* A pipe belongs to the user who created it. To open /dev/stdout by name, the tenant has to own it. */
static void give_streams(const struct sp_job *job, const int far_ends[4]) {
    for (int i = 0; i < 3 && job->pool->as_root; i++) {
        if (far_ends[i] != -1) {
            /* This fails where the host is root of a small user namespace; then only opening by name does not work. */
            (void)!fchown(far_ends[i], SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID);
        }
    }
}

/* Captures an output: from a new pipe, whose far end is then in *end, or from *end, which is then -1. */
static int open_output(struct sp_job *job, struct sp_capture *capture, uint32_t flag, int *end) {
    bool live = (job->request.live & flag) != 0;
    const uint64_t max = live ? LIVE_BYTES : job->request.max_output_bytes;
    int rc = *end == -1 ? sp_capture_open(capture, max, end) : sp_capture_adopt(capture, max, sp_fd_steal(end));
    capture->waits = live;
    capture->watch = sp_job_is_of_loop(job) ? &job->watch : NULL;
    return rc;
}

static int open_channel(struct sp_job *job, int *end) {
    const uint64_t max = job->request.max_channel_bytes;
    int rc =
        *end == -1 ? sp_capture_open(&job->channel, max, end) : sp_capture_adopt(&job->channel, max, sp_fd_steal(end));
    job->channel.watch = sp_job_is_of_loop(job) ? &job->watch : NULL;
    return rc;
}

int sp_job_open_streams(struct sp_job *job) {
    int far_ends[4] = {-1, -1, -1, -1};         /* stdin, stdout, stderr, channel */
    if (job->request.runs == SP_RUNS_RUNTIME) { /* the ACK brings the other ends of its streams */
        return send_request(job, far_ends);
    }
    int rc = open_output(job, &job->out, SP_LIVE_OUT, &far_ends[1]);
    rc = rc != 0 ? rc : open_output(job, &job->err, SP_LIVE_ERR, &far_ends[2]);
    rc = rc != 0 || job->request.has_input == 0 ? rc : open_input(job, &far_ends[0]);
    rc = rc != 0 || job->request.runs == 0 ? rc : open_channel(job, &far_ends[3]);
    if (rc == 0) {
        give_streams(job, far_ends);
        rc = send_request(job, far_ends);
    }
    for (int i = 0; i < 4; i++) {
        sp_fd_close(&far_ends[i]); /* so that only the command's processes hold that end */
    }
    if (rc != 0) {
        sp_job_close_streams(job);
    }
    return rc;
}

/* Three pipes and a socket. What has another type could make the host wait, or act on something. */
static bool are_streams(const int ends[SP_RUNTIME_ENDS]) {
    struct stat st;
    for (int i = 0; i < SP_RUNTIME_ENDS; i++) {
        if (fstat(ends[i], &st) != 0 || (i < 3 ? !S_ISFIFO(st.st_mode) : !S_ISSOCK(st.st_mode))) {
            return false;
        }
    }
    return true;
}

static int adopt_input(struct sp_job *job, int *end) {
    if (job->request.has_input == 0) {
        sp_fd_close(end);
        return 0;
    }
    job->input_fd = sp_fd_steal(end);
    job->input_identity = sp_identity_of(job->input_fd);
    return fcntl(job->input_fd, F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
}

int sp_job_adopt_streams(struct sp_job *job, int ends[SP_RUNTIME_ENDS]) {
    int rc = ends[0] == -1 ? 0 : are_streams(ends) ? adopt_input(job, &ends[0]) : -EBADMSG;
    if (rc == 0 && ends[1] != -1) {
        rc = open_output(job, &job->out, SP_LIVE_OUT, &ends[1]);
        rc = rc != 0 ? rc : open_output(job, &job->err, SP_LIVE_ERR, &ends[2]);
        rc = rc != 0 ? rc : open_channel(job, &ends[3]);
    }
    for (int i = 0; i < SP_RUNTIME_ENDS; i++) {
        sp_fd_close(&ends[i]);
    }
    return rc == -EBADF ? -EBADMSG : rc; /* an O_PATH descriptor, which init has sent: none of ours was closed */
}

void sp_job_close_streams(struct sp_job *job) {
    sp_watch_empty(&job->watch);
    sp_close_own(&job->input_fd, &job->input_identity);
    sp_capture_close(&job->out);
    sp_capture_close(&job->err);
    sp_capture_close(&job->channel);
    job->input_sent = 0;
}

/*
 * write(2) that does not let SIGPIPE reach the host. Python ignores the signal. For a host that does not, it is blocked
 * during the call, and the one that the call raised is consumed.
 */
static ssize_t write_quietly(int fd, const void *bytes, size_t len,
                             ssize_t (*give)(int fd, const void *bytes, size_t len)) {
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_IGN) {
        return give(fd, bytes, len);
    }
    sigset_t pipe_only;
    sigset_t before;
    sigset_t pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    sigpending(&pending);
    ssize_t n = give(fd, bytes, len);
    int err = errno;
    if (n < 0 && err == EPIPE && sigismember(&pending, SIGPIPE) == 0) {
        int signal;
        sigwait(&pipe_only, &signal); /* it is pending now, so this does not wait */
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = err;
    return n;
}

/*
 * False when a write has to wait for the caller or for init. Live input is not sent before ACK, because the caller
 * keeps only the current piece, and another sandbox would need all of it.
 */
static bool has_input(const struct sp_job *job) {
    return (job->request.live & SP_LIVE_INPUT) == 0 ||
           (job->claim.session->acked && (job->input_sent < job->request.input_len || job->input_ended));
}

/*
 * It is no error if a command does not read its input: the rest is dropped. A command that reads as fast as this writes
 * would keep the caller here for ever, so it returns after one turn, and the caller looks at the clock.
 */
static void pump_input(struct sp_job *job) {
    for (uint64_t given = 0; job->input_fd != -1 && given < INPUT_TURN && has_input(job);) {
        uint64_t left = job->request.input_len - job->input_sent;
        left = left < INPUT_TURN ? left : INPUT_TURN;
        /* The end of a runtime is shared with init, which could change the flags of the open file. */
        ssize_t n = left == 0 ? 0
                              : write_quietly(job->input_fd, job->request.input + job->input_sent, left,
                                              job->request.runs == SP_RUNS_RUNTIME ? sp_write_now : write);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            sp_watch_close_member(sp_job_is_of_loop(job) ? &job->watch : NULL, &job->input_fd);
        } else {
            if (n == FULL_PIPE && (uint64_t)n < left) {
                sp_pipe_enlarge(job->input_fd, (int)INPUT_TURN);
            }
            job->input_sent += (uint64_t)n;
            given += (uint64_t)n;
        }
    }
}

int sp_job_pump(struct sp_job *job) {
    if (job->input_fd != -1 && !sp_is_own(job->input_fd, &job->input_identity)) {
        job->input_fd = -1;
        return -EBADF;
    }
    const uint64_t sent = job->input_sent;
    const size_t captured = job->out.len + job->err.len;
    pump_input(job);
    int rc = sp_capture_read(&job->out);
    rc = rc != 0 ? rc : sp_capture_read(&job->err);
    rc = rc != 0 ? rc : sp_capture_read(&job->channel);
    if (job->request.live != 0) {
        job->news = job->news || job->out.len + job->err.len != captured ||
                    (job->input_sent != sent && job->input_sent == job->request.input_len);
    }
    return rc;
}

int sp_job_watch(struct sp_job *job) {
    const struct sp_session *session = job->claim.session;
    if (job->replacing) { /* the streams are closed */
        return sp_watch_put(&job->watch, SP_JOB_SANDBOX, job->birth.session->control, false);
    }
    int rc = sp_watch_put(&job->watch, SP_JOB_SANDBOX, job->awaits_death ? session->pidfd : session->control, false);
    rc = rc != 0 ? rc : sp_watch_put(&job->watch, SP_JOB_OUT, sp_capture_is_full(&job->out) ? -1 : job->out.fd, false);
    rc = rc != 0 ? rc : sp_watch_put(&job->watch, SP_JOB_ERR, sp_capture_is_full(&job->err) ? -1 : job->err.fd, false);
    rc = rc != 0 ? rc : sp_watch_put(&job->watch, SP_JOB_CHANNEL, job->channel.fd, false);
    rc = rc != 0 ? rc : sp_watch_put(&job->watch, SP_JOB_INPUT, has_input(job) ? job->input_fd : -1, true);
    return rc;
}

static int wait_live(struct sp_job *job, const struct pollfd streams[5], int64_t until) {
    struct pollfd fds[8] = {streams[0],
                            streams[1],
                            streams[2],
                            streams[3],
                            streams[4],
                            {.fd = job->callers[0], .events = POLLIN},
                            {.fd = job->callers[1], .events = POLLOUT},
                            {.fd = job->callers[2], .events = POLLOUT}};
    fds[1].fd = sp_capture_is_full(&job->out) ? -1 : fds[1].fd;
    fds[2].fd = sp_capture_is_full(&job->err) ? -1 : fds[2].fd;
    fds[3].fd = has_input(job) ? fds[3].fd : -1;
    int n = sp_poll_until(fds, 8, until);
    job->news = job->news || (n > 0 && (fds[5].revents | fds[6].revents | fds[7].revents) != 0);
    return n;
}

int sp_job_wait(struct sp_job *job, int64_t until) {
    /* poll ignores -1, a stream that has ended */
    struct pollfd fds[5] = {{.fd = job->claim.session->control, .events = POLLIN},
                            {.fd = job->out.fd, .events = POLLIN},
                            {.fd = job->err.fd, .events = POLLIN},
                            {.fd = job->input_fd, .events = POLLOUT},
                            {.fd = job->channel.fd, .events = POLLIN}};
    return job->request.live != 0 ? wait_live(job, fds, until) : sp_poll_until(fds, 5, until);
}
