/*
 * The creation of an agent: the host spawns it with `sandbox-exec`, sends it CONFIG, and waits for READY or FAILED.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "host/agent/agents.h"
#include "host/sandbox/launch.h"
#include "host/sandbox/strays.h"

/* The same numbers as in csrc/agent/agent.h. */
#define AGENT_CONTROL 3
#define AGENT_LIFELINE 4

static int move_up(int *fd) {
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, AGENT_LIFELINE + 6);
    if (moved == -1) {
        return -errno;
    }
    sp_fd_close(fd);
    *fd = moved;
    return 0;
}

/*
 * Uses posix_spawn, never fork, so that the cost does not grow with the host's memory. The agent starts with an empty
 * signal mask, default dispositions, a session of its own, and only the descriptors that are named here. At first its
 * stderr is the lifeline, through which the host reads the error messages of `sandbox-exec`.
 */
static int spawn_program(const struct sp_agents *l, const char *scratch, const int fds[2], pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t mask;
    size_t size = strlen(scratch) + 16;
    char root[size];
    char parameter[size];
    char home[size];
    (void)snprintf(root, size, "ROOT=%s", l->root);
    (void)snprintf(parameter, size, "SCRATCH=%s", scratch);
    (void)snprintf(home, size, "TMPDIR=%s", scratch);
    char *option[] = {(char *)(uintptr_t) "-D", (char *)(uintptr_t) "-p"};
    char *argv[] = {l->sandbox_exec,
                    option[0],
                    root,
                    option[0],
                    parameter,
                    option[1],
                    l->profile,
                    l->program,
                    (char *)(uintptr_t)scratch,
                    NULL};
    char *env[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin", home, NULL};
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
    posix_spawn_file_actions_adddup2(&actions, fds[0], AGENT_CONTROL);
    posix_spawn_file_actions_adddup2(&actions, fds[1], AGENT_LIFELINE);
    sigemptyset(&mask);
    posix_spawnattr_setsigmask(&attr, &mask);
    sigfillset(&mask);
    posix_spawnattr_setsigdefault(&attr, &mask);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID;
    posix_spawnattr_setflags(&attr, (short)(flags | sp_spawn_flags()));
    int rc = posix_spawn(pid, l->sandbox_exec, &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

static int open_ends(struct sp_session *session, int far_ends[2]) {
    int control[2];
    int lifeline[2];
    int rc = sp_stream_pair(control);
    session->control = control[0];
    far_ends[0] = control[1];
    if (rc != 0) {
        return rc;
    }
    rc = sp_pipe(lifeline);
    session->pidfd = lifeline[0];
    far_ends[1] = lifeline[1];
    if (rc == 0 && fcntl(lifeline[0], F_SETFL, O_NONBLOCK) != 0) {
        rc = -errno;
    }
    rc = rc != 0 ? rc : move_up(&far_ends[0]);
    return rc != 0 ? rc : move_up(&far_ends[1]);
}

/* Adds an agent to the list, unless the launcher is closed. */
static struct sp_agent *add_agent(struct sp_agents *l, sp_error *error) {
    struct sp_agent *a = calloc(1, sizeof *a);
    if (a == NULL) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOMEM, "memory");
        return NULL;
    }
    pthread_mutex_lock(&l->lock);
    bool closed = l->closed;
    if (!closed) {
        (void)snprintf(a->name, sizeof a->name, "s%u", ++l->last);
        a->has_session = true;
        a->next = l->list;
        l->list = a;
    }
    pthread_mutex_unlock(&l->lock);
    if (closed) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EPIPE, "the launcher is closed");
        free(a);
        return NULL;
    }
    return a;
}

/* Spawns under the lock, so that an agent is either spawned before a close, which ends it, or not at all. */
static int spawn_agent(struct sp_agents *l, struct sp_agent *a, const int far_ends[2], sp_error *error) {
    char *scratch = sp_agent_scratch_path(l, a);
    pthread_mutex_lock(&l->lock);
    int rc = scratch == NULL ? -ENOMEM : l->closed ? -EPIPE : 0;
    uint32_t stage = SP_STAGE_SCRATCH;
    if (rc == 0 && !sp_is_own(l->root_fd, &l->root_identity)) {
        rc = -EBADF;
    }
    if (rc == 0 && mkdirat(l->root_fd, a->name, 0700) != 0) {
        rc = -errno;
    }
    if (rc == 0) {
        stage = SP_STAGE_SPAWN_ZYGOTE;
        rc = spawn_program(l, scratch, far_ends, &a->pid);
    }
    pthread_mutex_unlock(&l->lock);
    free(scratch);
    return rc == 0
               ? 0
               : sp_error_set(error, SP_E_CREATE, stage, -rc, stage == SP_STAGE_SCRATCH ? l->root : l->sandbox_exec);
}

int sp_agent_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct sp_agents *l = (struct sp_agents *)launcher;
    struct sp_session *session = birth->session;
    int far_ends[2] = {-1, -1};
    session->home = ".";
    sp_agent_session(session)->agent = add_agent(l, error);
    if (sp_agent_session(session)->agent == NULL) {
        return SP_E_CREATE;
    }
    int rc = open_ends(session, far_ends);
    rc = rc != 0 ? sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "socketpair")
                 : spawn_agent(l, sp_agent_session(session)->agent, far_ends, error);
    sp_fd_close(&far_ends[0]); /* otherwise the host's ends would never see the end of file */
    sp_fd_close(&far_ends[1]);
    if (rc == 0) {
        struct sp_record config = {.type = SP_REC_CONFIG, .u.config = l->config};
        session->pid = sp_agent_session(session)->agent->pid;
        rc = sp_packet_send(session->control, &(struct sp_outgoing){.record = &config}, birth->deadline);
        /* EPIPE: the agent has ended already; sp_agent_step() reads the reason. */
        rc = rc == 0 || rc == -EPIPE ? 0 : sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, -rc, "CONFIG");
    }
    return rc;
}

/* The agent ended without sending a record. The reason is what `sandbox-exec`, or the loader, wrote to stderr. */
static int explain(const struct sp_session *session, sp_error *error) {
    char text[sizeof error->detail] = "the agent ended before it was ready";
    ssize_t n = read(session->pidfd, text, sizeof text - 1);
    if (n > 0) {
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
    }
    /* Inside another sandbox, sandbox_apply(3) is refused with this message. */
    bool refused = strstr(text, "Operation not permitted") != NULL;
    return sp_error_set(error, SP_E_CREATE, SP_STAGE_SEATBELT, refused ? EPERM : EPROTO, text);
}

/* Accepts the proved facts. Only this READY counts, as no command has run before it. */
static int take_ready(const sp_launcher *launcher, struct sp_session *session, uint32_t facts, sp_error *error) {
    char warnings[512];
    (void)!read(session->pidfd, warnings, sizeof warnings); /* from now on, readable means that the agent is dead */
    session->isolation.facts = facts;
    int rc = sp_isolation_check(launcher->demanded, &session->isolation, error);
    if (rc != 0) {
        error->stage = SP_STAGE_SEATBELT;
    }
    return rc;
}

int sp_agent_step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct sp_packet packet;
    int rc = sp_packet_recv(birth->session->control, &packet, NULL, 0);
    if (rc == -EAGAIN) {
        return SP_AGAIN;
    }
    if (rc == -ECONNRESET) {
        return explain(birth->session, error);
    }
    if (rc == 0 && packet.record.type == SP_REC_READY && packet.n_fds == 0) {
        return take_ready(launcher, birth->session, packet.record.u.ready.facts, error);
    }
    rc = rc == 0 && packet.record.type == SP_REC_FAILED
             ? sp_error_from(error, &packet.record.u.failed)
             : sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
    sp_packet_close(&packet);
    return rc;
}
