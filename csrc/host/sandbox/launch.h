/*
 * How sandboxes are created: one launcher creates the sandboxes of one configuration. There are three launchers:
 * linux/launcher.c (with a zygote), agent/launcher.c (agents below sandbox-exec), and fake/launcher.c (for tests: it
 * needs no kernel feature, and its failures are scripted).
 *
 * A creation is a *birth*: begin() requests it, then the caller calls step() whenever birth->session->control is
 * readable, until step() returns a live session or an error. Neither waits, so one thread can attend to many births.
 * Any thread may use a launcher. A launcher whose process dies starts another one. Births that are under way are then
 * requested once more, with another control socket to poll; the launcher may delay such a request, see not_before.
 */
#ifndef SANDPOOL_HOST_SANDBOX_LAUNCH_H
#define SANDPOOL_HOST_SANDBOX_LAUNCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/clock.h"
#include "common/wire.h"
#include "host/sandbox/usage.h"
#include "host/sys/own.h"
#include "sandpool.h"

/* A birth that takes longer fails with ETIMEDOUT. */
#define SP_CREATE_TIMEOUT_NS SP_SEC(10)

/* The host's end of one sandbox. Its owner ends it with sp_session_end(). Who sends a request while the owner may end
 * it meanwhile holds a reference: the last reference closes the descriptors. A launcher that stores more about each
 * sandbox has a struct of its own that begins with this one, see session_size. */
struct sp_session {
    sp_launcher *launcher;               /* holds a reference */
    atomic_int refs;                     /* the owner's, and one for each request that is being sent */
    pthread_mutex_t sending;             /* held while a record and its payload are sent */
    struct sp_session *next;             /* in a list of sessions that end */
    int control;                         /* socket to init, to an agent, or to a test */
    int pidfd;                           /* readable once the sandbox is dead */
    struct sp_identity control_identity; /* see own.h */
    struct sp_identity pidfd_identity;
    pid_t pid;                 /* init's pid as the host sees it */
    sp_isolation isolation;    /* proved at the birth; does not change afterwards */
    uint32_t last_id;          /* id of the last EXEC that was sent */
    atomic_uint requests;      /* EXECs but for the health check's, and what was asked for after the first of them */
    atomic_bool has_processes; /* processes were started beside its commands, so that not all of `usage` is theirs */
    atomic_bool open;          /* neither FAILED nor EXITED has answered that EXEC yet */
    struct sp_usage usage;     /* up to the end of the last command, if the launcher counts it */
    bool acked;                /* init has sent ACK for that EXEC */
    bool for_runtime;          /* that EXEC is for the runtime, and its ACK brings descriptors */
    const char *home;          /* working directory of a command that names none; a literal, never freed */
    int64_t ended_at;          /* when it was killed */
    bool dead;                 /* whether its pidfd has said so, for dying.c */
    bool undead;               /* it did not die in time after that, and this was reported */
    uint32_t lease;            /* the number of its directory, if it has one on the host; 0: none */
    bool stale;                /* its interpreter has imported files that are not the same any more */
    uint32_t bindings;         /* how often its zygote had bound paths anew before the sandbox was created */
};

struct sp_birth {
    struct sp_session *session; /* not complete yet; poll its control socket */
    int64_t began, deadline;
    int64_t duration;   /* ns from begin() to the live session */
    int64_t not_before; /* the request must wait until this time, and there is no socket to poll yet; 0: requested */
    bool ready;         /* READY has come; it may come before the pidfd */
    bool retried;       /* the connection was closed without an answer, and the birth was requested again */
};

/* The health check: a command without output, whose exit status shows whether a fresh sandbox works. */
struct sp_check {
    uint32_t argc, envc;
    const char *argv, *env;
    size_t argv_len, env_len;
};

struct sp_launch_ops {
    bool has_init;          /* its sandboxes serve requests that have a reply socket, see sp_session_request() */
    size_t session_size;    /* of the launcher's own struct, which begins with struct sp_session */
    int64_t death_grace_ns; /* how long an execute waits for the death of its sandbox after kill_sandbox() */
    /* 0; SP_AGAIN with birth->not_before filled; or SP_E_CREATE with *error filled. */
    int (*begin)(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
    /* 0: the sandbox lives, and the caller owns *birth->session; SP_AGAIN: not yet; SP_E_CREATE: failed. */
    int (*step)(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
    /* May be NULL, as may the next one. Whether the process that was to create this session's sandbox has died. */
    bool (*process_died)(const struct sp_session *session);
    /* A birth has reached its deadline without an answer. SP_AGAIN: the deadline is a later one now; or SP_E_CREATE,
     * with a reason that is better than the one in *error, if there is one. */
    int (*birth_timed_out)(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
    /* Starts the check; waits until the deadline if the socket has no room for it. 0 or -errno. */
    int (*check_begin)(struct sp_session *session, const struct sp_check *check, int64_t deadline);
    /* SP_AGAIN, or 0 with the wait status in *status, or -errno: the sandbox is not usable. */
    int (*check_step)(struct sp_session *session, int *status);
    /* Asks init to kill the command of the last EXEC and to report its end. Does not wait. */
    void (*kill_command)(struct sp_session *session);
    /* Asks init to watch the memory of that command. Does not wait. */
    void (*watch_memory)(struct sp_session *session);
    /* Kills what runs in the sandbox, if anything does; does not wait. The caller closes the session's fds. */
    void (*kill_sandbox)(struct sp_session *session);
    /* Each of the next ones may be NULL, up to `shutdown`. Whether the host's paths lead to what this sandbox shows. */
    bool (*is_current)(const struct sp_session *session);
    /* Attaches a workspace, and waits for that until the deadline. 0, or SP_E_* with *error filled. */
    int (*attach)(struct sp_session *session, const sp_workspace *workspace, int64_t deadline, sp_error *error);
    /* What the sandbox has used so far; 0 or -errno. */
    int (*usage)(struct sp_session *session, struct sp_usage *usage);
    /* Starts the launcher's process anew, beside the one that serves, if *number is 0, and sets it. SP_AGAIN until the
     * new one has taken its place; 0; or SP_E_CREATE: it could not start, and the old one serves on. */
    int (*renew)(sp_launcher *launcher, uint32_t *number, sp_error *error);
    /* A birth has failed at the stage `preload`, and this text explains it. */
    void (*note)(sp_launcher *launcher, const char *text, size_t len);
    /* The text that explains the latest failure at the stage `preload`: copies up to `size` bytes of it, and returns
     * their number. */
    size_t (*diagnostics)(sp_launcher *launcher, char *into, size_t size);
    /* The session ends: releases what the launcher holds for it. */
    void (*release)(struct sp_session *session);
    /* The pid of the launcher's process; 0 while there is none. */
    int64_t (*pid)(sp_launcher *launcher);
    /* The controllers (SP_CGROUP_*) that enforce the limits of its sandboxes. */
    uint32_t (*cgroup)(sp_launcher *launcher);
    /* Housekeeping, called by the janitor. True while there will be more to do soon. */
    bool (*tend)(sp_launcher *launcher);
    /* Ends the launcher's own process, and waits for its death until the deadline. Later calls of begin() fail. */
    void (*shutdown)(sp_launcher *launcher, int64_t deadline);
    void (*free)(sp_launcher *launcher);
};

/* It has two counts: the memory lives while there are `refs` (each session holds one, too), the launcher's process
 * lives while there are `pools`. */
struct sp_launcher {
    const struct sp_launch_ops *ops;
    atomic_int refs;
    atomic_int pools;
    int64_t preload_ns;               /* how much longer a birth may take, because the interpreter starts */
    uint32_t demanded;                /* SP_FACT_*: a sandbox that lacks one of them is not handed out */
    _Atomic uint64_t restarts;        /* processes that replaced a dead one, and then created a sandbox */
    struct sp_session *_Atomic dying; /* a stack of killed sandboxes that no pool has checked yet, see dying.c */
    atomic_uint undead;               /* sandboxes that did not die within SP_UNDEAD_NS after the kill */
    atomic_uint checkers;             /* pools that check whether killed sandboxes have died */
    atomic_uint single; /* sandboxes in a row, up to a bound, that have ended after one request: a command */
};

/* ---- launch.c ---- */
void sp_launcher_ref(sp_launcher *launcher);
/* A pool begins to use the launcher, and gets a reference. The last pool that leaves shuts the launcher down; each pool
 * keeps its reference until sp_launcher_unref(). */
void sp_launcher_enter(sp_launcher *launcher);
void sp_launcher_leave(sp_launcher *launcher, int64_t deadline);

/* ---- birth.c ---- */
/* Calls begin() with a new session, and sets the deadline. */
int sp_birth_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
/* Calls step(). Fails at the deadline; requests the birth again from the next process when the launcher's has died. */
int sp_birth_step(struct sp_birth *birth, sp_error *error);
/* Calls step() and waits, in turns. SP_AGAIN when a signal has come or `slice_end` has passed. */
int sp_birth_wait(struct sp_birth *birth, int64_t slice_end, sp_error *error);
void sp_birth_abandon(struct sp_birth *birth);

/* ---- control.c: begin() and step() over the socket of a zygote, for launchers that have one ---- */
/* `cgroup`: the directory of the cgroup that the sandbox is created in, borrowed; -1: none. */
int sp_birth_request(int zygote_sock, int cgroup, struct sp_birth *birth, sp_error *error);
int sp_birth_receive(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
/* A pair of sockets. The first is the host's: it reports the sender of each packet. 0 or -errno. Also after a failure
 * each end is -1 or open, and the caller closes both. */
int sp_control_pair(int pair[2]);

/* ---- isolation.c ---- */
/* The facts that must be proved; `by_cgroup`: the limits that a cgroup enforces, SP_CGROUP_*. */
uint32_t sp_facts_demanded(const sp_sandbox_options *options, uint32_t by_cgroup);
/* The same in the Landlock tier, where limits of a cgroup do not count: its facts are few. */
uint32_t sp_facts_demanded_of_tier(const sp_sandbox_options *options, bool lease_uids);
uint32_t sp_facts_demanded_of_agent(const sp_agent_options *options);
/* 0, or SP_E_CREATE with the first missing fact in *error. */
int sp_isolation_check(uint32_t demanded, const sp_isolation *proved, sp_error *error);

/* ---- session.c ---- */
/* Whether both descriptors are still ours. If not, the host can neither send to the sandbox nor kill it by pidfd. */
bool sp_session_is_whole(const struct sp_session *session);
/* NULL on ENOMEM. */
struct sp_session *sp_session_new(sp_launcher *launcher);
/* Kills the sandbox and gives up the owner's reference. Never waits. Does nothing on NULL. */
void sp_session_end(struct sp_session *session);
/* The last one ends the session: its descriptors are closed, and a pool checks that the sandbox dies, see dying.c. */
void sp_session_unref(struct sp_session *session);
/* Frees the memory of an ended session, and closes its pidfd. */
void sp_session_free(struct sp_session *session);

/* ---- dying.c ---- */
/* A killed sandbox should be dead after this time. Its death takes a few ms, or about 100 ms if it has much memory. */
#define SP_UNDEAD_NS SP_SEC(2)
/* notify() is called when a sandbox becomes undead, and when an undead one dies. */
struct sp_dying_observer {
    void (*notify)(void *arg, const struct sp_session *session, bool undead);
    void *arg;
};
/* Called by sp_session_end() with a killed session whose control socket is closed. The caller gives back the session's
 * reference on the launcher. */
void sp_dying_add(struct sp_session *session);
/* Moves what was added to the caller's list, and removes the dead ones. Returns the time since the latest kill among
 * those that are left, or SP_NEVER if none is left. */
int64_t sp_dying_check(sp_launcher *launcher, struct sp_session **list, const struct sp_dying_observer *observer);
/* This pool will not check any more. */
void sp_dying_leave(sp_launcher *launcher, struct sp_session **list);
/* Frees these sessions and all those that were added since, dead or not. */
void sp_dying_drop(sp_launcher *launcher, struct sp_session **list);

/* ---- error.c ---- */
/* Fills *error and returns `code`. detail may be NULL. */
int sp_error_set(sp_error *error, int code, uint32_t stage, int err, const char *detail);
/* Fills *error from a FAILED record of the zygote or init. Returns SP_E_CREATE. */
int sp_error_from(sp_error *error, const struct sp_rec_failed *why);

#endif
