#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "host/linux/reaper.h"
#include "host/linux/zygote.h"
#include "host/sandbox/launch.h"

/* P_PIDFD, which glibc's headers have only since 2.36. */
#define BY_PIDFD ((idtype_t)3)
/* A zygote that has seen the end of its socket ends within this time, unless it was stopped. */
#define END_GRACE_NS SP_MS(100)
/* How long to wait after SIGKILL for the end of the zygote and of all its sandboxes: at least, and at most if the
 * caller has that much time. An interpreter may have gigabytes to free. */
#define KILL_GRACE_NS SP_SEC(1)
#define KILL_GRACE_MAX_NS SP_SEC(5)

void sp_zygote_ref(struct sp_zygote *z) {
    /* relaxed: the caller already holds a reference */
    atomic_fetch_add_explicit(&z->refs, 1, memory_order_relaxed);
}

/*
 * Another part of this process may have closed a number of ours and opened a file with it. Such a number is not waited
 * for, not signalled through and not closed. The socket's number stays, because threads without the lock read it; each
 * of them checks it before use. Called under the launcher's lock, or by the last owner.
 */
static void drop_foreign_fds(struct sp_zygote *z) {
    z->first = sp_is_own(z->first, &z->first_identity) ? z->first : -1;
    z->pidfd = sp_is_own(z->pidfd, &z->pidfd_identity) ? z->pidfd : -1;
}

void sp_zygote_unref(struct sp_zygote *z) {
    /* acq_rel: everything that the other owners did with the zygote happens before the last owner frees it */
    if (z != NULL && atomic_fetch_sub_explicit(&z->refs, 1, memory_order_acq_rel) == 1) {
        drop_foreign_fds(z);
        sp_close_own(&z->sock, &z->sock_identity);
        sp_fd_close(&z->first);
        sp_fd_close(&z->pidfd);
        sp_reaper_free(z->reaper);
        free(z->bound);
        free(z->sent);
        free(z);
    }
}

/* ---- end of a zygote ---- */

static void kill_pidfd(int pidfd) { (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); }

static bool is_dead(int pidfd) {
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

bool sp_zygote_has_ended(const struct sp_zygote *z) {
    struct pollfd p = {.fd = z->sock};
    /* relaxed: a thread that sees the flag late sends a request that fails, and then checks again */
    return atomic_load_explicit(&z->killed, memory_order_relaxed) || !sp_is_own(z->sock, &z->sock_identity) ||
           (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0);
}

static void end_requests(const struct sp_zygote *z) {
    if (sp_is_own(z->sock, &z->sock_identity)) {
        (void)shutdown(z->sock, SHUT_WR);
    }
}

void sp_zygote_kill(struct sp_zygote *z) {
    atomic_store_explicit(&z->killed, true, memory_order_relaxed);
    /* The socket is not closed, because another thread may be about to send on this number. The zygote ends when it
     * reads end of file; what it has sent can still be received. */
    end_requests(z);
    drop_foreign_fds(z);
    if (z->first != -1) {
        kill_pidfd(z->first);
    }
    if (z->pidfd != -1) {
        kill_pidfd(z->pidfd);
    }
}

/* Reaps the process if it is a child of this one: that is so only if its reaper was killed and this process adopts
 * orphans. */
static void reap_orphan(int pidfd) { (void)waitid(BY_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED | WNOHANG); }

/* The descriptor that becomes readable with the next end of a process; -1: all have ended. */
static int fd_of_next_end(const struct sp_zygote *z) {
    if (z->first != -1) {
        return z->first;
    }
    return z->pidfd != -1 && !is_dead(z->pidfd) ? z->pidfd : z->reaper != NULL ? sp_reaper_fd(z->reaper) : -1;
}

bool sp_zygote_reap(struct sp_zygote *z) {
    drop_foreign_fds(z);
    sp_zygote_receive(z);
    if (z->pidfd != -1 && is_dead(z->pidfd)) {
        reap_orphan(z->pidfd);
    }
    (void)sp_reaper_reap(z->reaper);
    return fd_of_next_end(z) == -1;
}

/* Waits until the deadline at most. Whether the zygote is dead and reaped. */
static bool wait_for_end(struct sp_zygote *z, int64_t deadline) {
    while (!sp_zygote_reap(z)) {
        int rc = sp_wait_fd(fd_of_next_end(z), POLLIN, deadline);
        if (rc != 0 && rc != -EINTR) {
            return false;
        }
    }
    return true;
}

void sp_zygote_end(struct sp_zygote *z, int64_t deadline) {
    int64_t by_itself = sp_now() + END_GRACE_NS;
    end_requests(z);
    if (!wait_for_end(z, deadline < by_itself ? deadline : by_itself)) {
        sp_zygote_kill(z);
        const int64_t least = sp_now() + KILL_GRACE_NS;
        const int64_t most = sp_now() + KILL_GRACE_MAX_NS;
        (void)wait_for_end(z, deadline < least ? least : deadline < most ? deadline : most);
    }
}

/* ---- start of a zygote ---- */

static bool is_ready(const struct sp_zygote *z) { return z->pid != 0 && z->pidfd != -1; }

/* Handles a record about the start: CREATED brings the pidfd, from the first process; HELLO comes from the zygote;
 * FAILED from either. They come in any order. */
static void take_record(struct sp_zygote *z, struct sp_packet *packet) {
    if (packet->record.type == SP_REC_CREATED && packet->n_fds == 1 && z->pidfd == -1) {
        z->pidfd = sp_fd_steal(&packet->fds[0]);
        z->pidfd_identity = sp_identity_of(z->pidfd);
    } else if (packet->record.type == SP_REC_HELLO && packet->sender > 0) {
        z->pid = packet->sender;
    } else if (packet->record.type == SP_REC_FAILED) {
        (void)sp_error_from(&z->start_error, &packet->record.u.failed);
    } else {
        (void)sp_error_set(&z->start_error, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
    }
}

static void receive_records(struct sp_zygote *z) {
    while (!is_ready(z) && sp_is_own(z->sock, &z->sock_identity)) {
        struct sp_packet packet;
        int rc = sp_packet_recv(z->sock, &packet, NULL, 0);
        if (rc == -EAGAIN) {
            return;
        }
        if (rc != 0) {
            const bool ended = rc == -ECONNRESET || rc == -EPIPE;
            if (z->start_error.code == 0) {
                (void)sp_error_set(&z->start_error, SP_E_CREATE, z->preloads ? SP_STAGE_PRELOAD : SP_STAGE_SPAWN_ZYGOTE,
                                   -rc, ended ? "the zygote ended before it was ready" : "an answer of the zygote");
            }
            return;
        }
        take_record(z, &packet);
        sp_packet_close(&packet);
    }
}

void sp_zygote_receive(struct sp_zygote *z) {
    receive_records(z);
    if (z->first != -1 && is_dead(z->first)) {
        reap_orphan(z->first);
        sp_fd_close(&z->first);
        receive_records(z); /* it may have sent a record just before it ended */
    }
    /* relaxed: only a hint, which lets step() skip the lock */
    atomic_store_explicit(&z->fully_started, is_ready(z) && z->first == -1, memory_order_relaxed);
}

int sp_zygote_no_answer(const struct sp_zygote *z, int err, sp_error *error) {
    char detail[64];
    if (!z->preloads) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, err, "no answer");
    }
    (void)snprintf(detail, sizeof detail, "the interpreter is not ready after %.1f s",
                   (double)(sp_now() - z->started) / (double)SP_SEC(1));
    return sp_error_set(error, SP_E_CREATE, SP_STAGE_PRELOAD, err, detail);
}

int sp_zygote_await(struct sp_zygote *z, int64_t deadline, sp_error *error) {
    while (!is_ready(z) && z->start_error.code == 0) {
        int rc = sp_wait_fd(z->sock, POLLIN, deadline);
        if (rc != 0 && rc != -EINTR) {
            return sp_zygote_no_answer(z, -rc, error);
        }
        sp_zygote_receive(z);
    }
    if (z->start_error.code != 0) {
        *error = z->start_error;
        return SP_E_CREATE;
    }
    return 0;
}

/* The start never forks this process: so its cost does not grow with the host's memory, and no lock that a Python
 * thread holds is copied. */
static int spawn(struct sp_zygote *z, const char *path, int far_end, struct sp_cgroups *cgroups, sp_error *error) {
    const struct sp_start what = {.path = path, .name = "sandpool-zygote", .fd = far_end, .number = SP_ZYGOTE_SOCKET};
    pid_t first = 0;
    int rc = sp_reaper_start(&what, &z->reaper, &first);
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, path);
    }
    /* No other process can get that pid before the reaper is released. */
    z->first = (int)syscall(SYS_pidfd_open, first, 0);
    z->first_identity = sp_identity_of(z->first);
    if (z->first == -1) {
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, errno, path);
        (void)kill(first, SIGKILL);
    }
    int moved = rc == 0 && cgroups != NULL ? sp_cgroups_add_zygote(cgroups, first) : 0;
    if (moved != 0) {
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_CGROUP, -moved, "moving the zygote");
    }
    sp_reaper_release(z->reaper);
    return rc;
}

static int start(struct sp_zygote *z, const struct sp_zygote_order *order, struct sp_cgroups *cgroups, int64_t deadline,
                 sp_error *error) {
    int pair[2] = {-1, -1};
    int rc = sp_control_pair(pair);
    z->sock = pair[0];
    z->sock_identity = sp_identity_of(z->sock);
    sp_auto_fd int far_end = pair[1];
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, -rc, "socketpair");
    }
    rc = spawn(z, order->path, far_end, cgroups, error);
    if (rc != 0) {
        return rc;
    }
    sp_fd_close(&far_end); /* otherwise the host would never read end of file */
    sp_auto_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    const unsigned of_stem = order->module != -1 ? 2 : 0;
    int fds[3] = {order->module, order->errors};
    fds[of_stem] = self;
    struct sp_outgoing out = {.record = &order->config,
                              .payload = order->payload,
                              .payload_len = order->config.u.config.payload_len,
                              .fds = fds,
                              .n_fds = of_stem + (self != -1)};
    rc = sp_packet_send(z->sock, &out, deadline);
    /* EPIPE: it has ended already, and has sent the reason. */
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
    z->preloads = order->module != -1;
    z->sock = z->first = z->pidfd = -1;
    z->started = sp_now();
    z->last_answer_at = z->started;
    if (start(z, order, cgroups, deadline, error) != 0) {
        sp_zygote_end(z, 0);
        sp_zygote_unref(z);
        return NULL;
    }
    return z;
}
