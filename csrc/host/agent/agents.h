/* What agent/launcher.c (life and end) and agent/birth.c share: the agents of one launcher. */
#ifndef SANDPOOL_HOST_AGENT_AGENTS_H
#define SANDPOOL_HOST_AGENT_AGENTS_H

#include <pthread.h>

#include "host/sandbox/launch.h"

struct sp_agent {
    struct sp_agent *next;
    pid_t pid;        /* 0: reaped */
    int64_t ended_at; /* when it was told to end; 0: it lives */
    unsigned tries;
    bool killed;          /* killed from here */
    bool has_session;     /* a session still points here */
    bool scratch_removed; /* its scratch is gone */
    char name[24];        /* of its scratch directory */
};

struct sp_agents {
    struct sp_launcher base;
    char *sandbox_exec, *profile, *program, *root;
    int root_fd;                      /* where the scratch directories are */
    struct sp_identity root_identity; /* see own.h */
    struct sp_rec_config config;
    pthread_mutex_t lock;
    struct sp_agent *list;
    uint32_t last; /* number given */
    bool closed;
};

struct sp_agent_session {
    struct sp_session base;
    struct sp_agent *agent; /* in the launcher's list; NULL: none yet */
};

static inline struct sp_agent_session *sp_agent_session(struct sp_session *session) {
    return (struct sp_agent_session *)session;
}

/* begin() and step() of its launcher. */
int sp_agent_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
int sp_agent_step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);

/* Of its scratch directory; for free(3). NULL on ENOMEM. */
char *sp_agent_scratch_path(const struct sp_agents *l, const struct sp_agent *a);

#endif
