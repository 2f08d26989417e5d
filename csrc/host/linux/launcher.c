/* The launcher on Linux: a zygote that clones sandboxes, and the cgroups that the sandboxes are created in. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "host/linux/attach.h"
#include "host/linux/zygotes.h"
#include "host/sandbox/session.h"

#define START_TIMEOUT_NS SP_SEC(10)
#define CGROUPS_GRACE_NS SP_MS(100)
struct linux_launcher {
    struct sp_launcher base;
    struct sp_cgroups *cgroups; /* NULL: the sandboxes have no cgroups */
    struct sp_zygotes zygotes;
    struct sp_workspaces workspaces;
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

/* ---- births ---- */

static struct sp_tier *tier_of(const struct sp_session *session) {
    return &((struct linux_launcher *)session->launcher)->zygotes.tier;
}

static void release(struct sp_session *session) {
    if (session->lease != 0) {
        sp_tier_leave(tier_of(session), session->lease, session->pidfd);
        session->lease = 0;
    }
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

/* When a birth has failed. `loads`: the zygote, if its interpreter is not ready yet; that has a time of its own. */
static int64_t deadline_of(const struct linux_launcher *l, const struct sp_birth *birth,
                           const struct sp_zygote *loads) {
    const int64_t latest = birth->began + SP_CREATE_TIMEOUT_NS + l->base.preload_ns;
    const int64_t ready = loads != NULL ? loads->started + sp_zygote_start_ns(true, l->base.preload_ns) : SP_NEVER;
    return ready < latest ? ready : latest;
}

/* Tries again when the zygote has ended. The loop ends: if a zygote that was just started has ended, too, spawn_next()
 * returns SP_AGAIN because of the pause, or the reason why the zygote did not start. */
static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    struct sp_session *session = birth->session;
    sp_auto_fd int cgroup = -1;
    session->home = l->zygotes.tier.lower ? "." : session->home; /* the directory of the lease */
    for (;;) {
        int rc = sp_zygotes_choose(&l->zygotes, birth, &as_linux(session)->zygote, error);
        /* relaxed: the zygote itself says the final number, in CREATED */
        session->bindings =
            rc == 0 ? atomic_load_explicit(&as_linux(session)->zygote->bindings, memory_order_relaxed) : 0;
        if (rc == 0 && cgroup == -1) {
            rc = take_cgroup(l, session, &cgroup, error);
        }
        if (rc == 0 &&
            sp_zygote_has_ended(as_linux(session)->zygote)) { /* the number of its socket may now be another file */
            rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EPIPE, "the zygote is gone");
        }
        if (rc == 0) {
            const struct sp_zygote *z = as_linux(session)->zygote;
            const bool loads = z->preloads && !atomic_load_explicit(&z->fully_started, memory_order_relaxed);
            birth->deadline = deadline_of(l, birth, loads ? z : NULL);
        }
        rc = rc != 0 ? rc : sp_birth_request(as_linux(session)->zygote->sock, cgroup, birth, error);
        if (rc >= 0 || as_linux(session)->zygote == NULL || !sp_zygote_has_ended(as_linux(session)->zygote)) {
            return rc;
        }
        sp_zygotes_discard(&l->zygotes, as_linux(session)->zygote);
        release(session);
        sp_fd_close(&cgroup);
        sp_fd_close(&session->control);
    }
}

static int usage(struct sp_session *session, struct sp_usage *used) {
    const struct linux_launcher *l = (const struct linux_launcher *)session->launcher;
    return as_linux(session)->cgroup != 0 ? sp_cgroup_usage(l->cgroups, as_linux(session)->cgroup, used) : -ENOTSUP;
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
        if (!atomic_load_explicit(&z->fully_started, memory_order_relaxed) &&
            sp_zygotes_receive_start(&((struct linux_launcher *)launcher)->zygotes, z)) {
            atomic_fetch_add(&launcher->restarts, 1);
        }
        rc = confirm_cgroup(session, error);
    } else if (rc < 0 && error->stage == SP_STAGE_BIND) {
        sp_zygotes_bind_failed(&((struct linux_launcher *)launcher)->zygotes, z, session->bindings, error->err);
    }
    if (rc == 0 && session->stale) {
        sp_zygotes_note_stale(&((struct linux_launcher *)launcher)->zygotes, z);
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
static int birth_timed_out(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    struct sp_zygote *z = as_linux(birth->session)->zygote;
    const bool loads = z != NULL && z->preloads && !sp_zygotes_has_started(&l->zygotes, z);
    birth->deadline = deadline_of(l, birth, loads ? z : NULL);
    if (sp_now() < birth->deadline) {
        return SP_AGAIN;
    }
    if (loads) {
        sp_zygotes_discard(&l->zygotes, z);
        return sp_zygote_no_answer(z, ETIMEDOUT, error);
    }
    if (z != NULL && birth->session->pidfd == -1 &&
        atomic_load_explicit(&z->last_answer_at, memory_order_relaxed) <= birth->began) {
        sp_zygotes_discard(&l->zygotes, z);
    }
    return SP_E_CREATE;
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

/* init acts on the record; the signal makes init read it. */
static void kill_command(struct sp_session *session) {
    sp_session_send_kill(session);
    signal_init(session, SP_KILL_SIGNAL);
}

static bool is_current(const struct sp_session *session) {
    const struct linux_launcher *l = (const struct linux_launcher *)session->launcher;
    return sp_zygotes_is_current(&l->zygotes, as_linux_const(session)->zygote, session->bindings);
}

static void watch_memory(struct sp_session *session) { signal_init(session, SP_WATCH_MEMORY_SIGNAL); }

/* Without a pid namespace, only init knows all of its tenants: it reads the end of file, kills them, and ends. */
static void ask_to_end(struct sp_session *session) {
    if (sp_is_own(session->control, &session->control_identity)) {
        (void)shutdown(session->control, SHUT_RDWR);
    }
    signal_init(session, SP_KILL_SIGNAL);
}

static void kill_sandbox(struct sp_session *session) {
    if (session->pidfd != -1 && tier_of(session)->lower) {
        ask_to_end(session);
    } else if (session->pidfd != -1) {
        (void)syscall(SYS_pidfd_send_signal, session->pidfd, SIGKILL, NULL, 0);
    }
    if (as_linux(session)->cgroup != 0) {
        sp_cgroup_kill(((struct linux_launcher *)session->launcher)->cgroups, as_linux(session)->cgroup);
    }
}

static int renew(sp_launcher *launcher, uint32_t *number, sp_error *error) {
    return sp_zygotes_renew(&((struct linux_launcher *)launcher)->zygotes, number, error);
}

static void note(sp_launcher *launcher, const char *text, size_t len) {
    sp_zygotes_note_diagnostics(&((struct linux_launcher *)launcher)->zygotes, text, len);
}

static size_t diagnostics(sp_launcher *launcher, char *into, size_t size) {
    return sp_zygotes_diagnostics(&((struct linux_launcher *)launcher)->zygotes, into, size);
}

static int attach(struct sp_session *session, const sp_workspace *workspace, int64_t deadline, sp_error *error) {
    struct linux_launcher *l = (struct linux_launcher *)session->launcher;
    if (l->zygotes.tier.lower) { /* the rules of a live sandbox cannot grow */
        return sp_error_set(error, SP_E_EXEC, SP_STAGE_TIER, ENOTSUP, "a workspace");
    }
    return sp_attach_workspace(&l->workspaces, session, as_linux(session)->zygote, workspace, deadline, error);
}

/* ---- the launcher ---- */

static bool tend(sp_launcher *launcher) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    bool more = sp_zygotes_tend(&l->zygotes);
    return (l->cgroups != NULL && sp_cgroups_tend(l->cgroups)) || more;
}

/* Ends the zygotes; every sandbox ends with its zygote. */
static void shut_down(sp_launcher *launcher, int64_t deadline) {
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    l->closed = true;
    sp_zygotes_close(&l->zygotes, deadline);
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
    sp_zygotes_free(&l->zygotes);
    sp_workspaces_close(&l->workspaces);
    free(l);
}

static int64_t zygote_pid(sp_launcher *launcher) {
    return sp_zygotes_pid(&((struct linux_launcher *)launcher)->zygotes);
}

static uint32_t enforced_by_cgroup(sp_launcher *launcher) {
    const struct linux_launcher *l = (const struct linux_launcher *)launcher;
    return l->cgroups != NULL ? sp_cgroups_enforced(l->cgroups) : 0;
}

static const struct sp_launch_ops linux_ops = {
    .has_init = true,
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
    .is_current = is_current,
    .attach = attach,
    .usage = usage,
    .renew = renew,
    .note = note,
    .diagnostics = diagnostics,
    .release = release,
    .pid = zygote_pid,
    .cgroup = enforced_by_cgroup,
    .tend = tend,
    .shutdown = shut_down,
    .free = free_launcher,
};

static int start(struct linux_launcher *l, const sp_sandbox_options *o, sp_error *error) {
    const bool waits = o->interpreter != NULL || o->runtime_len != 0;
    l->base.preload_ns = waits ? o->preload_timeout_ns : 0;
    l->cgroups = o->cgroup_dir != NULL ? sp_cgroups_open(o, error) : NULL;
    if (o->cgroup_dir != NULL && l->cgroups == NULL) {
        return SP_E_CREATE;
    }
    l->base.demanded = sp_facts_demanded(o, l->cgroups != NULL ? sp_cgroups_enforced(l->cgroups) : 0);
    int64_t deadline = sp_now() + sp_zygote_start_ns(o->interpreter != NULL, o->preload_timeout_ns);
    int rc = sp_zygotes_start(&l->zygotes, o, l->cgroups, deadline, error);
    if (rc == 0 && l->zygotes.tier.lower) {
        l->base.demanded = sp_facts_demanded_of_tier(o, l->zygotes.tier.lease_uids);
    }
    return rc;
}

sp_launcher *sp_launcher_open(const sp_sandbox_options *options, sp_error *error) {
    struct linux_launcher *l = calloc(1, sizeof *l);
    if (l == NULL || options->size != sizeof *options) {
        free(l);
        (void)sp_error_set(error, l == NULL ? SP_E_NOMEM : SP_E_INVAL, SP_STAGE_NONE, 0, NULL);
        return NULL;
    }
    l->base = (struct sp_launcher){.ops = &linux_ops, .refs = 1};
    sp_zygotes_init(&l->zygotes);
    sp_workspaces_init(&l->workspaces);
    if (start(l, options, error) != 0) {
        shut_down(&l->base, sp_now() + (error->err == ETIMEDOUT ? 0 : START_TIMEOUT_NS));
        free_launcher(&l->base);
        return NULL;
    }
    return &l->base;
}
