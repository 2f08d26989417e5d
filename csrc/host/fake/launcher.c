/*
 * A launcher for tests: a thread plays the zygote and every init, and speaks the real protocol over real sockets. So
 * the code of the pool, its janitor and its sessions runs unchanged, needs no kernel feature, and meets failures when a
 * test wants them. The "pidfd" of a fake sandbox is one end of a socket pair. To kill the sandbox, the pair is shut
 * down, and both ends become readable. The pid of a fake sandbox is a number that the launcher counts up.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "host/fake/fake.h"
#include "host/sandbox/launch.h"
#include "host/sandbox/session.h"

/* ---- the thread ---- */

static void drop_node(struct sp_fake *f, unsigned i) {
    sp_fd_close(&f->nodes[i].control);
    sp_fd_close(&f->nodes[i].death);
    sp_fd_close(&f->nodes[i].process);
    f->nodes[i] = f->nodes[--f->n_nodes];
}

/* Receives CREATE: decides whether this birth fails, and when it is answered. False when the host has closed its end.
 */
static bool take_create(struct sp_fake *f) {
    struct sp_packet packet;
    int rc = sp_packet_recv(f->far_sock, &packet, NULL, 0);
    if (rc != 0) {
        return rc == -EAGAIN;
    }
    if (packet.record.type == SP_REC_CREATE && packet.n_fds == 1 && f->n_nodes < SP_FAKE_NODES) {
        struct sp_fake_node *node = &f->nodes[f->n_nodes++];
        *node = (struct sp_fake_node){.control = sp_fd_steal(&packet.fds[0]), .death = -1, .process = -1};
        pthread_mutex_lock(&f->lock);
        node->failing = f->skip == 0 && f->fail != 0;
        f->fail -= node->failing;
        f->skip -= f->skip != 0;
        int64_t now = sp_now();
        node->due = (f->serial && f->last_due > now ? f->last_due : now) + f->delay;
        f->last_due = node->due;
        pthread_mutex_unlock(&f->lock);
    } else if (packet.n_fds == 1) {
        sp_packet_fail(packet.fds[0], 0, &(struct sp_rec_failed){.stage = SP_STAGE_CLONE, .err = ENOSPC});
    }
    sp_packet_close(&packet);
    return true;
}

static void send_record(int sock, const struct sp_record *record, const int *fd) {
    (void)sp_packet_send(sock, &(struct sp_outgoing){.record = record, .fds = fd, .n_fds = fd != NULL}, sp_now());
}

static void answer_birth(struct sp_fake *f, unsigned i) {
    struct sp_fake_node *node = &f->nodes[i];
    node->due = 0;
    if (node->failing) {
        pthread_mutex_lock(&f->lock);
        struct sp_rec_failed why = {
            .stage = (uint32_t)f->fail_stage, .err = (uint32_t)f->fail_errno, .detail = "injected"};
        pthread_mutex_unlock(&f->lock);
        sp_packet_fail(node->control, 0, &why);
        drop_node(f, i);
        return;
    }
    int pair[2];
    int rc = sp_stream_pair(pair);
    node->death = pair[0];
    if (rc != 0) {
        sp_packet_fail(node->control, 0, &(struct sp_rec_failed){.stage = SP_STAGE_CLONE, .err = (uint32_t)-rc});
        sp_fd_close(&pair[1]);
        drop_node(f, i);
        return;
    }
    send_record(node->control, &(struct sp_record){.type = SP_REC_CREATED}, &pair[1]);
    send_record(node->control, &(struct sp_record){.type = SP_REC_READY}, NULL);
    sp_fd_close(&pair[1]);
}

/* A process starts at once, and ends at once, unless commands are not answered: then it lives as long as its sandbox.
 */
static void answer_spawn(struct sp_fake_node *node, struct sp_packet *packet, uint32_t status, bool mute) {
    const int sock = packet->fds[0];
    send_record(sock, &(struct sp_record){.type = SP_REC_ACK}, NULL);
    send_record(sock, &(struct sp_record){.type = SP_REC_STARTED}, NULL);
    if (!mute) {
        send_record(sock, &(struct sp_record){.type = SP_REC_EXITED, .u.exited = {.status = status}}, NULL);
    } else if (node->process == -1) {
        node->process = sp_fd_steal(&packet->fds[0]);
    }
}

static void answer_exec(int control, uint32_t id, uint32_t status) {
    send_record(control, &(struct sp_record){.type = SP_REC_ACK, .u.id.id = id}, NULL);
    send_record(control, &(struct sp_record){.type = SP_REC_EXITED, .u.exited = {.id = id, .status = status}}, NULL);
}

/* A fake sandbox has no files. */
static void answer_file(const struct sp_packet *packet) {
    if (packet->n_fds == 1) {
        send_record(packet->fds[0], &(struct sp_record){.type = SP_REC_FILED, .u.filed = {.err = ENOENT}}, NULL);
    }
}

/* Answers EXEC, SPAWN and FILE: the command ends at once with the scripted exit code and no output. False when the host
 * has closed its end. */
static bool answer(struct sp_fake *f, struct sp_fake_node *node) {
    char payload[SP_PACKET_MAX];
    struct sp_packet packet;
    int rc = sp_packet_recv(node->control, &packet, payload, sizeof payload);
    pthread_mutex_lock(&f->lock);
    uint32_t status = (uint32_t)f->exit_code << 8;
    bool mute = f->mute;
    pthread_mutex_unlock(&f->lock);
    if (rc == 0 && packet.record.type == SP_REC_SPAWN) {
        answer_spawn(node, &packet, status, mute);
    } else if (rc == 0 && packet.record.type == SP_REC_EXEC && !mute) {
        answer_exec(node->control, packet.record.u.exec.id, status);
    } else if (rc == 0 && packet.record.type == SP_REC_FILE && !mute) {
        answer_file(&packet);
    }
    bool is_known = rc == 0 && (packet.record.type == SP_REC_SPAWN || packet.record.type == SP_REC_EXEC ||
                                packet.record.type == SP_REC_SERVE || packet.record.type == SP_REC_FILE);
    sp_packet_close(&packet);
    return rc == -EAGAIN || is_known;
}

/* If a test wants it, the zygote dies, and with it every sandbox and every birth. The next request is answered as by a
 * new zygote. */
static void crash_if_requested(struct sp_fake *f) {
    pthread_mutex_lock(&f->lock);
    bool asked = f->crash;
    f->crash = false;
    while (asked && f->n_alive != 0) {
        (void)shutdown(f->alive[--f->n_alive].session->pidfd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&f->lock);
    while (asked && f->n_nodes != 0) {
        drop_node(f, 0);
    }
}

/* Serves node i once. If the node is dropped, the last node takes its place. */
static void serve_node(struct sp_fake *f, unsigned i, bool readable, bool killed, bool held) {
    struct sp_fake_node *node = &f->nodes[i];
    bool ended = killed;
    if (!ended && node->due != 0) {
        if (!held && sp_now() >= node->due) {
            answer_birth(f, i);
        }
    } else if (!ended && readable) {
        ended = !answer(f, node);
    }
    pthread_mutex_lock(&f->lock);
    bool undead = f->undead && !killed;
    pthread_mutex_unlock(&f->lock);
    if (ended && undead) {
        sp_fd_close(&node->control); /* only `death` stays open, and it does not become readable */
    } else if (ended || (i < f->n_nodes && node->control == -1 && !undead)) {
        drop_node(f, i);
    }
}

static int64_t next_due(struct sp_fake *f, bool held) {
    int64_t due = SP_NEVER;
    for (unsigned i = 0; i < f->n_nodes; i++) {
        due = !held && f->nodes[i].due != 0 && f->nodes[i].due < due ? f->nodes[i].due : due;
    }
    return due;
}

static void *serve(void *arg) {
    struct sp_fake *f = arg;
    static const size_t per_node = 2;
    struct pollfd *fds = calloc(per_node * SP_FAKE_NODES + 2, sizeof *fds);
    bool open = fds != NULL;
    while (open) {
        pthread_mutex_lock(&f->lock);
        bool held = f->hold;
        pthread_mutex_unlock(&f->lock);
        fds[0] = (struct pollfd){.fd = f->far_sock, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = f->wake[0], .events = POLLIN};
        unsigned n = f->n_nodes;
        for (unsigned i = 0; i < n; i++) {
            /* The thread notices that the host has given up a birth when it answers that birth. */
            fds[2 + 2 * i] = (struct pollfd){.fd = f->nodes[i].due == 0 ? f->nodes[i].control : -1, .events = POLLIN};
            fds[3 + 2 * i] = (struct pollfd){.fd = f->nodes[i].death, .events = POLLIN};
        }
        (void)sp_poll_until(fds, 2 + 2 * n, next_due(f, held));
        for (unsigned i = n; i-- > 0;) { /* downwards: the node that replaces a dropped one was served already */
            serve_node(f, i, fds[2 + 2 * i].revents != 0, fds[3 + 2 * i].revents != 0, held);
        }
        char ignored[64];
        (void)!read(f->wake[0], ignored, sizeof ignored);
        crash_if_requested(f);
        open = fds[0].revents == 0 || take_create(f);
    }
    pthread_mutex_lock(&f->lock);
    bool undead = f->undead;
    pthread_mutex_unlock(&f->lock);
    while (!undead && f->n_nodes != 0) { /* otherwise free_fake() drops them */
        drop_node(f, 0);
    }
    free(fds);
    return NULL;
}

/* ---- the launcher ---- */

static int begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    return sp_birth_request(((struct sp_fake *)launcher)->sock, -1, birth, error);
}

static int step(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    struct sp_fake *f = (struct sp_fake *)launcher;
    int rc = sp_birth_receive(launcher, birth, error);
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&f->lock);
    f->created++;
    birth->session->pid = (pid_t)++f->next_pid;
    f->alive[f->n_alive++] = (struct sp_fake_alive){birth->session, f->next_pid};
    pthread_mutex_unlock(&f->lock);
    return 0;
}

bool sp_fake_remove_alive(struct sp_fake *f, const struct sp_session *session, int64_t pid) {
    for (unsigned i = 0; i < f->n_alive; i++) {
        if (session != NULL ? f->alive[i].session == session : f->alive[i].pid == pid) {
            if (!f->undead) {
                (void)shutdown(f->alive[i].session->pidfd, SHUT_RDWR);
            }
            f->alive[i] = f->alive[--f->n_alive];
            return true;
        }
    }
    return false;
}

static void kill_fake(struct sp_session *session) {
    struct sp_fake *f = (struct sp_fake *)session->launcher;
    pthread_mutex_lock(&f->lock);
    (void)sp_fake_remove_alive(f, session, 0);
    pthread_mutex_unlock(&f->lock);
}

/* If a birth ends without an answer, the zygote has crashed. A complete sandbox dies alone. */
static bool process_died(const struct sp_session *session) { return session->pid == 0; }

/* Does nothing: the commands end at once. */
static void kill_command(struct sp_session *session) { (void)session; }

static void shut_down(sp_launcher *launcher, int64_t deadline) {
    struct sp_fake *f = (struct sp_fake *)launcher;
    (void)deadline;
    (void)shutdown(f->sock, SHUT_RDWR);
    if (f->running) {
        pthread_join(f->thread, NULL);
        f->running = false;
    }
}

static void free_fake(sp_launcher *launcher) {
    struct sp_fake *f = (struct sp_fake *)launcher;
    shut_down(launcher, 0);
    while (f->n_nodes != 0) {
        drop_node(f, 0);
    }
    sp_fd_close(&f->sock);
    sp_fd_close(&f->far_sock);
    sp_fd_close(&f->wake[0]);
    sp_fd_close(&f->wake[1]);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static const struct sp_launch_ops fake_ops = {
    .has_init = true,
    .session_size = sizeof(struct sp_session),
    .death_grace_ns = SP_MS(300),
    .begin = begin,
    .step = step,
    .process_died = process_died,
    .check_begin = sp_session_check_begin,
    .check_step = sp_session_check_step,
    .kill_command = kill_command,
    .watch_memory = kill_command,
    .kill_sandbox = kill_fake,
    .shutdown = shut_down,
    .free = free_fake,
};

sp_launcher *sp_launcher_fake(void) {
    struct sp_fake *f = calloc(1, sizeof *f);
    int pair[2];
    sigset_t all;
    sigset_t before;
    if (f == NULL || sp_control_pair(pair) != 0) {
        free(f);
        return NULL;
    }
    f->base = (struct sp_launcher){.ops = &fake_ops, .refs = 1};
    f->sock = pair[0];
    f->far_sock = pair[1];
    pthread_mutex_init(&f->lock, NULL);
    if (sp_pipe(f->wake) != 0 || fcntl(f->wake[0], F_SETFL, O_NONBLOCK) != 0 ||
        fcntl(f->wake[1], F_SETFL, O_NONBLOCK) != 0) {
        free_fake(&f->base);
        return NULL;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    f->running = pthread_create(&f->thread, NULL, serve, f) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return &f->base;
}
