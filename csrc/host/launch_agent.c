/*
 * The launcher for systems without namespaces: each sandbox is an agent (csrc/agent) that is spawned below
 * `sandbox-exec`, with a scratch directory of its own. It serves as init does; what differs is how it is born and how
 * it ends.
 *
 * An agent is told of its end by SIGTERM: it kills what runs there and exits. One that does not, because its tenant
 * stopped or killed it, is killed from here, and what it left is looked for. All of it is the janitor's work (tend()),
 * or that of whoever closes the pool; until then an entry stays in the list. Its pid is reaped here only, so that no
 * other process can have the number while a signal is sent to it.
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "host/launch.h"
#include "host/launch_agent.h"
#include "host/scratch.h"
#include "host/session.h"

/* As agent.h has them. */
#define AGENT_CONTROL 3
#define AGENT_LIFELINE 4
/* An agent that is told to end has this long; it needs a few ms. */
#define GRACE_NS (500 * INT64_C(1000000))
/* Entries of a scratch directory that one look removes, and how often it is tried. */
#define SCRATCH_BUDGET 512
#define SCRATCH_TRIES 4096
#define CLOSE_LOOK_NS 1000000

struct sp_agent {
    struct sp_agent *next;
    pid_t pid;        /* 0: reaped */
    int64_t ended_at; /* when it was told to end; 0: it lives */
    unsigned tries;
    bool struck;   /* killed from here */
    bool owned;    /* a session still points here */
    bool removed;  /* its scratch is gone */
    char name[24]; /* of its scratch directory */
};

struct agents {
    struct sp_launcher base;
    char *sandbox_exec, *profile, *program, *root;
    int root_fd; /* where the scratch directories are */
    struct sp_rec_config config;
    pthread_mutex_t lock;
    struct sp_agent *list;
    uint32_t last; /* number given */
    bool closed;
};

/* ---- the life of an entry; under the lock ---- */

static void tell_to_end(struct sp_agent *a) {
    if (a->ended_at == 0) {
        a->ended_at = sp_now();
        if (a->pid != 0) {
            (void)kill(a->pid, SIGTERM);
        }
    }
}

static void strike(struct sp_agent *a) {
    if (a->pid != 0 && !a->struck) {
        a->struck = true;
        (void)kill(-a->pid, SIGKILL); /* its process group, and a command that has not left it yet */
        (void)kill(a->pid, SIGKILL);
    }
}

static char *scratch_path(const struct agents *l, const struct sp_agent *a) {
    size_t size = strlen(l->root) + sizeof a->name + 2;
    char *path = malloc(size);
    if (path != NULL) {
        (void)snprintf(path, size, "%s/%s", l->root, a->name);
    }
    return path;
}

/* An agent that ended by itself, as told or for its own reasons, has left nobody; of another one that is not known. */
static void reap(const struct agents *l, struct sp_agent *a) {
    int status = 0;
    pid_t ended = a->pid != 0 ? waitpid(a->pid, &status, WNOHANG) : 0;
    if (ended == 0 || (ended == -1 && errno == EINTR)) {
        return;
    }
    a->pid = 0; /* also when somebody else of this process has reaped it */
    a->ended_at = a->ended_at != 0 ? a->ended_at : sp_now();
    if (ended == -1 || !WIFEXITED(status)) {
        char *path = scratch_path(l, a);
        if (path != NULL) {
            sp_kill_strays(path);
        }
        free(path);
    }
}

/* True when there is nothing left to do but to free it. */
static bool bury(const struct agents *l, struct sp_agent *a) {
    reap(l, a);
    if (a->pid != 0) {
        if (sp_now() - a->ended_at > GRACE_NS) {
            strike(a);
        }
        return false;
    }
    if (!a->removed) {
        bool more = sp_scratch_remove(l->root_fd, a->name, SCRATCH_BUDGET);
        a->removed = !more || ++a->tries == SCRATCH_TRIES;
    }
    return a->removed;
}

/* Attends to those that are ending. True while there are some. */
static bool bury_ended(struct agents *l) {
    bool more = false;
    for (struct sp_agent **at = &l->list; *at != NULL;) {
        struct sp_agent *a = *at;
        bool done = a->ended_at != 0 && bury(l, a);
        if (done && !a->owned) {
            *at = a->next;
            free(a);
            continue;
        }
        more = more || (a->ended_at != 0 && !done);
        at = &a->next;
    }
    return more;
}

/* ---- birth ---- */

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
 * posix_spawn, never fork: its cost does not grow with the host's memory. The agent starts with an empty signal mask,
 * default dispositions, a session of its own, and the descriptors that are named here. Its stderr is the lifeline at
 * first: what `sandbox-exec` has to say comes to the host by it.
 */
static int spawn(const struct agents *l, const char *scratch, const int fds[2], pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t mask;
    size_t size = strlen(scratch) + 16;
    char parameter[size];
    char home[size];
    (void)snprintf(parameter, size, "SCRATCH=%s", scratch);
    (void)snprintf(home, size, "TMPDIR=%s", scratch);
    char *argv[] = {l->sandbox_exec, (char *)(uintptr_t) "-D",   parameter, (char *)(uintptr_t) "-p", l->profile,
                    l->program,      (char *)(uintptr_t)scratch, NULL};
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

/* Enters it in the list, unless the launcher is closed. */
static struct sp_agent *enter(struct agents *l, sp_error *error) {
    struct sp_agent *a = calloc(1, sizeof *a);
    if (a == NULL) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOMEM, "memory");
        return NULL;
    }
    pthread_mutex_lock(&l->lock);
    bool closed = l->closed;
    if (!closed) {
        (void)snprintf(a->name, sizeof a->name, "s%u", ++l->last);
        a->owned = true;
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

/* Spawned under the lock: an entry is either told of a close, or not born. */
static int give_birth(struct agents *l, struct sp_agent *a, const int far_ends[2], sp_error *error) {
    char *scratch = scratch_path(l, a);
    pthread_mutex_lock(&l->lock);
    int rc = scratch == NULL ? -ENOMEM : l->closed ? -EPIPE : 0;
    uint32_t stage = SP_STAGE_SCRATCH;
    if (rc == 0 && mkdirat(l->root_fd, a->name, 0700) != 0) {
        rc = -errno;
    }
    if (rc == 0) {
        stage = SP_STAGE_SPAWN_ZYGOTE;
        rc = spawn(l, scratch, far_ends, &a->pid);
    }
    pthread_mutex_unlock(&l->lock);
    free(scratch);
    return rc == 0
               ? 0
               : sp_error_set(error, SP_E_CREATE, stage, -rc, stage == SP_STAGE_SCRATCH ? l->root : l->sandbox_exec);
}

static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct agents *l = (struct agents *)launcher;
    struct sp_session *session = birth->session;
    int far_ends[2] = {-1, -1};
    session->home = ".";
    session->agent = enter(l, error);
    if (session->agent == NULL) {
        return SP_E_CREATE;
    }
    int rc = open_ends(session, far_ends);
    rc = rc != 0 ? sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "socketpair")
                 : give_birth(l, session->agent, far_ends, error);
    sp_fd_close(&far_ends[0]); /* else their ends of file would never come */
    sp_fd_close(&far_ends[1]);
    if (rc == 0) {
        struct sp_record config = {.type = SP_REC_CONFIG, .u.config = l->config};
        session->pid = session->agent->pid;
        rc = sp_packet_send(session->control, &(struct sp_outgoing){.record = &config}, birth->deadline);
        /* EPIPE: it ended already, and has said why. */
        rc = rc == 0 || rc == -EPIPE ? 0 : sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, -rc, "CONFIG");
    }
    return rc;
}

/* It ended without a word of the agent's: the reason is what `sandbox-exec`, or the loader, wrote to its stderr. */
static int explain(const struct sp_session *session, sp_error *error) {
    char text[sizeof error->detail] = "the agent ended before it was ready";
    ssize_t n = read(session->pidfd, text, sizeof text - 1);
    if (n > 0) {
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
    }
    /* sandbox_apply(3) is refused inside another sandbox. */
    bool refused = strstr(text, "Operation not permitted") != NULL;
    return sp_error_set(error, SP_E_CREATE, SP_STAGE_SEATBELT, refused ? EPERM : EPROTO, text);
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct sp_packet packet;
    (void)launcher;
    int rc = sp_packet_recv(birth->session->control, &packet, NULL, 0);
    if (rc == -EAGAIN) {
        return SP_AGAIN;
    }
    if (rc == -ECONNRESET) {
        return explain(birth->session, error);
    }
    if (rc != 0 || packet.record.type != SP_REC_READY || packet.n_fds != 0) {
        rc = rc == 0 && packet.record.type == SP_REC_FAILED
                 ? sp_error_from(error, &packet.record.u.failed)
                 : sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
    } else {
        char warnings[512];
        (void)!read(birth->session->pidfd, warnings, sizeof warnings); /* from now on readable means dead */
    }
    sp_packet_close(&packet);
    return rc;
}

/* ---- what a session asks for ---- */

static void interrupt(struct sp_session *session) {
    struct sp_record record = {.type = SP_REC_KILL, .u.id.id = session->last_id};
    (void)sp_packet_send(session->control, &(struct sp_outgoing){.record = &record}, sp_now());
}

/* Nothing watches the memory here. */
static void watch(struct sp_session *session) { (void)session; }

static void kill_sandbox(struct sp_session *session) {
    struct agents *l = (struct agents *)session->launcher;
    if (session->agent != NULL) {
        pthread_mutex_lock(&l->lock);
        tell_to_end(session->agent);
        pthread_mutex_unlock(&l->lock);
    }
}

static void forget(struct sp_session *session) {
    struct agents *l = (struct agents *)session->launcher;
    if (session->agent != NULL) {
        pthread_mutex_lock(&l->lock);
        session->agent->owned = false;
        if (l->closed) {
            (void)bury_ended(l);
        }
        pthread_mutex_unlock(&l->lock);
        session->agent = NULL;
    }
}

static bool tend(sp_launcher *launcher) {
    struct agents *l = (struct agents *)launcher;
    pthread_mutex_lock(&l->lock);
    bool more = bury_ended(l);
    pthread_mutex_unlock(&l->lock);
    return more;
}

/* Ends every agent, used or not; sessions may still point to their entries, which then only wait to be forgotten. */
static void shut_down(sp_launcher *launcher, int64_t deadline) {
    struct agents *l = (struct agents *)launcher;
    const struct timespec look = {.tv_nsec = CLOSE_LOOK_NS};
    const int64_t last = sp_now() + 2 * GRACE_NS; /* a signal that kills needs no more */
    bool more = true;
    while (more) {
        pthread_mutex_lock(&l->lock);
        l->closed = true;
        for (struct sp_agent *a = l->list; a != NULL; a = a->next) {
            tell_to_end(a);
            if (sp_now() >= deadline) {
                strike(a);
            }
        }
        more = bury_ended(l) && (sp_now() < deadline || sp_now() < last);
        pthread_mutex_unlock(&l->lock);
        if (more) {
            (void)nanosleep(&look, NULL);
        }
    }
}

static void free_agents(sp_launcher *launcher) {
    struct agents *l = (struct agents *)launcher;
    for (struct sp_agent *a; (a = l->list) != NULL;) {
        l->list = a->next;
        free(a);
    }
    if (l->root_fd != -1) {
        (void)rmdir(l->root); /* empty, unless something in it could not be removed */
    }
    sp_fd_close(&l->root_fd);
    pthread_mutex_destroy(&l->lock);
    free(l->sandbox_exec);
    free(l->profile);
    free(l->program);
    free(l->root);
    free(l);
}

static const struct sp_launch_ops agent_ops = {
    .begin = begin,
    .step = step,
    .check_begin = sp_session_check_begin,
    .check_step = sp_session_check_step,
    .interrupt = interrupt,
    .watch = watch,
    .kill = kill_sandbox,
    .forget = forget,
    .tend = tend,
    .shutdown = shut_down,
    .free = free_agents,
};

sp_launcher *sp_agents_open(const sp_agent_options *o, sp_error *error) {
    struct agents *l = calloc(1, sizeof *l);
    if (l == NULL || o->size != sizeof *o) {
        free(l);
        (void)sp_error_set(error, l == NULL ? SP_E_NOMEM : SP_E_INVAL, SP_STAGE_NONE, 0, NULL);
        return NULL;
    }
    l->base = (struct sp_launcher){.ops = &agent_ops, .refs = 1};
    l->config = (struct sp_rec_config){.memory_bytes = o->memory_bytes, .scratch_bytes = o->scratch_bytes};
    pthread_mutex_init(&l->lock, NULL);
    l->sandbox_exec = strdup(o->sandbox_exec);
    l->profile = strdup(o->profile);
    l->program = strdup(o->program);
    l->root = strdup(o->scratch_root);
    l->root_fd = l->root != NULL ? open(l->root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (l->sandbox_exec == NULL || l->profile == NULL || l->program == NULL || l->root_fd == -1) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_SCRATCH, errno, o->scratch_root);
        free_agents(&l->base);
        return NULL;
    }
    return &l->base;
}
