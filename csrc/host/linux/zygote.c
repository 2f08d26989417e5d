#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "host/linux/reaper.h"
#include "host/linux/zygote.h"
#include "host/sandbox/launch.h"

/* glibc's headers have it since 2.36 only. */
#define BY_PIDFD ((idtype_t)3)
/* From the end of its socket to its own: longer takes one that is stopped. */
#define END_GRACE_NS SP_MS(100)
/* From SIGKILL to its end, all sandboxes included. */
#define KILL_GRACE_NS SP_SEC(1)

void sp_zygote_ref(struct sp_zygote *z) {
    /* relaxed: whoever gives it to us holds a reference already */
    atomic_fetch_add_explicit(&z->refs, 1, memory_order_relaxed);
}

/* Under the launcher's lock. A number that is another's now is not waited for, not signalled through and not closed;
 * the socket's stays, for others read it without the lock: who uses it looks first. */
static void drop_foreign_fds(struct sp_zygote *z) {
    z->first = sp_is_own(z->first, &z->first_identity) ? z->first : -1;
    z->pidfd = sp_is_own(z->pidfd, &z->pidfd_identity) ? z->pidfd : -1;
}

void sp_zygote_unref(struct sp_zygote *z) {
    /* acq_rel: what the other owners did with it comes before its end, which is by the last of them */
    if (z != NULL && atomic_fetch_sub_explicit(&z->refs, 1, memory_order_acq_rel) == 1) {
        drop_foreign_fds(z);
        sp_close_own(&z->sock, &z->sock_identity);
        sp_fd_close(&z->first);
        sp_fd_close(&z->pidfd);
        sp_reaper_free(z->reaper);
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
    return atomic_load_explicit(&z->killed, memory_order_relaxed) || !sp_is_own(z->sock, &z->sock_identity) ||
           (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0);
}

static void hang_up(const struct sp_zygote *z) {
    if (sp_is_own(z->sock, &z->sock_identity)) {
        (void)shutdown(z->sock, SHUT_WR);
    }
}

void sp_zygote_kill(struct sp_zygote *z) {
    atomic_store_explicit(&z->killed, true, memory_order_relaxed);
    /* Not close: another thread may be about to send on this number. End of file tells the zygote to end, and what it
     * says still comes through. */
    hang_up(z);
    drop_foreign_fds(z);
    if (z->first != -1) {
        kill_pidfd(z->first);
    }
    if (z->pidfd != -1) {
        kill_pidfd(z->pidfd);
    }
}

/* It is a child of ours only when its reaper was killed, and this process gets orphans. */
static void reap_orphan(int pidfd) { (void)waitid(BY_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED | WNOHANG); }

/* What to wait for next; -1: nothing is left. */
static int still_alive(const struct sp_zygote *z) {
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
    return still_alive(z) == -1;
}

/* Up to the deadline. Whether it is dead and reaped. */
static bool wait_for_end(struct sp_zygote *z, int64_t deadline) {
    while (!sp_zygote_reap(z)) {
        int rc = sp_wait_fd(still_alive(z), POLLIN, deadline);
        if (rc != 0 && rc != -EINTR) {
            return false;
        }
    }
    return true;
}

void sp_zygote_end(struct sp_zygote *z, int64_t deadline) {
    int64_t by_itself = sp_now() + END_GRACE_NS;
    hang_up(z);
    if (!wait_for_end(z, deadline < by_itself ? deadline : by_itself)) {
        sp_zygote_kill(z);
        (void)wait_for_end(z, sp_now() + KILL_GRACE_NS);
    }
}

/* ---- its start ---- */

static bool is_ready(const struct sp_zygote *z) { return z->pid != 0 && z->pidfd != -1; }

/* CREATED (the pidfd, from the first process), HELLO or FAILED (from either), in any order. */
static void take_record(struct sp_zygote *z, struct sp_packet *packet) {
    if (packet->record.type == SP_REC_CREATED && packet->n_fds == 1 && z->pidfd == -1) {
        z->pidfd = sp_fd_steal(&packet->fds[0]);
        z->pidfd_identity = sp_identity_of(z->pidfd);
    } else if (packet->record.type == SP_REC_HELLO && packet->sender > 0) {
        z->pid = packet->sender;
    } else if (packet->record.type == SP_REC_FAILED) {
        (void)sp_error_from(&z->why, &packet->record.u.failed);
    } else {
        (void)sp_error_set(&z->why, SP_E_CREATE, SP_STAGE_PROTOCOL, EBADMSG, "unexpected record");
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

void sp_zygote_receive(struct sp_zygote *z) {
    receive_records(z);
    if (z->first != -1 && is_dead(z->first)) {
        reap_orphan(z->first);
        sp_fd_close(&z->first);
        receive_records(z); /* its last word was sent before */
    }
    /* relaxed: a hint that spares the lock */
    atomic_store_explicit(&z->fully_started, is_ready(z) && z->first == -1, memory_order_relaxed);
}

int sp_zygote_await(struct sp_zygote *z, int64_t deadline, sp_error *error) {
    while (!is_ready(z) && z->why.code == 0) {
        int rc = sp_wait_fd(z->sock, POLLIN, deadline);
        if (rc != 0 && rc != -EINTR) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, "no answer");
        }
        sp_zygote_receive(z);
    }
    if (z->why.code != 0) {
        *error = z->why;
        return SP_E_CREATE;
    }
    return 0;
}

/* Never a fork: its cost does not grow with the host's memory, and no lock of a Python thread is copied. */
static int spawn(struct sp_zygote *z, const char *path, int far_end, struct sp_cgroups *cgroups, sp_error *error) {
    const struct sp_start what = {.path = path, .name = "sandpool-zygote", .fd = far_end, .number = SP_ZYGOTE_SOCKET};
    pid_t first = 0;
    int rc = sp_reaper_start(&what, &z->reaper, &first);
    if (rc != 0) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, -rc, path);
    }
    /* Until the reaper goes on, that pid is nobody else's. */
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
    sp_fd_close(&far_end); /* else its end of file would never come */
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
    z->last_answer_at = z->started;
    if (start(z, order, cgroups, deadline, error) != 0) {
        sp_zygote_end(z, 0);
        sp_zygote_unref(z);
        return NULL;
    }
    return z;
}
