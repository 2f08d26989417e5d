/*
 * The zygotes of one launcher: the one that births ask, and those that were killed and are not reaped yet. When a
 * zygote dies, all its sandboxes die with it, and the next birth starts another zygote. That takes a posix_spawn, under
 * the lock; the births then wait for the zygote as they wait for any, each within its own deadline. Zygotes that die
 * again and again are started after ever longer pauses.
 *
 * If a path of the host leads elsewhere by now, the zygote binds it anew: see rebind.h. Where it cannot, the zygote is
 * *outdated*: it is asked for nothing more, and ends when the last of its sandboxes has ended.
 */
#ifndef SANDPOOL_HOST_LINUX_ZYGOTES_H
#define SANDPOOL_HOST_LINUX_ZYGOTES_H

#include <pthread.h>

#include "host/linux/diagnostics.h"
#include "host/linux/paths.h"
#include "host/linux/zygote.h"
#include "host/sandbox/launch.h"
#include "host/sys/back_off.h"

/* A zygote that is to take the place of the current one, which serves until then. */
struct sp_succession {
    struct sp_zygote *next; /* NULL: none is under way */
    int64_t until;          /* when it has taken too long */
    uint32_t ended;         /* how many renewals have ended, well or not */
    uint32_t failed;        /* the number of the last one that has failed */
    sp_error why;           /* it did */
};

struct sp_zygotes {
    struct sp_zygote_order order;
    struct sp_cgroups *cgroups; /* borrowed; NULL: the sandboxes have no cgroups */
    struct sp_tier tier;
    struct sp_paths *paths;            /* NULL: the configuration names none */
    struct sp_look *seen;              /* the last look; under the lock */
    struct sp_diagnostics diagnostics; /* under the lock */

    pthread_mutex_t lock;
    struct sp_zygote *current; /* NULL: the next birth starts one */
    struct sp_succession renewal;
    struct sp_zygote *outdated; /* list of those that live only for their sandboxes */
    struct sp_zygote *dying;    /* list of those that were killed and not reaped yet */
    struct sp_back_off back_off;
    int64_t not_before; /* no zygote is started until then */
    sp_error why;       /* why the last one did not start; code 0: it has started */
    uint64_t why_paths; /* sp_paths_look() before that start */
    bool closed;
};

void sp_zygotes_init(struct sp_zygotes *zs);
/* Starts the first zygote for these options and waits for it. 0 or SP_E_CREATE; after both it has to be closed. */
int sp_zygotes_start(struct sp_zygotes *zs, const sp_sandbox_options *options, struct sp_cgroups *cgroups,
                     int64_t deadline, sp_error *error);
/* Gives the caller a reference on the zygote to ask, which shows the paths as they are now. 0; SP_AGAIN with
 * birth->not_before filled, when a pause has not passed; or SP_E_CREATE. */
int sp_zygotes_choose(struct sp_zygotes *zs, struct sp_birth *birth, struct sp_zygote **chosen, sp_error *error);
/* Called with a zygote that is dead or does not answer. The next birth starts another one. */
void sp_zygotes_discard(struct sp_zygotes *zs, struct sp_zygote *z);
/* A new zygote has created its first sandbox: receives what the zygote has sent about its own start. True: it has
 * replaced a dead one. */
bool sp_zygotes_receive_start(struct sp_zygotes *zs, struct sp_zygote *z);
/* Whether it is ready. Receives what it has sent so far. */
bool sp_zygotes_has_started(struct sp_zygotes *zs, struct sp_zygote *z);
/* ---- renewal.c ---- */
/* Starts a renewal if *number is 0, and sets *number. 0: that one has ended well; SP_AGAIN: it has not ended; or
 * SP_E_CREATE. */
int sp_zygotes_renew(struct sp_zygotes *zs, uint32_t *number, sp_error *error);
/* A sandbox of this zygote was created from outdated files: a renewal begins, unless one is under way. */
void sp_zygotes_note_stale(struct sp_zygotes *zs, const struct sp_zygote *z);
/* Called under the lock: receives what the next zygote has sent. True while it is under way. */
bool sp_zygotes_advance(struct sp_zygotes *zs);

/* ---- zygotes.c, for renewal.c: called under the lock ---- */
void sp_zygotes_kill(struct sp_zygotes *zs, struct sp_zygote *z);
void sp_zygotes_outdate_current(struct sp_zygotes *zs);
/* Spawns a zygote that shows the paths as they are now. NULL with *error filled. */
struct sp_zygote *sp_zygotes_spawn(struct sp_zygotes *zs, int64_t deadline, sp_error *error);

/* ---- zygotes.c ---- */
/* Whether the host's paths lead to what a sandbox of this zygote shows, which was created after `bindings` changes. Any
 * thread. */
bool sp_zygotes_is_current(const struct sp_zygotes *zs, const struct sp_zygote *z, uint32_t bindings);
/* A birth has failed because a path could not be bound. */
void sp_zygotes_bind_failed(struct sp_zygotes *zs, struct sp_zygote *z, uint32_t bindings, int err);
/* Reaps, and ends outdated zygotes without sandboxes. True while there is more to do soon. */
bool sp_zygotes_tend(struct sp_zygotes *zs);
/* The diagnostics of an interpreter that could not start, see diagnostics.h. */
size_t sp_zygotes_diagnostics(struct sp_zygotes *zs, char *into, size_t size);
/* An init has sent it. */
void sp_zygotes_note_diagnostics(struct sp_zygotes *zs, const char *text, size_t len);
/* The pid of the current one; 0 while there is none. */
int64_t sp_zygotes_pid(struct sp_zygotes *zs);
/* Ends all zygotes, and waits for that up to the deadline; every sandbox ends with its zygote. Then none is started. */
void sp_zygotes_close(struct sp_zygotes *zs, int64_t deadline);
void sp_zygotes_free(struct sp_zygotes *zs);

#endif
