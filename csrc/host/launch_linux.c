/* The launcher on Linux: a zygote, started once by posix_spawn, that clones sandboxes. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "host/launch.h"
#include "host/seccomp.h"
#include "host/session.h"

#define ZYGOTE_SOCKET 3
#define START_TIMEOUT_NS (10 * INT64_C(1000000000))

struct zygote {
    struct sp_launcher base;
    int sock;
    int pidfd; /* of the zygote proper, which is nobody's child that we know */
    pid_t pid;
    bool down;                  /* shut_down() was called */
    struct sp_cgroups *cgroups; /* NULL: none */
};

static int kill_pidfd(int pidfd) { return (int)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); }

static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct zygote *z = (struct zygote *)launcher;
    sp_auto_fd int cgroup = -1;
    if (z->cgroups != NULL) {
        int64_t number = sp_cgroup_take(z->cgroups, &cgroup);
        if (number < 0) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_CGROUP, (int)-number, "directory of a sandbox");
        }
        birth->session->cgroup = (uint32_t)number;
    }
    return sp_birth_request(z->sock, cgroup, birth, error);
}

static int usage(struct sp_session *session, struct sp_usage *used) {
    const struct zygote *z = (const struct zygote *)session->launcher;
    return session->cgroup != 0 ? sp_cgroup_usage(z->cgroups, session->cgroup, used) : -ENOTSUP;
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    int rc = sp_birth_hear(launcher, birth, error);
    if (rc == 0) {
        (void)usage(birth->session, &birth->session->usage); /* what was used before the first command is not its own */
    }
    return rc;
}

/* With the number of the command it is about. */
static void signal_init(struct sp_session *session, int signal) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = (int)session->last_id;
    (void)syscall(SYS_pidfd_send_signal, session->pidfd, signal, &info, 0);
}

static void interrupt(struct sp_session *session) { signal_init(session, SP_KILL_SIGNAL); }

static void watch(struct sp_session *session) { signal_init(session, SP_WATCH_SIGNAL); }

static void kill_sandbox(struct sp_session *session) {
    if (session->pidfd != -1) {
        (void)kill_pidfd(session->pidfd);
    }
    if (session->cgroup != 0) {
        sp_cgroup_kill(((struct zygote *)session->launcher)->cgroups, session->cgroup);
    }
}

static void forget(struct sp_session *session) {
    if (session->cgroup != 0) {
        sp_cgroup_leave(((struct zygote *)session->launcher)->cgroups, session->cgroup);
    }
}

static bool tend(sp_launcher *launcher) {
    struct zygote *z = (struct zygote *)launcher;
    return z->cgroups != NULL && sp_cgroups_tend(z->cgroups);
}

/* Its processes are dead already, or about to be: what is left after this is swept at the next start. */
static void end_cgroups(struct zygote *z, int64_t deadline) {
    int64_t least = sp_now() + START_TIMEOUT_NS / 100;
    if (z->cgroups != NULL) {
        sp_cgroups_close(z->cgroups, deadline > least ? deadline : least);
    }
}

static void shut_down(sp_launcher *launcher, int64_t deadline) {
    struct zygote *z = (struct zygote *)launcher;
    z->down = true;
    /* Not close: another thread may be about to send on this number. */
    if (z->sock != -1) {
        (void)shutdown(z->sock, SHUT_RDWR); /* end of file tells the zygote to end, and its end ends every sandbox */
    }
    if (z->pidfd == -1) {
        end_cgroups(z, deadline);
        return;
    }
    if (sp_wait_fd(z->pidfd, POLLIN, deadline) != 0) {
        (void)kill_pidfd(z->pidfd);
        (void)sp_wait_fd(z->pidfd, POLLIN, sp_now() + START_TIMEOUT_NS / 10);
    }
    /* It is a child of ours only when this process is the reaper of its orphans; then it must not stay a zombie. */
    (void)waitid(P_PIDFD, (id_t)z->pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
    end_cgroups(z, deadline);
}

static void free_zygote(sp_launcher *launcher) {
    struct zygote *z = (struct zygote *)launcher;
    if (!z->down) { /* no pool came of it */
        shut_down(launcher, sp_now() + START_TIMEOUT_NS / 10);
    }
    sp_fd_close(&z->sock);
    sp_fd_close(&z->pidfd);
    sp_cgroups_free(z->cgroups);
    free(z);
}

static const struct sp_launch_ops zygote_ops = {
    .begin = begin,
    .step = step,
    .check_begin = sp_session_check_begin,
    .check_step = sp_session_check_step,
    .interrupt = interrupt,
    .watch = watch,
    .kill = kill_sandbox,
    .usage = usage,
    .forget = forget,
    .tend = tend,
    .shutdown = shut_down,
    .free = free_zygote,
};

/* The strings of CONFIG's payload, padded, then the three filters. */
struct config_payload {
    char *bytes;
    size_t len;
    struct sp_filter filters[3];
};

static void payload_free(struct config_payload *p) {
    free(p->bytes);
    for (int i = 0; i < 3; i++) {
        free(p->filters[i].insns);
    }
}

static bool has_writable_bind(const sp_sandbox_options *o) {
    for (uint32_t i = 0; i < o->n_binds; i++) {
        if ((o->binds[i].flags & SP_BIND_WRITABLE) != 0) {
            return true;
        }
    }
    return false;
}

static int payload_build(const sp_sandbox_options *o, struct config_payload *p) {
    struct sp_seccomp_policy policy = {.profile = o->seccomp_profile,
                                       .allow_fork = o->allow_fork != 0,
                                       .allow_unix_sockets = o->allow_unix_sockets != 0,
                                       .no_setid = has_writable_bind(o)};
    int rc = sp_seccomp_template(&policy, &p->filters[0]);
    rc = rc != 0 ? rc : sp_seccomp_init(&policy, &p->filters[1]);
    rc = rc != 0 ? rc : sp_seccomp_exec(&policy, &p->filters[2]);
    if (rc != 0) {
        return rc;
    }
    size_t root_len = o->rootfs != NULL ? strlen(o->rootfs) + 1 : 0;
    size_t strings = root_len;
    for (uint32_t i = 0; i < o->n_binds; i++) {
        strings += strlen(o->binds[i].path) + 2;
    }
    const size_t insn = sizeof(struct sock_filter);
    p->len = (strings + insn - 1) / insn * insn;
    for (int i = 0; i < 3; i++) {
        p->len += p->filters[i].len * insn;
    }
    p->bytes = calloc(1, p->len + 1);
    if (p->bytes == NULL) {
        return -ENOMEM;
    }
    char *at = p->bytes;
    if (root_len != 0) {
        memcpy(at, o->rootfs, root_len);
        at += root_len;
    }
    for (uint32_t i = 0; i < o->n_binds; i++) {
        size_t len = strlen(o->binds[i].path) + 1;
        *at++ = (o->binds[i].flags & SP_BIND_WRITABLE) != 0 ? 'w' : 'r';
        memcpy(at, o->binds[i].path, len);
        at += len;
    }
    at = p->bytes + (strings + insn - 1) / insn * insn;
    for (int i = 0; i < 3; i++) {
        if (p->filters[i].len != 0) {
            memcpy(at, p->filters[i].insns, p->filters[i].len * insn);
            at += p->filters[i].len * insn;
        }
    }
    return 0;
}

static uint32_t network_flags(const sp_sandbox_options *o) {
    /* A netns in which an inet socket could exist is used once. */
    bool no_inet = o->seccomp_profile == SP_SECCOMP_ESSENTIAL && o->allow_unix_sockets == 0;
    switch (o->network) {
    case SP_NET_HOST:
        return SP_CONFIG_NET_HOST;
    case SP_NET_LOOPBACK:
        return SP_CONFIG_NET_LOOPBACK;
    default:
        return SP_CONFIG_DENY_TCP | (no_inet ? SP_CONFIG_NETNS_REUSE : 0);
    }
}

static uint32_t config_flags(const sp_sandbox_options *o, const struct sp_cgroups *cgroups) {
    return network_flags(o) | (o->rootfs != NULL ? SP_CONFIG_ROOTFS : 0) | (cgroups != NULL ? SP_CONFIG_CGROUP : 0);
}

static int send_config(const struct zygote *z, const sp_sandbox_options *o, int64_t deadline) {
    uint32_t enforced = z->cgroups != NULL ? sp_cgroups_enforced(z->cgroups) : 0;
    struct config_payload p = {0};
    int rc = payload_build(o, &p);
    if (rc == 0) {
        struct sp_record record = {
            .type = SP_REC_CONFIG,
            .u.config = {.flags = config_flags(o, z->cgroups),
                         .payload_len = (uint32_t)p.len,
                         .n_binds = o->n_binds,
                         .template_filter_len = p.filters[0].len,
                         .init_filter_len = p.filters[1].len,
                         .exec_filter_len = p.filters[2].len,
                         .landlock_abi_max = o->landlock_abi_max,
                         .memory_bytes = (enforced & SP_CGROUP_MEMORY) != 0 ? 0 : o->memory_bytes,
                         .max_processes = o->max_processes,
                         .scratch_bytes = o->scratch_bytes,
                         .scratch_inodes = o->scratch_inodes}};
        sp_auto_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        struct sp_outgoing out = {
            .record = &record, .payload = p.bytes, .payload_len = p.len, .fds = &self, .n_fds = self != -1};
        rc = sp_packet_send(z->sock, &out, deadline);
    }
    payload_free(&p);
    return rc;
}

/*
 * posix_spawn, never fork: its cost does not grow with the host's memory, and no lock of a Python thread is copied. The
 * child starts with an empty signal mask, default dispositions and its own session, so that no terminal signal of the
 * host's reaches it.
 */
static int spawn_zygote(const char *path, int far_end, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t mask;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&actions, far_end, ZYGOTE_SOCKET);
    sigemptyset(&mask);
    posix_spawnattr_setsigmask(&attr, &mask);
    sigfillset(&mask);
    posix_spawnattr_setsigdefault(&attr, &mask);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    char *argv[] = {(char *)(uintptr_t) "sandpool-zygote", NULL};
    char *env[] = {NULL};
    int rc = posix_spawn(pid, path, &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* CREATED (the pidfd, from the first process) and HELLO (from the zygote proper), in either order. */
static int await_hello(struct zygote *z, int64_t deadline, sp_error *error) {
    while (z->pid == 0 || z->pidfd == -1) {
        struct sp_packet packet;
        int rc = sp_wait_fd(z->sock, POLLIN, deadline);
        if (rc == -EINTR) {
            continue;
        }
        rc = rc != 0 ? rc : sp_packet_recv(z->sock, &packet, NULL, 0);
        if (rc != 0) {
            const char *detail = rc == -ECONNRESET ? "the zygote ended before it was ready" : "no answer";
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, detail);
        }
        if (packet.record.type == SP_REC_CREATED && packet.n_fds == 1 && z->pidfd == -1) {
            z->pidfd = sp_fd_steal(&packet.fds[0]);
        } else if (packet.record.type == SP_REC_HELLO && packet.sender > 0) {
            z->pid = packet.sender;
        } else if (packet.record.type == SP_REC_FAILED) {
            rc = sp_error_from(error, &packet.record.u.failed);
        } else {
            rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
        }
        sp_packet_close(&packet);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* The first process ends by itself once it has cloned the zygote proper; it is the only child the host ever has. */
static void reap_first(pid_t pid, bool force) {
    if (force) {
        (void)kill(pid, SIGKILL);
    }
    while (waitpid(pid, NULL, 0) == -1 && errno == EINTR) {
    }
}

/* The zygote's FAILED may overtake the first process's CREATED; its pidfd is still needed, to see the zygote's end. */
static void take_late_pidfd(struct zygote *z) {
    struct sp_packet packet;
    while (z->pidfd == -1 && sp_packet_recv(z->sock, &packet, NULL, 0) == 0) {
        if (packet.record.type == SP_REC_CREATED && packet.n_fds == 1) {
            z->pidfd = sp_fd_steal(&packet.fds[0]);
        }
        sp_packet_close(&packet);
    }
}

static int start(struct zygote *z, const sp_sandbox_options *o, sp_error *error) {
    int64_t deadline = sp_now() + START_TIMEOUT_NS;
    int pair[2] = {-1, -1};
    int rc = sp_control_pair(pair);
    z->sock = pair[0];
    sp_auto_fd int far_end = pair[1];
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "socketpair");
    }
    pid_t first = 0;
    rc = spawn_zygote(o->zygote_path, far_end, &first);
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, o->zygote_path);
    }
    sp_fd_close(&far_end); /* else its end of file would never come */
    rc = z->cgroups != NULL ? sp_cgroups_adopt(z->cgroups, first) : 0;
    if (rc != 0) {
        reap_first(first, true);
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_CGROUP, -rc, "moving the zygote");
    }
    rc = send_config(z, o, deadline);
    /* EPIPE: it ended already, and has said why. */
    if (rc != 0 && rc != -EPIPE) {
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, "CONFIG");
    } else {
        rc = await_hello(z, deadline, error);
    }
    /* One that has failed ends by itself, and after its last word; only one that does not answer has to be ended. */
    reap_first(first, rc != 0 && error->err == ETIMEDOUT);
    take_late_pidfd(z);
    return rc;
}

static int open_cgroups(struct zygote *z, const sp_sandbox_options *o, sp_error *error) {
    z->cgroups = o->cgroup_dir != NULL ? sp_cgroups_open(o, error) : NULL;
    return o->cgroup_dir == NULL || z->cgroups != NULL ? 0 : -1;
}

sp_launcher *sp_launcher_open(const sp_sandbox_options *options, sp_error *error) {
    struct zygote *z = calloc(1, sizeof *z);
    if (z == NULL || options->size != sizeof *options) {
        free(z);
        (void)sp_error_set(error, z == NULL ? SP_E_NOMEM : SP_E_INVAL, SP_STAGE_NONE, 0, NULL);
        return NULL;
    }
    z->base = (struct sp_launcher){.ops = &zygote_ops, .refs = 1};
    z->sock = -1;
    z->pidfd = -1;
    if (open_cgroups(z, options, error) != 0 || start(z, options, error) != 0) {
        shut_down(&z->base, sp_now());
        free_zygote(&z->base);
        return NULL;
    }
    return &z->base;
}

int64_t sp_launcher_pid(sp_launcher *launcher) {
    return launcher->ops == &zygote_ops ? ((struct zygote *)launcher)->pid : 0;
}

uint32_t sp_launcher_cgroup(sp_launcher *launcher) {
    const struct zygote *z = (const struct zygote *)launcher;
    return launcher->ops == &zygote_ops && z->cgroups != NULL ? sp_cgroups_enforced(z->cgroups) : 0;
}
