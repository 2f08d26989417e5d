/* The state of the fake launcher: launcher.c runs it, and controls.c changes its settings. */
#ifndef SANDPOOL_HOST_FAKE_FAKE_H
#define SANDPOOL_HOST_FAKE_FAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/sandbox/launch.h"

#define SP_FAKE_NODES 4096

/* One fake sandbox as the thread sees it. */
struct sp_fake_node {
    int control;
    int death;    /* readable once the sandbox was killed */
    int process;  /* the process socket of a process that does not end; -1: none */
    int64_t due;  /* when the thread answers its birth; 0: answered */
    bool failing; /* the answer is FAILED */
};

/* One fake sandbox as the host sees it, from READY to its end. */
struct sp_fake_alive {
    struct sp_session *session;
    int64_t pid;
};

struct sp_fake {
    struct sp_launcher base;
    int sock;     /* the host's end of the zygote's socket */
    int far_sock; /* the thread's end */
    int wake[2];  /* a pipe that wakes the thread when settings have changed */
    pthread_t thread;
    bool running;
    struct sp_fake_node nodes[SP_FAKE_NODES]; /* only the thread uses them */
    unsigned n_nodes;

    pthread_mutex_t lock;
    struct sp_fake_alive alive[SP_FAKE_NODES];
    unsigned n_alive;
    int64_t next_pid;
    uint64_t created;
    uint32_t skip, fail; /* the next `skip` births succeed, and `fail` births after them fail */
    int fail_stage, fail_errno;
    int64_t delay;    /* from a request to its answer */
    bool serial;      /* each birth begins when the one before it was answered */
    int64_t last_due; /* when the latest birth is answered */
    bool mute;        /* commands are not answered */
    bool hold;        /* births are not answered */
    bool undead;      /* kills do not work */
    bool crash;       /* the zygote is to die */
    int exit_code;    /* of each command */
};

/* Kills a fake sandbox, unless kills do not work, and removes it from `alive`: that of the session, or the one with the
 * pid if session is NULL. False if there is none. Called under the lock. */
bool sp_fake_remove_alive(struct sp_fake *f, const struct sp_session *session, int64_t pid);

#endif
