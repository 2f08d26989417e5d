/*
 * The launcher on Linux: its zygote clones sandboxes. When the zygote dies, all its sandboxes die with it, and the next
 * begin() starts another zygote, under the launcher's lock. The births then wait for the new zygote as for any other,
 * each until its own deadline. If zygotes die again and again, the pauses between their starts become longer.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "host/linux/zygote.h"
#include "host/sandbox/launch.h"
#include "host/sandbox/session.h"
#include "host/sys/back_off.h"

#define START_TIMEOUT_NS SP_SEC(10)
#define CGROUPS_GRACE_NS SP_MS(100)
/* Pauses between two starts. A zygote that has created sandboxes works, so somebody has killed it: the next one is
 * started soon. */
#define PAUSE_MIN_NS SP_MS(5)
#define PAUSE_MAX_USEFUL_NS SP_MS(100)
#define PAUSE_MAX_NS SP_SEC(5)
/* After a zygote that has lived this long there is no pause. */
#define GOOD_LIFE_NS SP_SEC(1)

struct linux_launcher {
    struct sp_launcher base;
    struct sp_zygote_order order;
    struct sp_cgroups *cgroups; /* NULL: the sandboxes have no cgroups */

    pthread_mutex_t lock;
    struct sp_zygote *zygote; /* NULL: the next begin() starts one */
    struct sp_zygote *dying;  /* list of those that were killed and not reaped yet */
    struct sp_back_off back_off;
    int64_t not_before; /* no zygote is started until then */
    sp_error why;       /* why the last one did not start; code 0: it has started */
    bool closed;
};

struct linux_session {
    struct sp_session base;
    struct sp_zygote *zygote; /* a reference on the zygote that creates the sandbox; NULL: none yet */
    uint32_t cgroup;          /* the number of the sandbox's cgroup; 0: none */
};

static struct linux_session *as_linux(struct sp_session *session) { return (struct linux_session *)session; }

static const struct linux_session *as_linux_const(const struct sp_session *session) {
    return (const struct linux_session *)session;
}

/* ---- start and end of zygotes; called under the launcher's lock ---- */

/* Sets the earliest time of the next start. `z` is the zygote that has ended; NULL: it could not be spawned. */
static void pause_starts(struct linux_launcher *l, const struct sp_zygote *z) {
    int64_t now = sp_now();
    bool useful = z != NULL && atomic_load_explicit(&z->useful, memory_order_relaxed);
    if (useful && now - z->started >= GOOD_LIFE_NS) {
        l->back_off.delay = 0;
        l->not_before = now;
    } else {
        l->not_before = now + sp_back_off(&l->back_off, PAUSE_MIN_NS, useful ? PAUSE_MAX_USEFUL_NS : PAUSE_MAX_NS);
    }
}

static void kill_zygote(struct linux_launcher *l, struct sp_zygote *z) {
    sp_zygote_kill(z);
    z->next = l->dying;
    l->dying = z;
}

/* Called with a zygote that is dead or does not answer. The next begin() starts another one. */
static void discard_locked(struct linux_launcher *l, struct sp_zygote *z) {
    if (l->zygote == z) {
        sp_zygote_receive(z);
        l->why = z->start_error;
        pause_starts(l, z);
        l->zygote = NULL;
        kill_zygote(l, z);
    }
}

static bool reap_dying(struct linux_launcher *l) {
    struct sp_zygote **at = &l->dying;
    while (*at != NULL) {
        struct sp_zygote *z = *at;
        if (sp_zygote_reap(z)) {
            *at = z->next;
            sp_zygote_unref(z);
        } else {
            at = &z->next;
        }
    }
    return l->dying != NULL;
}

/* Starts a zygote. 0; SP_AGAIN with birth->not_before filled, when a pause has not passed; or SP_E_CREATE. */
static int spawn_next(struct linux_launcher *l, struct sp_birth *birth, sp_error *error) {
    (void)reap_dying(l);
    if (l->closed) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, ESHUTDOWN, "the launcher is closed");
    }
    if (sp_now() < l->not_before) {
        *error = l->why;
        birth->not_before = l->not_before;
        return l->why.code != 0 ? SP_E_CREATE : SP_AGAIN;
    }
    l->zygote = sp_zygote_spawn(&l->order, l->cgroups, birth->deadline, error);
    if (l->zygote == NULL) {
        l->why = *error;
        pause_starts(l, NULL);
        return SP_E_CREATE;
    }
    return 0;
}

/* ---- births ---- */

/* Gives the birth's session a reference on the zygote that will create its sandbox. Returns as spawn_next(). */
static int choose_zygote(struct linux_launcher *l, struct sp_birth *birth, sp_error *error) {
    pthread_mutex_lock(&l->lock);
    int rc = l->zygote != NULL ? 0 : spawn_next(l, birth, error);
    if (rc == 0) {
        sp_zygote_ref(l->zygote);
        as_linux(birth->session)->zygote = l->zygote;
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static void discard_zygote(struct linux_launcher *l, struct sp_zygote *z) {
    pthread_mutex_lock(&l->lock);
    discard_locked(l, z);
    pthread_mutex_unlock(&l->lock);
}

static void release(struct sp_session *session) {
    if (as_linux(session)->cgroup != 0) {
        sp_cgroup_discard(((struct linux_launcher *)session->launcher)->cgroups, as_linux(session)->cgroup);
        as_linux(session)->cgroup = 0;
    }
    sp_zygote_unref(as_linux(session)->zygote);
    as_linux(session)->zygote = NULL;
}

static int take_cgroup(struct linux_launcher *l, struct sp_session *session, int *cgroup, sp_error *error) {
    if (l->cgroups != NULL) {
        int64_t number = sp_cgroup_take(l->cgroups, cgroup);
        if (number < 0) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_CGROUP, (int)-number, "directory of a sandbox");
        }
        as_linux(session)->cgroup = (uint32_t)number;
    }
    return 0;
}

/* Tries again when the zygote has ended. The loop ends: if a zygote that was just started has ended, too, spawn_next()
 * returns SP_AGAIN because of the pause, or the reason why the zygote did not start. */
static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    struct sp_session *session = birth->session;
    sp_auto_fd int cgroup = -1;
    for (;;) {
        int rc = choose_zygote(l, birth, error);
        if (rc == 0 && cgroup == -1) {
            rc = take_cgroup(l, session, &cgroup, error);
        }
        if (rc == 0 &&
            sp_zygote_has_ended(as_linux(session)->zygote)) { /* the number of its socket may now be another file */
            rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EPIPE, "the zygote is gone");
        }
        rc = rc != 0 ? rc : sp_birth_request(as_linux(session)->zygote->sock, cgroup, birth, error);
        if (rc >= 0 || as_linux(session)->zygote == NULL || !sp_zygote_has_ended(as_linux(session)->zygote)) {
            return rc;
        }
        discard_zygote(l, as_linux(session)->zygote);
        release(session);
        sp_fd_close(&cgroup);
        sp_fd_close(&session->control);
    }
}

static int usage(struct sp_session *session, struct sp_usage *used) {
    const struct linux_launcher *l = (const struct linux_launcher *)session->launcher;
    return as_linux(session)->cgroup != 0 ? sp_cgroup_usage(l->cgroups, as_linux(session)->cgroup, used) : -ENOTSUP;
}

/* A new zygote has created its first sandbox: receives what the zygote has sent about its own start. */
static void receive_start_report(struct linux_launcher *l, struct sp_zygote *z) {
    pthread_mutex_lock(&l->lock);
    if (l->zygote == z) {
        bool counted = z->pid != 0;
        sp_zygote_receive(z);
        if (!counted && z->pid != 0) {
            atomic_fetch_add(&l->base.restarts, 1);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

/* The limits were read back when the directory was created. This checks that the sandbox is in its cgroup. */
static int confirm_cgroup(struct sp_session *session, sp_error *error) {
    const struct linux_launcher *l = (const struct linux_launcher *)session->launcher;
    if (as_linux(session)->cgroup == 0) {
        return 0;
    }
    if (!sp_cgroup_contains(l->cgroups, as_linux(session)->cgroup, session->pid)) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROOF, ENOTSUP, "a cgroup of its own");
    }
    session->isolation.cgroup = sp_cgroups_enforced(l->cgroups);
    return 0;
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct sp_session *session = birth->session;
    struct sp_zygote *z = as_linux(session)->zygote;
    int rc = sp_birth_receive(launcher, birth, error);
    if (session->pidfd != -1 || (rc < 0 && error->stage != SP_STAGE_PROTOCOL)) {
        atomic_store_explicit(&z->last_answer_at, sp_now(),
                              memory_order_relaxed); /* only a time, which orders nothing */
    }
    if (rc == 0) {
        atomic_store_explicit(&z->useful, true, memory_order_relaxed);
        if (!atomic_load_explicit(&z->fully_started, memory_order_relaxed)) {
            receive_start_report((struct linux_launcher *)launcher, z);
        }
        rc = confirm_cgroup(session, error);
    }
    if (rc == 0) {
        (void)usage(session, &session->usage); /* what the first command has used is counted from here */
    }
    return rc;
}

static bool process_died(const struct sp_session *session) {
    const struct sp_zygote *zygote = as_linux_const(session)->zygote;
    return zygote != NULL && sp_zygote_has_ended(zygote);
}

/* If the zygote has answered no request since it got this one, it hangs, and is replaced. Otherwise only the init of
 * this birth may hang. */
static void birth_timed_out(sp_launcher *launcher, const struct sp_birth *birth) {
    struct sp_zygote *z = as_linux(birth->session)->zygote;
    if (z != NULL && birth->session->pidfd == -1 &&
        atomic_load_explicit(&z->last_answer_at, memory_order_relaxed) <= birth->deadline - SP_CREATE_TIMEOUT_NS) {
        discard_zygote((struct linux_launcher *)launcher, z);
    }
}

/* ---- sandboxes ---- */

/* Sends a signal with the id of the command that it concerns. */
static void signal_init(struct sp_session *session, int signal) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = (int)session->last_id;
    (void)syscall(SYS_pidfd_send_signal, session->pidfd, signal, &info, 0);
}

/* init acts on the record; the signal makes init read it. While a command runs, the host sends init no other record. */
static void kill_command(struct sp_session *session) {
    struct sp_record record = {.type = SP_REC_KILL, .u.id.id = session->last_id};
    (void)sp_packet_send(session->control, &(struct sp_outgoing){.record = &record}, sp_now());
    signal_init(session, SP_KILL_SIGNAL);
}

static void watch_memory(struct sp_session *session) { signal_init(session, SP_WATCH_MEMORY_SIGNAL); }

static void kill_sandbox(struct sp_session *session) {
    if (session->pidfd != -1) {
        (void)syscall(SYS_pidfd_send_signal, session->pidfd, SIGKILL, NULL, 0);
    }
    if (as_linux(session)->cgroup != 0) {
        sp_cgroup_kill(((struct linux_launcher *)session->launcher)->cgroups, as_linux(session)->cgroup);
    }
}

/* ---- the launcher ---- */

static bool tend(sp_launcher *launcher) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    pthread_mutex_lock(&l->lock);
    bool more = reap_dying(l);
    pthread_mutex_unlock(&l->lock);
    return (l->cgroups != NULL && sp_cgroups_tend(l->cgroups)) || more;
}

/* Ends the zygotes; every sandbox ends with its zygote. */
static void shut_down(sp_launcher *launcher, int64_t deadline) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    pthread_mutex_lock(&l->lock);
    l->closed = true;
    struct sp_zygote *ending = l->zygote;
    if (ending != NULL) {
        ending->next = NULL;
    }
    struct sp_zygote *dying = l->dying;
    l->zygote = l->dying = NULL;
    pthread_mutex_unlock(&l->lock);
    if (ending != NULL) {
        sp_zygote_end(ending, deadline);
        sp_zygote_unref(ending);
    }
    while (dying != NULL) {
        struct sp_zygote *next = dying->next;
        sp_zygote_end(dying, deadline);
        sp_zygote_unref(dying);
        dying = next;
    }
    if (l->cgroups != NULL) {
        /* The processes are dead, or will be soon. The next start of a host removes what is left after this. */
        int64_t least = sp_now() + CGROUPS_GRACE_NS;
        sp_cgroups_close(l->cgroups, deadline > least ? deadline : least);
    }
}

static void free_launcher(sp_launcher *launcher) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    if (!l->closed) { /* no pool has used the launcher */
        shut_down(launcher, sp_now() + START_TIMEOUT_NS / 10);
    }
    sp_cgroups_free(l->cgroups);
    sp_zygote_order_free(&l->order);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static int64_t zygote_pid(sp_launcher *launcher) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    pthread_mutex_lock(&l->lock);
    int64_t pid = l->zygote != NULL ? l->zygote->pid : 0;
    pthread_mutex_unlock(&l->lock);
    return pid;
}

static uint32_t enforced_by_cgroup(sp_launcher *launcher) {
    const struct linux_launcher *l = (const struct linux_launcher *)launcher;
    return l->cgroups != NULL ? sp_cgroups_enforced(l->cgroups) : 0;
}

static const struct sp_launch_ops linux_ops = {
    .session_size = sizeof(struct linux_session),
    .death_grace_ns = SP_MS(300),
    .begin = begin,
    .step = step,
    .process_died = process_died,
    .birth_timed_out = birth_timed_out,
    .check_begin = sp_session_check_begin,
    .check_step = sp_session_check_step,
    .kill_command = kill_command,
    .watch_memory = watch_memory,
    .kill_sandbox = kill_sandbox,
    .usage = usage,
    .release = release,
    .pid = zygote_pid,
    .cgroup = enforced_by_cgroup,
    .tend = tend,
    .shutdown = shut_down,
    .free = free_launcher,
};

static int start(struct linux_launcher *l, const sp_sandbox_options *o, sp_error *error) {
    int64_t deadline = sp_now() + START_TIMEOUT_NS;
    l->cgroups = o->cgroup_dir != NULL ? sp_cgroups_open(o, error) : NULL;
    if (o->cgroup_dir != NULL && l->cgroups == NULL) {
        return SP_E_CREATE;
    }
    l->base.demanded = sp_facts_demanded(o, l->cgroups != NULL ? sp_cgroups_enforced(l->cgroups) : 0);
    int rc = sp_zygote_order_make(&l->order, o, l->cgroups);
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, "CONFIG");
    }
    l->zygote = sp_zygote_spawn(&l->order, l->cgroups, deadline, error);
    return l->zygote == NULL ? SP_E_CREATE : sp_zygote_await(l->zygote, deadline, error);
}

sp_launcher *sp_launcher_open(const sp_sandbox_options *options, sp_error *error) {
    struct linux_launcher *l = calloc(1, sizeof *l);
    if (l == NULL || options->size != sizeof *options) {
        free(l);
        (void)sp_error_set(error, l == NULL ? SP_E_NOMEM : SP_E_INVAL, SP_STAGE_NONE, 0, NULL);
        return NULL;
    }
    l->base = (struct sp_launcher){.ops = &linux_ops, .refs = 1};
    l->back_off.noise = (uint64_t)sp_now();
    pthread_mutex_init(&l->lock, NULL);
    if (start(l, options, error) != 0) {
        shut_down(&l->base, sp_now() + (error->err == ETIMEDOUT ? 0 : START_TIMEOUT_NS));
        free_launcher(&l->base);
        return NULL;
    }
    return &l->base;
}
