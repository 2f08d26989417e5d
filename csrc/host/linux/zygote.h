/*
 * One zygote as the host sees it. It is spawned and asked for sandboxes at once: what is sent waits in its socket until
 * it is ready, so nobody has to wait for it. What it says about its own start is heard later.
 *
 * Counted: the launcher refers to it, and so does each session that descends from it. What is not const belongs to
 * whoever holds the launcher's lock.
 */
#ifndef SANDPOOL_HOST_LINUX_ZYGOTE_H
#define SANDPOOL_HOST_LINUX_ZYGOTE_H

#include <stdatomic.h>

#include "common/wire.h"
#include "host/linux/cgroup.h"
#include "host/sys/own.h"
#include "sandpool.h"

/* ---- linux/order.c: what each zygote of a launcher is told, with no pointer into the caller's options ---- */
struct sp_zygote_order {
    char *path; /* the program */
    struct sp_record config;
    char *payload;
};

/* 0 or -errno. `cgroups`: NULL, or where the sandboxes will be. */
int sp_zygote_order_make(struct sp_zygote_order *order, const sp_sandbox_options *options,
                         const struct sp_cgroups *cgroups);
void sp_zygote_order_free(struct sp_zygote_order *order);

/* ---- linux/zygote.c ---- */
struct sp_zygote {
    atomic_int refs;
    int sock;                                                         /* any thread may send CREATE on it */
    struct sp_identity sock_identity, first_identity, pidfd_identity; /* see own.h */
    int first; /* pidfd of the process that was spawned, which ends once it has cloned; -1: it has ended */
    int pidfd; /* of the zygote proper; -1: not told yet */
    struct sp_reaper *reaper;       /* of both; NULL: there is none */
    pid_t pid;                      /* 0: it has not said HELLO */
    sp_error why;                   /* why its start failed; code 0: it did not */
    int64_t started;                /* when it was spawned */
    _Atomic int64_t last_answer_at; /* when it last answered a CREATE */
    atomic_bool fully_started;      /* everything about its start has been received */
    atomic_bool useful;             /* it has made a sandbox */
    atomic_bool killed;
    struct sp_zygote *next; /* in the launcher's list of the dying */
};

/* Spawned, and moved into `cgroups` unless that is NULL. NULL with *error filled, and nothing left behind. */
struct sp_zygote *sp_zygote_spawn(const struct sp_zygote_order *order, struct sp_cgroups *cgroups, int64_t deadline,
                                  sp_error *error);
void sp_zygote_ref(struct sp_zygote *z);
void sp_zygote_unref(struct sp_zygote *z);
/* Takes in what it has said of its start, and the end of the first process. Does not wait. */
void sp_zygote_receive(struct sp_zygote *z);
/* The same until it is ready. 0, or SP_E_CREATE; then it is to be ended. */
int sp_zygote_await(struct sp_zygote *z, int64_t deadline, sp_error *error);
/* It reads no more requests: it has ended, or is about to. Any thread, without the lock. */
bool sp_zygote_gone(const struct sp_zygote *z);
/* Does not wait. Its sandboxes end with it. */
void sp_zygote_kill(struct sp_zygote *z);
/* True once it is dead and no zombie of ours. */
bool sp_zygote_reap(struct sp_zygote *z);
/* Lets it end by itself for a moment, until the deadline at most, and then kills it. */
void sp_zygote_end(struct sp_zygote *z, int64_t deadline);

#endif
