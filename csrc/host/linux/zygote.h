/*
 * One zygote as the host sees it. The host spawns it and sends it requests at once: they wait in its socket until it is
 * ready, so that no caller waits for it. What the zygote reports about its own start is received later.
 *
 * A zygote is counted: the launcher holds a reference, and so does each session whose sandbox it creates. Functions
 * whose argument is not const are called under the launcher's lock, or when the zygote is not in its launcher; only
 * sp_zygote_ref() and sp_zygote_unref() are called at any time.
 */
#ifndef SANDPOOL_HOST_LINUX_ZYGOTE_H
#define SANDPOOL_HOST_LINUX_ZYGOTE_H

#include <stdatomic.h>

#include "common/clock.h"
#include "common/wire.h"
#include "host/linux/cgroup.h"
#include "host/linux/paths.h"
#include "host/linux/tier.h"
#include "host/sys/own.h"
#include "sandpool.h"

/* ---- linux/order.c: the configuration that a launcher sends each of its zygotes; it keeps no pointer into the
 * caller's options ---- */
struct sp_zygote_order {
    char *path; /* the program */
    struct sp_record config;
    char *payload;
    int module, errors; /* of an interpreter: its module and its stderr; -1: there is none */
    int64_t timeout;    /* of its preload */
};

/* 0 or -errno. `cgroups`: those of the sandboxes, or NULL. */
int sp_zygote_order_make(struct sp_zygote_order *order, const sp_sandbox_options *options,
                         const struct sp_cgroups *cgroups, const struct sp_tier *tier);
void sp_zygote_order_free(struct sp_zygote_order *order);

/* How long a zygote may take to get ready. It sets itself up in a few ms before it becomes an interpreter. */
static inline int64_t sp_zygote_start_ns(bool preloads, int64_t timeout) {
    return preloads ? SP_SEC(1) + timeout : SP_SEC(10);
}

/* ---- linux/zygote.c ---- */
struct sp_zygote {
    atomic_int refs;
    int sock;                                                         /* any thread may send CREATE on it */
    struct sp_identity sock_identity, first_identity, pidfd_identity; /* see own.h */
    int first; /* pidfd of the spawned process, which clones the zygote proper and ends; -1: it has ended */
    int pidfd; /* pidfd of the zygote proper; -1: not received yet */
    struct sp_reaper *reaper;       /* reaps both; NULL: there is none */
    pid_t pid;                      /* 0: it has not sent HELLO */
    sp_error start_error;           /* why its start failed; code 0: it did not fail */
    int64_t started;                /* when it was spawned */
    _Atomic int64_t last_answer_at; /* when it last answered a CREATE */
    atomic_bool fully_started;      /* everything about its start has been received */
    atomic_bool useful;             /* it has created a sandbox */
    atomic_bool killed;
    /* What its later sandboxes show. Written under the lock, `bindings` before `paths`; see rebind.h. */
    _Atomic uint64_t paths;    /* sp_look.total; 0: not known */
    _Atomic uint32_t bindings; /* how often paths were bound anew */
    struct sp_look *bound;     /* NULL: the configuration names no paths */
    uint32_t *sent;            /* for each path: the number of bindings when it was bound anew last */
    uint64_t failed;           /* sp_look.total of the last look that could not be bound; 0: none */
    unsigned failures;         /* how often in a row that look could not be bound */
    atomic_bool superseded;    /* a newer one has taken its place: nothing more begins in its sandboxes */
    bool preloads;             /* it becomes an interpreter */
    bool renews;               /* it has replaced one that was alive, because of a path */
    struct sp_zygote *next;    /* in the launcher's list of killed zygotes */
};

/* Spawns a zygote, and moves it into `cgroups` unless that is NULL. On failure returns NULL with *error filled, and
 * leaves nothing behind. */
struct sp_zygote *sp_zygote_spawn(const struct sp_zygote_order *order, struct sp_cgroups *cgroups, int64_t deadline,
                                  sp_error *error);
void sp_zygote_ref(struct sp_zygote *z);
void sp_zygote_unref(struct sp_zygote *z);
/* Receives what the zygote has sent about its start, and notices the end of the first process. Does not wait. */
void sp_zygote_receive(struct sp_zygote *z);
/* Fills *error: the zygote has not got ready in its time. SP_E_CREATE. */
int sp_zygote_no_answer(const struct sp_zygote *z, int err, sp_error *error);
/* Waits until the zygote is ready. 0, or SP_E_CREATE; then the caller ends it. */
int sp_zygote_await(struct sp_zygote *z, int64_t deadline, sp_error *error);
/* Whether the zygote reads no more requests, because it has ended or is about to. Any thread, without the lock. */
bool sp_zygote_has_ended(const struct sp_zygote *z);
/* Kills the zygote, and with it its sandboxes. Does not wait for its end. */
void sp_zygote_kill(struct sp_zygote *z);
/* Reaps what has ended. True once the zygote is dead, and no process of it is left as a zombie of this process. */
bool sp_zygote_reap(struct sp_zygote *z);
/* Lets the zygote end by itself for a moment, at most until the deadline. Then kills it, and waits for its end. */
void sp_zygote_end(struct sp_zygote *z, int64_t deadline);

#endif
