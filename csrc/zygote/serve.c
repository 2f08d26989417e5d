/*
 * The zygote's loop. It clones a sandbox for each CREATE, and reaps dead ones on SIGCHLD. While it is idle, it checks
 * network namespaces that came back from dead sandboxes, or makes new ones for the stash.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fact.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/init.h"
#include "init/landlock.h"
#include "init/stem.h"
#include "zygote/pending.h"
#include "zygote/zygote.h"

/* How many network namespaces are made in advance. More would only take memory; a missing one costs a creation about
 * 0.4 ms. */
#define STASH_TARGET 4

/* The number of live sandboxes whose netns is remembered. Unused pages of the table are never touched, and so take no
 * memory. */
#define LIVE_MAX 16384

/* On a machine that needs longer for one sandbox, no creation would succeed. */
#define REHEARSAL_NS SP_SEC(5)
/* The pause after a failure to make a netns in advance; it doubles with each failure. A CREATE does not wait for it: it
 * tries at once and reports the error. */
#define SUPPLY_PAUSE_MIN_NS SP_MS(100)
#define SUPPLY_PAUSE_MAX_NS SP_SEC(30)

/* How long to wait for the killed sandbox of a rehearsal to end. Its netns can be used again, but nothing depends on
 * it. */
#define REHEARSAL_END_NS SP_MS(50)

struct live {
    pid_t pid;
    int netns;
};

static struct live live[LIVE_MAX];
static unsigned live_count;
static struct sp_netns_stash stash;

static void ignore(int signal) { (void)signal; }

/* The handler does nothing: SIGCHLD only has to interrupt ppoll, here and in every init, which inherits the handler. */
static void interrupt_on_sigchld(void) {
    struct sigaction action = {.sa_handler = ignore, .sa_flags = SA_NOCLDSTOP};
    sigset_t blocked;
    sigaction(SIGCHLD, &action, NULL);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

static void reap(const struct sp_plan *plan) {
    pid_t pid;
    int status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (sp_in_landlock_tier(plan)) {
            sp_zygote_tier_reaped(plan, pid, status);
        }
        for (unsigned i = 0; i < live_count; i++) {
            if (live[i].pid == pid) {
                sp_netns_return(&stash, live[i].netns);
                live[i] = live[--live_count];
                break;
            }
        }
    }
}

/* Remembers the netns of a sandbox: it can be used again after the sandbox was reaped, if it has no sockets. */
static void keep_netns_of(pid_t pid, int *netns) {
    if (*netns != -1 && live_count < LIVE_MAX) {
        live[live_count++] = (struct live){.pid = pid, .netns = sp_fd_steal(netns)};
    }
}

static int choose_netns(const struct sp_plan *plan, int *netns, struct sp_rec_failed *why) {
    if ((plan->config.flags & SP_CONFIG_NET_HOST) != 0 || (plan->left_out & SP_FACT_NET_NS) != 0) {
        return 0;
    }
    int fd = sp_netns_enter(&stash);
    if (fd < 0) {
        return sp_failed(why, SP_STAGE_NETNS, -fd, NULL);
    }
    *netns = fd;
    return 0;
}

/* Clones one sandbox, and sends CREATED with its pidfd over the sandbox's control socket. init may send READY before
 * that. */
static int spawn(struct sp_plan *plan, int control, int cgroup, struct sp_rec_failed *why) {
    sp_auto_fd int netns = -1;
    sp_auto_fd int pidfd = -1;
    struct sp_record created = {.type = SP_REC_CREATED};
    created.u.created.stale = plan->stem != NULL && plan->stem->is_stale();
    int rc = sp_zygote_check_binds(plan, &created.u.created.bindings, why);
    rc = rc != 0 ? rc : choose_netns(plan, &netns, why);
    if (rc != 0) {
        return rc;
    }
    if (plan->config.memory_bytes != 0 && plan->stem == NULL) { /* the memory of a copied interpreter is not small */
        sp_machine_read_sometimes(&plan->machine, SP_PROC_FD);
    }
    long pid = sp_zygote_clone(plan, cgroup, &pidfd);
    if (pid == 0) {
        sp_init_main(plan, control); /* this process is now pid 1 of the new sandbox */
    }
    if (pid == -1) {
        int err = errno;
        sp_netns_return(&stash, sp_fd_steal(&netns));
        bool by_cgroup = cgroup != -1 && (err == EACCES || err == EBUSY || err == ENOENT || err == ENOSYS);
        return sp_failed(why, by_cgroup ? SP_STAGE_CGROUP : SP_STAGE_CLONE, err, "clone");
    }
    if ((plan->config.flags & SP_CONFIG_NETNS_REUSE) != 0) { /* no inet socket could exist there, in any state */
        keep_netns_of((pid_t)pid, &netns);
    }
    created.u.created.lease = plan->lease;
    rc = sp_packet_send(control, &(struct sp_outgoing){.record = &created, .fds = &pidfd, .n_fds = 1}, sp_now());
    if (rc != 0 && !sp_in_landlock_tier(plan)) { /* the host has given up this creation and closed the socket */
        (void)kill((pid_t)pid, SIGKILL);
    }
    return 0;
}

/* Without a pid namespace init ends by itself, so that nothing of it is left. Its directory is empty. */
static void end_rehearsal_of_tier(const struct sp_plan *plan, int *control, int pidfd) {
    char path[PATH_MAX];
    const char *end = path + sizeof path;
    sp_fd_close(control);
    (void)sp_wait_fd(pidfd, POLLIN, sp_now() + REHEARSAL_END_NS);
    if (sp_append_number(sp_append(sp_append(path, end, plan->leases), end, "/l"), end, plan->lease) != NULL) {
        (void)rmdir(path);
    }
}

/*
 * The rehearsal: a sandbox that no tenant gets, whose init proves in full what holds for all sandboxes: see prove.h.
 * Its errors are ignored, because the creation that follows fails in the same way and reports the reason.
 */
static void rehearse(struct sp_plan *plan) {
    int pair[2];
    sp_auto_fd int netns = -1;
    sp_auto_fd int pidfd = -1;
    struct sp_packet packet;
    struct sp_rec_failed ignored;
    /* The sockets are created in the netns of this sandbox, so that no other sandbox finds them in its netns. */
    if (choose_netns(plan, &netns, &ignored) != 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return;
    }
    long pid = sp_zygote_clone(plan, -1, &pidfd);
    if (pid == 0) {
        plan->runtime = NULL; /* nothing is to run there, and its start may take longer than REHEARSAL_NS */
        sp_init_main(plan, pair[1]);
    }
    sp_fd_close(&pair[1]); /* otherwise the other end would never see the end of file */
    if (pid != -1 && sp_wait_fd(pair[0], POLLIN, sp_now() + REHEARSAL_NS) == 0 &&
        sp_packet_recv(pair[0], &packet, NULL, 0) == 0) {
        plan->rehearsed = packet.record.type == SP_REC_READY ? packet.record.u.ready.facts : 0;
        sp_packet_close(&packet);
    }
    if (pid != -1 && sp_in_landlock_tier(plan)) {
        end_rehearsal_of_tier(plan, &pair[0], pidfd);
    }
    if (pid != -1) {
        (void)kill((pid_t)pid, SIGKILL);
        keep_netns_of((pid_t)pid, &netns); /* no tenant has used it */
        (void)sp_wait_fd(pidfd, POLLIN, sp_now() + REHEARSAL_END_NS);
        reap(plan); /* if it has not ended yet, the loop reaps it later */
    }
    sp_fd_close(&pair[0]);
}

/* Serves one request. 0, or -errno when the host is gone or sends something malformed. */
static int serve_one(int sock, struct sp_plan *plan) {
    static char path[SP_ATTACH_PATH_MAX];
    struct sp_packet packet;
    int rc = sp_packet_recv(sock, &packet, path, sizeof path);
    if (rc != 0) {
        return rc == -EAGAIN ? 0 : rc;
    }
    if (packet.record.type == SP_REC_ATTACH) {
        return sp_pending_add(plan, &packet, path);
    }
    if (packet.payload_len != 0) {
        sp_packet_close(&packet);
        return -EBADMSG;
    }
    if (packet.record.type == SP_REC_BIND && packet.n_fds <= 1) {
        sp_auto_fd int tree = packet.n_fds == 1 ? sp_fd_steal(&packet.fds[0]) : -1;
        return sp_zygote_bind_again(plan, &packet.record.u.bind, &tree);
    }
    bool in_cgroup = (plan->config.flags & SP_CONFIG_CGROUP) != 0;
    if (packet.record.type != SP_REC_CREATE || packet.n_fds != (in_cgroup ? 2u : 1u)) {
        sp_packet_close(&packet);
        return -EBADMSG;
    }
    if (plan->rehearsed == 0) {
        rehearse(plan);
    }
    struct sp_rec_failed why;
    if (spawn(plan, packet.fds[0], packet.fds[1], &why) != 0) {
        sp_packet_fail(packet.fds[0], 0, &why);
    }
    sp_packet_close(&packet);
    return 0;
}

/*
 * When even the first netns cannot be made, all sandboxes may share the host's, in which the zygote still is; once it
 * has left that netns, it cannot return. Only sandboxes that cannot create a socket to bind or connect may share it.
 */
static bool make_first_netns(struct sp_plan *plan) {
    int rc = sp_netns_make(&stash);
    bool no_socket = (plan->config.flags & SP_CONFIG_NETNS_REUSE) != 0 && (plan->config.flags & SP_CONFIG_UNIX) == 0;
    plan->left_out |= rc != 0 && no_socket && sp_may_leave_out(plan, -rc) ? SP_FACT_NET_NS : 0;
    return rc == 0;
}

/*
 * Decides about SP_CONFIG_UNIX_SCOPED, once it is known in which network namespace the sandboxes will be. In the
 * host's only Landlock keeps abstract sockets apart. Where a network namespace was left out, nothing counts the memory
 * of connections that nobody has accepted. If the filter cannot be installed, the sandboxes cannot prove that they are
 * scoped, and none is handed out.
 */
static void decide_unix(struct sp_plan *plan) {
    bool left_out = (plan->left_out & SP_FACT_NET_NS) != 0;
    bool own = (plan->config.flags & SP_CONFIG_NET_HOST) == 0 && !left_out;
    bool scoped = own || (!left_out && sp_landlock_abi(plan->config.landlock_abi_max) >= SP_LANDLOCK_SCOPED);
    if ((plan->config.flags & SP_CONFIG_UNIX_SCOPED) != 0 && !scoped) {
        (void)sp_zygote_refuse_unix(plan);
    }
}

/* Whether and when to make the next netns in advance. */
struct netns_supply {
    bool wanted;
    int64_t not_before, pause;
};

/* When there is idle work to do; SP_NEVER: there are enough netns in the stash, and not too many, or none is wanted. */
static int64_t next_idle_work(const struct netns_supply *s) {
    if (stash.n_used != 0) {
        return 0;
    }
    return stash.count > SP_STASH_SPARE              ? stash.trim_at
           : s->wanted && stash.count < STASH_TARGET ? s->not_before
                                                     : SP_NEVER;
}

static void pause_supply(struct netns_supply *s) {
    s->pause = s->pause == 0                        ? SUPPLY_PAUSE_MIN_NS
               : s->pause * 2 < SUPPLY_PAUSE_MAX_NS ? s->pause * 2
                                                    : SUPPLY_PAUSE_MAX_NS;
    s->not_before = sp_now() + s->pause;
}

static void do_idle_work(struct netns_supply *s) {
    if (sp_netns_check_used(&stash) || next_idle_work(s) > sp_now()) {
        return;
    }
    if (stash.count > SP_STASH_SPARE) {
        sp_netns_trim(&stash, sp_now());
    } else if (sp_netns_make(&stash) == 0) {
        *s = (struct netns_supply){.wanted = true};
    } else {
        pause_supply(s);
    }
}

/* Like ppoll(2), with SIGCHLD unblocked while it waits. */
static int wait_until(struct pollfd *p, nfds_t n, int64_t deadline) {
    sigset_t none;
    sigemptyset(&none);
    struct timespec ts = sp_timespec_of(deadline == SP_NEVER || deadline == 0 ? 0 : sp_left_until(deadline));
    return ppoll(p, n, deadline == SP_NEVER ? NULL : &ts, &none);
}

void sp_zygote_serve(int sock, int host, struct sp_plan *plan) {
    struct pollfd p[2 + SP_PENDING_MAX] = {{.fd = sock, .events = POLLIN}, {.fd = host, .events = POLLIN}};
    struct netns_supply supply = {.wanted = (plan->config.flags & SP_CONFIG_NET_HOST) == 0 &&
                                            (plan->left_out & SP_FACT_NET_NS) == 0};
    interrupt_on_sigchld();
    stash.loopback = (plan->config.flags & SP_CONFIG_NET_LOOPBACK) != 0;
    if (supply.wanted && !make_first_netns(plan)) {
        pause_supply(&supply);
    }
    supply.wanted = supply.wanted && (plan->left_out & SP_FACT_NET_NS) == 0;
    decide_unix(plan);
    rehearse(plan);
    for (int rc = 0; rc == 0;) {
        const int64_t work = next_idle_work(&supply);
        const int64_t refusal = sp_pending_next();
        int n = wait_until(p, 2 + sp_pending_polled(&p[2]), work < refusal ? work : refusal); /* skips a `host` of -1 */
        reap(plan);
        if (n > 0 && p[1].revents != 0) {
            rc = -ECONNRESET;
        } else if (n >= 0) {
            sp_pending_step(plan, &p[2]);
            rc = p[0].revents != 0 ? serve_one(sock, plan) : 0;
        }
        if (n == 0) {
            do_idle_work(&supply);
        }
    }
}
