/*
 * The serving loop of the agent. One command at a time, as in init: EXEC -> ACK -> (FAILED | EXITED). While a command
 * runs, the agent also reads the control socket: KILL ends the command, the end of the host's socket ends the sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/request.h"

/* How a command ended. */
struct outcome {
    int status;
    struct rusage usage;
};

static int wake[2] = {-1, -1}; /* a pipe through which a signal handler wakes the loop */
static volatile sig_atomic_t end_requested;
static struct sp_rec_failed *failure; /* shared with the child until its exec; stage 0: none */

static void on_signal(int signal) {
    int saved = errno;
    end_requested = signal == SIGTERM ? 1 : end_requested;
    (void)!write(wake[1], "", 1);
    errno = saved;
}

static int listen_to_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    int rc = sp_pipe(wake);
    for (int i = 0; rc == 0 && i < 2; i++) {
        rc = fcntl(wake[i], F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
    }
    if (rc == 0 && (sigaction(SIGCHLD, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0)) {
        rc = -errno;
    }
    return rc;
}

/* ---- in the child, up to its exec ---- */

static void reset_signals(void) {
    sigset_t none;
    (void)signal(SIGCHLD, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Works in two steps, because a source may have the number of an earlier target. */
static int place_streams(const int fds[3]) {
    int moved[3];
    for (int i = 0; i < 3; i++) {
        moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, SP_AGENT_LIFELINE + 1);
    }
    for (int i = 0; i < 3; i++) {
        if (moved[i] == -1 || dup2(moved[i], i) == -1) {
            return -errno;
        }
    }
    return 0;
}

static bool has_variable(char **env, const char *key) {
    for (size_t len = strlen(key); *env != NULL; env++) {
        if (strncmp(*env, key, len) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * Adds HOME and TMPDIR. Only the agent knows their value, because the scratch directory is another one in each sandbox.
 * As the agent has only one thread, its child may allocate memory.
 */
static char **with_home(char **env) {
    static char home[PATH_MAX + 8] = "HOME=";
    static char tmpdir[PATH_MAX + 8] = "TMPDIR=";
    size_t n = 0;
    while (env[n] != NULL) {
        n++;
    }
    char **more = calloc(n + 3, sizeof *more);
    if (more == NULL || getcwd(home + 5, PATH_MAX) == NULL || getcwd(tmpdir + 7, PATH_MAX) == NULL) {
        return env;
    }
    memcpy(more, env, n * sizeof *more);
    if (!has_variable(env, "HOME=")) {
        more[n++] = home;
    }
    if (!has_variable(env, "TMPDIR=")) {
        more[n] = tmpdir;
    }
    return more;
}

static _Noreturn void become_command(struct sp_command *command) {
    sp_processes_set_up_child();
    command->env = with_home(command->env);
    int rc = sp_command_limit_cpu(command);
    rc = rc != 0 ? rc : setsid() != -1 ? place_streams(command->fds) : -errno;
    if (rc != 0) {
        (void)sp_failed(failure, SP_STAGE_SPAWN, -rc, "session and streams");
    } else if (chdir(command->cwd) != 0) {
        (void)sp_failed(failure, SP_STAGE_CWD, errno, command->cwd);
    } else {
        reset_signals();
        (void)sp_failed(failure, SP_STAGE_EXEC, sp_command_search(command), command->argv[0]);
    }
    _exit(127);
}

/* ---- in the agent ---- */

/* Receives a record while a command runs. 0, or -errno when the sandbox has to end. */
static int handle_record(int control, uint32_t id) {
    struct sp_packet packet;
    int rc = sp_packet_recv(control, &packet, NULL, 0);
    if (rc != 0) {
        return rc == -EAGAIN ? 0 : rc;
    }
    sp_packet_close(&packet);
    if (packet.record.type != SP_REC_KILL) {
        return -EBADMSG;
    }
    if (packet.record.u.id.id == id) { /* a late KILL has the number of an earlier command */
        sp_processes_kill_once();
    }
    return 0;
}

static void drain_wake(void) {
    char waste[64];
    while (read(wake[0], waste, sizeof waste) == (ssize_t)sizeof waste) {
    }
}

/* Sleeps until a record or a signal arrives. 0, or -errno when the sandbox has to end. */
static int await(int control, bool *has_record) {
    struct pollfd fds[2] = {{.fd = control, .events = POLLIN}, {.fd = wake[0], .events = POLLIN}};
    int n = end_requested ? 0 : sp_poll_until(fds, 2, SP_NEVER);
    drain_wake();
    *has_record = n > 0 && fds[0].revents != 0;
    return end_requested ? -ECANCELED : n < 0 && n != -EINTR ? n : 0;
}

static int await_end(int control, pid_t pid, uint32_t id, struct outcome *outcome) {
    for (;;) {
        bool has_record = false;
        int rc = await(control, &has_record);
        rc = rc == 0 && has_record ? handle_record(control, id) : rc;
        if (rc != 0) {
            return rc;
        }
        if (wait4(pid, &outcome->status, WNOHANG, &outcome->usage) == pid) {
            return 0;
        }
    }
}

static int acknowledge(int control, uint32_t id) {
    struct sp_record record = {.type = SP_REC_ACK, .u.id.id = id};
    return sp_packet_send(control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

static uint64_t micros(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

static int report(int control, uint32_t id, const struct outcome *o) {
    struct sp_record record = {.type = SP_REC_EXITED,
                               .u.exited = {.id = id,
                                            .status = (uint32_t)o->status & 0xffff,
                                            .user_us = micros(o->usage.ru_utime),
                                            .system_us = micros(o->usage.ru_stime),
                                            .max_rss_bytes = sp_peak_bytes(&o->usage)}};
    if (failure->stage != 0) {
        record.type = SP_REC_FAILED;
        record.u.failed = *failure;
        record.u.failed.id = id;
    }
    return sp_packet_send(control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

static int run(int control, const struct sp_request *request, struct sp_command *command) {
    struct outcome outcome;
    memset(failure, 0, sizeof *failure);
    pid_t pid = fork();
    if (pid == 0) {
        become_command(command);
    }
    if (pid == -1) {
        (void)sp_failed(failure, SP_STAGE_SPAWN, errno, "fork");
        return report(control, request->exec.id, &(struct outcome){.status = 0});
    }
    int rc = await_end(control, pid, request->exec.id, &outcome);
    if (rc == 0) {
        sp_processes_kill_all(); /* the processes that it left running, before EXITED is sent */
        rc = report(control, request->exec.id, &outcome);
    }
    return rc;
}

static int serve_one(int control) {
    struct sp_request request;
    struct sp_command command;
    int rc = sp_request_recv(control, &request, &command, NULL);
    if (rc == -EAGAIN || rc == -EINTR) { /* no part of a request has arrived */
        return 0;
    }
    rc = rc == 0 && request.packet.record.type != SP_REC_EXEC ? -EBADMSG : rc;
    rc = rc != 0 ? rc : acknowledge(control, request.exec.id);
    rc = rc != 0 ? rc : run(control, &request, &command);
    sp_packet_close(&request.packet);
    sp_request_free_large();
    return rc;
}

void sp_agent_serve(int control) {
    failure = mmap(NULL, sizeof *failure, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0);
    int rc = failure == MAP_FAILED ? -ENOMEM : listen_to_signals();
    while (rc == 0) {
        bool has_record = false;
        rc = await(control, &has_record);
        rc = rc == 0 && has_record ? serve_one(control) : rc;
    }
    sp_processes_kill_all();
}
