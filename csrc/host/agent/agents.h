/* The agents of one launcher. launcher.c implements their life and end, birth.c their creation. */
#ifndef SANDPOOL_HOST_AGENT_AGENTS_H
#define SANDPOOL_HOST_AGENT_AGENTS_H

#include <pthread.h>

#include "host/sandbox/launch.h"

struct sp_agent {
    struct sp_agent *next;
    pid_t pid;        /* 0: reaped */
    int64_t ended_at; /* when its end was requested, or noticed; 0: it lives */
    unsigned tries;
    bool killed;          /* with SIGKILL, by this process */
    bool has_session;     /* a session still points to this entry */
    bool scratch_removed; /* or given up */
    char name[24];        /* of its scratch directory */
};

struct sp_agents {
    struct sp_launcher base;
    char *sandbox_exec, *profile, *program, *root;
    int root_fd;                      /* the directory that holds the scratch directories */
    struct sp_identity root_identity; /* see own.h */
    struct sp_rec_config config;
    pthread_mutex_t lock;
    struct sp_agent *list;
    uint32_t last; /* the last number that was given to an agent */
    bool closed;
};

struct sp_agent_session {
    struct sp_session base;
    struct sp_agent *agent; /* an entry of the launcher's list; NULL: none yet */
};

static inline struct sp_agent_session *sp_agent_session(struct sp_session *session) {
    return (struct sp_agent_session *)session;
}

/* The operations begin() and step() of the launcher. */
int sp_agent_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
int sp_agent_step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);

/* The path of the agent's scratch directory, for the caller to free(3). NULL on ENOMEM. */
char *sp_agent_scratch_path(const struct sp_agents *l, const struct sp_agent *a);

#endif
