/*
 * How sandboxes come to be: one launcher makes sandboxes of one configuration. The implementation is chosen by file:
 * linux/launcher.c (zygote), agent/launcher.c with agent/strays_darwin.c (agents below sandbox-exec), fake/launcher.c
 * (tests; no kernel feature, scripted failures).
 *
 * A creation is a *birth*: begin() asks for it, then step() is called whenever birth->session->control is readable,
 * until it yields a live session or an error. Neither waits, so one thread can attend to many. Any thread may use a
 * launcher. A launcher whose process dies starts another: births under way are asked for once more, and it may put
 * off asking; what is polled changes then.
 */
#ifndef SANDPOOL_HOST_SANDBOX_LAUNCH_H
#define SANDPOOL_HOST_SANDBOX_LAUNCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/clock.h"
#include "common/wire.h"
#include "host/sandbox/usage.h"
#include "host/sys/own.h"
#include "sandpool.h"

/* Creating one sandbox may take this long, then it fails with ETIMEDOUT. */
#define SP_CREATE_TIMEOUT_NS SP_SEC(10)

/* The host's end of one sandbox. Owned by whoever holds the pointer; ended by sp_session_end(). A launcher that keeps
 * more about each sandbox has a struct of its own that begins with this one, see session_size. */
struct sp_session {
    sp_launcher *launcher;               /* holds a reference */
    struct sp_session *next;             /* in a list of sessions to end */
    int control;                         /* socket to init, or to what stands for it */
    int pidfd;                           /* readable once the sandbox is dead */
    struct sp_identity control_identity; /* see own.h */
    struct sp_identity pidfd_identity;
    pid_t pid;              /* init's pid as the host sees it */
    sp_isolation isolation; /* proved at its birth; never changed after it */
    uint32_t last_id;       /* of the last EXEC sent */
    bool open;              /* it has not been answered by FAILED or EXITED yet */
    struct sp_usage usage;  /* up to the last command, where the launcher counts it */
    bool acked;             /* init has confirmed it */
    const char *home;       /* where a command runs when it does not say where; never freed */
    int64_t ended_at;       /* when it was killed */
    bool undead;            /* and is not dead although it should be: that was told */
};

struct sp_birth {
    struct sp_session *session; /* half-made; its control socket is what to poll */
    int64_t deadline;
    int64_t took;       /* once it is alive: ns since begin() */
    int64_t not_before; /* not asked for yet, and not to be until then: no socket to poll; 0: asked for */
    bool ready;         /* READY has come; it may overtake the pidfd */
    bool again;         /* it ended without a word, and was asked for again */
};

/* A command without output, run to see whether a fresh sandbox works. */
struct sp_check {
    uint32_t argc, envc;
    const char *argv, *env;
    size_t argv_len, env_len;
};

struct sp_launch_ops {
    size_t session_size;    /* of the launcher's own struct, which begins with struct sp_session */
    int64_t death_grace_ns; /* from kill() to the death of the sandbox; it is not waited for any longer */
    /* 0; SP_AGAIN with birth->not_before filled; or SP_E_CREATE with *error filled. */
    int (*begin)(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
    /* 0: alive, *birth->session is the caller's; SP_AGAIN: not yet; SP_E_CREATE: failed. */
    int (*step)(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
    /* May be NULL, and so may the next. Whether the process that was asked for this session has died. */
    bool (*process_died)(const struct sp_session *session);
    /* A birth has got no answer in time. */
    void (*birth_timed_out)(sp_launcher *launcher, const struct sp_birth *birth);
    /* Starts the check; what does not fit the socket at once is sent until the deadline. 0 or -errno. */
    int (*check_begin)(struct sp_session *session, const struct sp_check *check, int64_t deadline);
    /* SP_AGAIN, or 0 with the wait status in *status, or -errno: the sandbox is not usable. */
    int (*check_step)(struct sp_session *session, int *status);
    /* Asks init to kill the command of the last EXEC, and to report its end; to watch its memory. Do not wait. */
    void (*kill_command)(struct sp_session *session);
    void (*watch_memory)(struct sp_session *session);
    /* Kills what runs there, if anything; does not wait. The session's fds are closed by the caller. */
    void (*kill_sandbox)(struct sp_session *session);
    /* The rest may be NULL, up to `shutdown`. What the sandbox has used so far; 0 or -errno. */
    int (*usage)(struct sp_session *session, struct sp_usage *usage);
    /* The session is over: what was kept for it can go. */
    void (*release)(struct sp_session *session);
    /* The pid of the launcher's process, 0 while there is none; the controllers (SP_CGROUP_*) that enforce its limits.
     */
    int64_t (*pid)(sp_launcher *launcher);
    uint32_t (*cgroup)(sp_launcher *launcher);
    /* Housekeeping, by the janitor. True while there is more to do soon. */
    bool (*tend)(sp_launcher *launcher);
    /* Ends the launcher's own process, and waits for its death up to the deadline. Later calls of begin() fail. */
    void (*shutdown)(sp_launcher *launcher, int64_t deadline);
    void (*free)(sp_launcher *launcher);
};

/* Two counts: `refs` keeps the memory (sessions hold one, too), `pools` keeps the process. */
struct sp_launcher {
    const struct sp_launch_ops *ops;
    atomic_int refs;
    atomic_int pools;
    uint32_t demanded;                /* SP_FACT_*: without them no sandbox is handed out */
    _Atomic uint64_t restarts;        /* processes that took the place of a dead one, and made a sandbox */
    struct sp_session *_Atomic dying; /* killed, and not looked at since: a stack, see dying.c */
    atomic_uint undead;               /* killed long ago, and not dead */
    atomic_uint lookers;              /* pools that look at the dying */
};

/* ---- launch.c ---- */
void sp_launcher_ref(sp_launcher *launcher);
/* A pool uses the launcher from here on, with a reference of its own; the last one that leaves shuts it down. The
 * reference stays until sp_launcher_unref(). */
void sp_launcher_enter(sp_launcher *launcher);
void sp_launcher_leave(sp_launcher *launcher, int64_t deadline);

/* ---- birth.c ---- */
/* begin() with a fresh session; fills the deadline. */
int sp_birth_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
/* step(), with the deadline observed, and asked again of the next process when one has died. */
int sp_birth_step(struct sp_birth *birth, sp_error *error);
/* step() and wait; SP_AGAIN when a signal came or `slice_end` passed. */
int sp_birth_wait(struct sp_birth *birth, int64_t slice_end, sp_error *error);
void sp_birth_abandon(struct sp_birth *birth);

/* ---- control.c: the same over a zygote's socket; begin() and step() for launchers that have one ---- */
/* `cgroup`: the directory that the sandbox is born in, borrowed; -1: none. */
int sp_birth_request(int zygote_sock, int cgroup, struct sp_birth *birth, sp_error *error);
int sp_birth_receive(sp_launcher *launcher, struct sp_birth *birth, sp_error *error);
/* A pair whose first end is the host's: it shows who sent each packet. 0 or -errno; each end is -1 or open.
 */
int sp_control_pair(int pair[2]);

/* ---- isolation.c: `by_cgroup`: the limits that a cgroup enforces, SP_CGROUP_* ---- */
uint32_t sp_facts_demanded(const sp_sandbox_options *options, uint32_t by_cgroup);
uint32_t sp_facts_demanded_of_agent(const sp_agent_options *options);
/* 0, or SP_E_CREATE with the first fact that is missing in *error. */
int sp_isolation_check(uint32_t demanded, const sp_isolation *proved, sp_error *error);

/* ---- session.c ---- */
/* Whether both descriptors are still ours: else nothing can be asked of the sandbox, and it cannot be killed. */
bool sp_session_is_whole(const struct sp_session *session);
/* NULL on ENOMEM. */
struct sp_session *sp_session_new(sp_launcher *launcher);
/* Kills the sandbox and gives the session up; who tends the launcher looks that it dies. Safe on NULL. Never waits. */
void sp_session_end(struct sp_session *session);

/* ---- dying.c ---- */
/* A sandbox that was killed is dead by then; killing one takes a few ms, a hundred with much memory. */
#define SP_UNDEAD_NS SP_SEC(2)
/* Is told of a sandbox that has become undead, and of one that no longer is. */
struct sp_dying_observer {
    void (*notify)(void *arg, const struct sp_session *session, bool undead);
    void *arg;
};
/* From sp_session_end(): it was killed, its control socket is closed, and it holds no reference. */
void sp_dying_add(struct sp_session *session);
/* Takes over what was added, and drops the dead. The age of the youngest that is left; SP_NEVER: none is. */
int64_t sp_dying_look(sp_launcher *launcher, struct sp_session **list, const struct sp_dying_observer *observer);
/* This pool will not look any more. */
void sp_dying_leave(sp_launcher *launcher, struct sp_session **list);
/* Drops these, and all that nobody has looked at yet. */
void sp_dying_forget(sp_launcher *launcher, struct sp_session **list);

/* ---- error.c ---- */
/* Fills *error and returns `code`. detail may be NULL. */
int sp_error_set(sp_error *error, int code, uint32_t stage, int err, const char *detail);
/* SP_E_CREATE, as the zygote or init told it. */
int sp_error_from(sp_error *error, const struct sp_rec_failed *why);

#endif
