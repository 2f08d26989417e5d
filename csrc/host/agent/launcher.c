/*
 * The launcher for systems without namespaces: each sandbox is an agent (csrc/agent), spawned with `sandbox-exec`, with
 * a scratch directory of its own. It serves requests as init does; only its creation and its end differ.
 *
 * To end an agent, the launcher sends SIGTERM: the agent kills the processes of its sandbox and exits. If it does not,
 * because its tenant has stopped or killed it, the launcher kills it and looks for the processes that are left. That is
 * done by the janitor (tend()), or by whoever closes the pool; until then the entry stays in the list. Only this file
 * reaps the pid, so that no other process can get the number while a signal is sent to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "host/agent/agents.h"
#include "host/sandbox/launch.h"
#include "host/sandbox/scratch.h"
#include "host/sandbox/scratch_root.h"
#include "host/sandbox/session.h"
#include "host/sandbox/strays.h"

/* The time that an agent gets to end by itself; it needs a few ms. */
#define GRACE_NS SP_MS(500)
/* How many entries of a scratch directory are removed at a time, and how many times that is done. */
#define SCRATCH_BUDGET 512
#define SCRATCH_TRIES 4096
#define CLOSE_LOOK_NS SP_MS(1)

/* ---- the end of an agent; called under the lock ---- */

static void request_end(struct sp_agent *a) {
    if (a->ended_at == 0) {
        a->ended_at = sp_now();
        if (a->pid != 0) {
            (void)kill(a->pid, SIGTERM);
        }
    }
}

static void kill_agent(struct sp_agent *a) {
    if (a->pid != 0 && !a->killed) {
        a->killed = true;
        (void)kill(-a->pid, SIGKILL); /* its process group, including a command that has not called setsid() yet */
        (void)kill(a->pid, SIGKILL);
    }
}

char *sp_agent_scratch_path(const struct sp_agents *l, const struct sp_agent *a) {
    size_t size = strlen(l->root) + sizeof a->name + 2;
    char *path = malloc(size);
    if (path != NULL) {
        (void)snprintf(path, size, "%s/%s", l->root, a->name);
    }
    return path;
}

/* Reaps the agent if it has ended. An agent that has exited by itself has left no processes behind; one that was killed
 * may have. */
static void reap(const struct sp_agents *l, struct sp_agent *a) {
    int status = 0;
    pid_t ended = a->pid != 0 ? waitpid(a->pid, &status, WNOHANG) : 0;
    if (ended == 0 || (ended == -1 && errno == EINTR)) {
        return;
    }
    a->pid = 0; /* also when other code in this process has reaped it */
    a->ended_at = a->ended_at != 0 ? a->ended_at : sp_now();
    if (ended == -1 || !WIFEXITED(status)) {
        char *path = sp_agent_scratch_path(l, a);
        if (path != NULL) {
            sp_kill_strays(path);
        }
        free(path);
    }
}

/* Continues to end an agent. True when only its entry is left, to be freed. */
static bool finish_end(const struct sp_agents *l, struct sp_agent *a) {
    reap(l, a);
    if (a->pid != 0) {
        if (sp_now() - a->ended_at > GRACE_NS) {
            kill_agent(a);
        }
        return false;
    }
    if (!a->scratch_removed && !sp_is_own(l->root_fd, &l->root_identity)) {
        a->scratch_removed = true; /* given up: the sweep of a later start removes it */
    }
    if (!a->scratch_removed) {
        bool more = sp_scratch_remove(l->root_fd, a->name, SCRATCH_BUDGET);
        a->scratch_removed = !more || ++a->tries == SCRATCH_TRIES;
    }
    return a->scratch_removed;
}

/* Continues to end the agents that are ending. True while there are any. */
static bool finish_ended(struct sp_agents *l) {
    bool more = false;
    for (struct sp_agent **at = &l->list; *at != NULL;) {
        struct sp_agent *a = *at;
        bool done = a->ended_at != 0 && finish_end(l, a);
        if (done && !a->has_session) {
            *at = a->next;
            free(a);
            continue;
        }
        more = more || (a->ended_at != 0 && !done);
        at = &a->next;
    }
    return more;
}

/* ---- operations on a session ---- */

static void kill_command(struct sp_session *session) { sp_session_send_kill(session); }

/* Nothing watches the memory here. */
static void watch_memory(struct sp_session *session) { (void)session; }

static void kill_sandbox(struct sp_session *session) {
    struct sp_agents *l = (struct sp_agents *)session->launcher;
    if (sp_agent_session(session)->agent != NULL) {
        pthread_mutex_lock(&l->lock);
        request_end(sp_agent_session(session)->agent);
        pthread_mutex_unlock(&l->lock);
    }
}

static void release(struct sp_session *session) {
    struct sp_agents *l = (struct sp_agents *)session->launcher;
    if (sp_agent_session(session)->agent != NULL) {
        pthread_mutex_lock(&l->lock);
        sp_agent_session(session)->agent->has_session = false;
        if (l->closed) {
            (void)finish_ended(l);
        }
        pthread_mutex_unlock(&l->lock);
        sp_agent_session(session)->agent = NULL;
    }
}

static bool tend(sp_launcher *launcher) {
    struct sp_agents *l = (struct sp_agents *)launcher;
    pthread_mutex_lock(&l->lock);
    bool more = finish_ended(l);
    pthread_mutex_unlock(&l->lock);
    return more;
}

/* Ends every agent. Sessions may still point to entries; release() frees those later. */
static void shut_down(sp_launcher *launcher, int64_t deadline) {
    struct sp_agents *l = (struct sp_agents *)launcher;
    const struct timespec look = {.tv_nsec = CLOSE_LOOK_NS};
    const int64_t last = sp_now() + 2 * GRACE_NS; /* an agent dies from SIGKILL in less time */
    bool more = true;
    while (more) {
        pthread_mutex_lock(&l->lock);
        l->closed = true;
        for (struct sp_agent *a = l->list; a != NULL; a = a->next) {
            request_end(a);
            if (sp_now() >= deadline) {
                kill_agent(a);
            }
        }
        more = finish_ended(l) && (sp_now() < deadline || sp_now() < last);
        pthread_mutex_unlock(&l->lock);
        if (more) {
            (void)nanosleep(&look, NULL);
        }
    }
}

static void free_agents(sp_launcher *launcher) {
    struct sp_agents *l = (struct sp_agents *)launcher;
    for (struct sp_agent *a; (a = l->list) != NULL;) {
        l->list = a->next;
        free(a);
    }
    if (l->root_fd >= 0) {
        (void)rmdir(l->root); /* fails if something in it could not be removed: the next sweep tries again */
        sp_close_own(&l->root_fd, &l->root_identity);
    }
    pthread_mutex_destroy(&l->lock);
    free(l->sandbox_exec);
    free(l->profile);
    free(l->program);
    free(l->root);
    free(l);
}

/* .death_grace_ns is longer than GRACE_NS, after which an agent that has not ended by itself is killed. */
static const struct sp_launch_ops agent_ops = {
    .session_size = sizeof(struct sp_agent_session),
    .death_grace_ns = SP_MS(800),
    .begin = sp_agent_begin,
    .step = sp_agent_step,
    .check_begin = sp_session_check_begin,
    .check_step = sp_session_check_step,
    .kill_command = kill_command,
    .watch_memory = watch_memory,
    .kill_sandbox = kill_sandbox,
    .release = release,
    .tend = tend,
    .shutdown = shut_down,
    .free = free_agents,
};

sp_launcher *sp_agents_open(const sp_agent_options *o, sp_error *error) {
    struct sp_agents *l = calloc(1, sizeof *l);
    if (l == NULL || o->size != sizeof *o) {
        free(l);
        (void)sp_error_set(error, l == NULL ? SP_E_NOMEM : SP_E_INVAL, SP_STAGE_NONE, 0, NULL);
        return NULL;
    }
    l->base = (struct sp_launcher){.ops = &agent_ops, .refs = 1, .demanded = sp_facts_demanded_of_agent(o)};
    l->config = (struct sp_rec_config){.flags = o->network == SP_NET_HOST ? SP_CONFIG_NET_HOST : 0,
                                       .memory_bytes = o->memory_bytes,
                                       .scratch_bytes = o->scratch_bytes};
    pthread_mutex_init(&l->lock, NULL);
    l->sandbox_exec = strdup(o->sandbox_exec);
    l->profile = strdup(o->profile);
    l->program = strdup(o->program);
    sp_scratch_root_sweep(o->scratch_parent);
    l->root_fd = sp_scratch_root_make(o->scratch_parent, &l->root);
    l->root_identity = l->root_fd >= 0 ? sp_identity_of(l->root_fd) : (struct sp_identity){0};
    int rc = l->root_fd < 0                                                        ? l->root_fd
             : l->sandbox_exec == NULL || l->profile == NULL || l->program == NULL ? -ENOMEM
                                                                                   : 0;
    if (rc != 0) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_SCRATCH, -rc, o->scratch_parent);
        free_agents(&l->base);
        return NULL;
    }
    return &l->base;
}
