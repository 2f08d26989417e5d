#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "host/launch.h"
#include "host/zygote.h"

#define ZYGOTE_SOCKET 3
/* glibc's headers have it since 2.36 only. */
#define BY_PIDFD ((idtype_t)3)
/* From SIGKILL to its end, all sandboxes included. */
#define KILL_GRACE_NS INT64_C(1000000000)

void sp_zygote_ref(struct sp_zygote *z) {
    /* relaxed: whoever gives it to us holds a reference already */
    atomic_fetch_add_explicit(&z->refs, 1, memory_order_relaxed);
}

void sp_zygote_unref(struct sp_zygote *z) {
    /* acq_rel: what the other owners did with it comes before its end, which is by the last of them */
    if (z != NULL && atomic_fetch_sub_explicit(&z->refs, 1, memory_order_acq_rel) == 1) {
        sp_fd_close(&z->sock);
        sp_fd_close(&z->first);
        sp_fd_close(&z->pidfd);
        free(z);
    }
}

/* ---- its end ---- */

static void kill_pidfd(int pidfd) { (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); }

static bool is_dead(int pidfd) {
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

bool sp_zygote_gone(const struct sp_zygote *z) {
    struct pollfd p = {.fd = z->sock};
    /* relaxed: whoever sees it late asks in vain, and looks again */
    return atomic_load_explicit(&z->killed, memory_order_relaxed) || (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0);
}

void sp_zygote_kill(struct sp_zygote *z) {
    atomic_store_explicit(&z->killed, true, memory_order_relaxed);
    /* Not close: another thread may be about to send on this number. End of file tells the zygote to end, and what it
     * says still comes through. */
    (void)shutdown(z->sock, SHUT_WR);
    if (z->first != -1) {
        kill_pidfd(z->first);
    }
    if (z->pidfd != -1) {
        kill_pidfd(z->pidfd);
    }
}

static void reap_first(struct sp_zygote *z, int options) {
    siginfo_t info = {0};
    int rc = 0;
    do {
        rc = waitid(BY_PIDFD, (id_t)z->first, &info, WEXITED | options);
    } while (rc == -1 && errno == EINTR);
    if (rc == -1 || info.si_pid != 0) { /* -1: somebody who waits for any child has reaped it */
        sp_fd_close(&z->first);
    }
}

bool sp_zygote_reap(struct sp_zygote *z) {
    sp_zygote_hear(z);
    if (z->pidfd != -1 && is_dead(z->pidfd)) {
        /* It is a child of ours only when this process is the reaper of its orphans. */
        (void)waitid(BY_PIDFD, (id_t)z->pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
        return z->first == -1;
    }
    return z->first == -1 && z->pidfd == -1;
}

void sp_zygote_end(struct sp_zygote *z, int64_t deadline) {
    bool killed = false;
    (void)shutdown(z->sock, SHUT_WR);
    while (!sp_zygote_reap(z)) {
        int rc = sp_wait_fd(z->first != -1 ? z->first : z->pidfd, POLLIN, deadline);
        if (rc != 0 && rc != -EINTR) {
            if (killed) {
                return;
            }
            killed = true;
            sp_zygote_kill(z);
            deadline = sp_now() + KILL_GRACE_NS;
        }
    }
}

/* ---- its start ---- */

static bool is_ready(const struct sp_zygote *z) { return z->pid != 0 && z->pidfd != -1; }

/* CREATED (the pidfd, from the first process), HELLO or FAILED (from either), in any order. */
static void take_record(struct sp_zygote *z, struct sp_packet *packet) {
    if (packet->record.type == SP_REC_CREATED && packet->n_fds == 1 && z->pidfd == -1) {
        z->pidfd = sp_fd_steal(&packet->fds[0]);
    } else if (packet->record.type == SP_REC_HELLO && packet->sender > 0) {
        z->pid = packet->sender;
    } else if (packet->record.type == SP_REC_FAILED) {
        (void)sp_error_from(&z->why, &packet->record.u.failed);
    } else {
        (void)sp_error_set(&z->why, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
    }
}

static void hear_socket(struct sp_zygote *z) {
    while (!is_ready(z)) {
        struct sp_packet packet;
        int rc = sp_packet_recv(z->sock, &packet, NULL, 0);
        if (rc == -EAGAIN) {
            return;
        }
        if (rc != 0) {
            if (z->why.code == 0) {
                (void)sp_error_set(&z->why, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc,
                                   "the zygote ended before it was ready");
            }
            return;
        }
        take_record(z, &packet);
        sp_packet_close(&packet);
    }
}

void sp_zygote_hear(struct sp_zygote *z) {
    hear_socket(z);
    if (z->first != -1 && is_dead(z->first)) {
        reap_first(z, WNOHANG);
        hear_socket(z); /* its last word was sent before */
    }
    /* relaxed: a hint that spares the lock */
    atomic_store_explicit(&z->settled, is_ready(z) && z->first == -1, memory_order_relaxed);
}

int sp_zygote_await(struct sp_zygote *z, int64_t deadline, sp_error *error) {
    while (!is_ready(z) && z->why.code == 0) {
        int rc = sp_wait_fd(z->sock, POLLIN, deadline);
        if (rc != 0 && rc != -EINTR) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, "no answer");
        }
        sp_zygote_hear(z);
    }
    if (z->why.code != 0) {
        *error = z->why;
        return SP_E_CREATE;
    }
    if (z->first != -1) {
        reap_first(z, 0); /* it ends by itself, and has no more to do */
    }
    sp_zygote_hear(z);
    return 0;
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

/* Its pidfd, so that nobody who is given its number after it is hit or waited for in its place. */
static int hold_first(struct sp_zygote *z, pid_t pid) {
    z->first = (int)syscall(SYS_pidfd_open, pid, 0);
    if (z->first != -1) {
        return 0;
    }
    int err = errno;
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) == -1 && errno == EINTR) {
    }
    return -err;
}

static int start(struct sp_zygote *z, const struct sp_zygote_order *order, struct sp_cgroups *cgroups, int64_t deadline,
                 sp_error *error) {
    int pair[2] = {-1, -1};
    int rc = sp_control_pair(pair);
    z->sock = pair[0];
    sp_auto_fd int far_end = pair[1];
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "socketpair");
    }
    pid_t first = 0;
    rc = spawn_zygote(order->path, far_end, &first);
    rc = rc != 0 ? rc : hold_first(z, first);
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, order->path);
    }
    sp_fd_close(&far_end); /* else its end of file would never come */
    rc = cgroups != NULL ? sp_cgroups_adopt(cgroups, first) : 0;
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_CGROUP, -rc, "moving the zygote");
    }
    sp_auto_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct sp_outgoing out = {.record = &order->config,
                              .payload = order->payload,
                              .payload_len = order->config.u.config.payload_len,
                              .fds = &self,
                              .n_fds = self != -1};
    rc = sp_packet_send(z->sock, &out, deadline);
    /* EPIPE: it ended already, and has said why. */
    return rc == 0 || rc == -EPIPE ? 0 : sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, "CONFIG");
}

struct sp_zygote *sp_zygote_spawn(const struct sp_zygote_order *order, struct sp_cgroups *cgroups, int64_t deadline,
                                  sp_error *error) {
    struct sp_zygote *z = calloc(1, sizeof *z);
    if (z == NULL) {
        (void)sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, ENOMEM, "memory");
        return NULL;
    }
    z->refs = 1;
    z->sock = z->first = z->pidfd = -1;
    z->started = sp_now();
    z->heard = z->started;
    if (start(z, order, cgroups, deadline, error) != 0) {
        sp_zygote_end(z, 0);
        sp_zygote_unref(z);
        return NULL;
    }
    return z;
}
