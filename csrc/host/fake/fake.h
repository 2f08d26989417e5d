/* The launcher for tests, as launcher.c and controls.c see it. */
#ifndef SANDPOOL_HOST_FAKE_FAKE_H
#define SANDPOOL_HOST_FAKE_FAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/sandbox/launch.h"

#define MAX_NODES 4096

/* The thread's side of one fake sandbox. */
struct node {
    int control;
    int death;   /* readable once it was killed */
    int64_t due; /* when its birth is answered; 0: answered */
    bool failing;
};

/* The host's side, from READY to its end. */
struct alive {
    struct sp_session *session;
    int64_t pid;
};

struct fake {
    struct sp_launcher base;
    int sock;     /* the host's end */
    int far_sock; /* the thread's */
    int wake[2];  /* a pipe: settings have changed */
    pthread_t thread;
    bool running;
    struct node nodes[MAX_NODES]; /* the thread's alone */
    unsigned n_nodes;

    pthread_mutex_t lock;
    struct alive alive[MAX_NODES];
    unsigned n_alive;
    int64_t next_pid;
    uint64_t created;
    uint32_t skip, fail;
    int fail_stage, fail_errno;
    int64_t delay;
    bool serial;      /* one birth after the other */
    int64_t last_due; /* of these */
    bool mute;        /* commands are not answered */
    bool hold;
    bool undead; /* kills do not work */
    bool crash;
    int exit_code;
};

/* By session, or by pid when session is NULL. Under the lock. */
bool sp_fake_remove_alive(struct fake *f, const struct sp_session *session, int64_t pid);

#endif
