#include "init/attend.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/adopt.h"
#include "init/attend_clock.h"
#include "init/file.h"
#include "init/keeper.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"

/* Children that are reaped in one turn, so that a tenant whose processes end without pause delays nothing else. */
#define REAPED_IN_A_TURN 64
/* And of those that a command has left: each round looks at all that are not reaped yet. */
#define REAPED_AT_THE_END 16384
/* How long the processes that a command has left may take to end after SIGKILL, and how long, and in how many rounds,
 * they may fork faster than init kills. After this everything is killed. Only processes that end as soon as they have
 * forked reach a third round. */
#define LEFTOVERS_NS SP_SEC(1)
#define FORKING_NS SP_MS(20)
#define FORKING_ROUNDS 3
#define LEFTOVERS_PAUSE_NS SP_MS(1) / 5
/* Each process takes two descriptors, and a request four. */
#define SPARE_FDS 24

/* ---- signals that only wake ---- */

static void wake(int signal) { (void)signal; }

/* With handlers these signals interrupt ppoll. sigwait, which needs no handlers, goes on as before. */
static void catch_signals(void) {
    static const int signals[] = {SIGCHLD, SP_KILL_SIGNAL, SP_WATCH_MEMORY_SIGNAL};
    static bool done;
    const struct sigaction action = {.sa_handler = wake};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0] && !done; i++) {
        (void)sigaction(signals[i], &action, NULL);
    }
    done = true;
}

/* ---- children ---- */

static unsigned room_for_processes(void) {
    struct rlimit files;
    unsigned room = SP_PROCESSES_MAX;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 2 * SP_PROCESSES_MAX + SPARE_FDS) {
        room = files.rlim_cur > SPARE_FDS ? (unsigned)(files.rlim_cur - SPARE_FDS) / 2 : 0;
    }
    return room;
}

void sp_attend_spawn(struct sp_attend *a, struct sp_request *request, struct sp_command *command) {
    struct sp_child *child = &a->processes[a->n_processes];
    a->served = true;
    if (a->n_processes >= room_for_processes()) {
        struct sp_rec_failed why;
        (void)sp_failed(&why, SP_STAGE_SPAWN, EAGAIN, "processes of this sandbox");
        sp_packet_fail(request->packet.fds[0], 0, &why);
    } else {
        *child = (struct sp_child){.socket = sp_fd_steal(&request->packet.fds[0]), .start = -1};
        if (sp_child_start(child, a->plan, request, command) == 0) {
            a->n_processes++;
            sp_attend_watch_soon(a);
        } else {
            sp_packet_fail(child->socket, 0, &child->why);
            sp_fd_close(&child->socket);
        }
    }
    sp_packet_close(&request->packet);
}

static bool is_known(const struct sp_attend *a, pid_t pid) {
    bool known = pid == a->command.pid;
    for (unsigned i = 0; i < a->n_processes; i++) {
        known = known || pid == a->processes[i].pid;
    }
    return known;
}

/* A tenant that names another process of its own as the copy gains nothing: the host gets the end of that one. */
static void adopt(struct sp_attend *a, struct sp_request *request) {
    static const struct sp_record started = {.type = SP_REC_STARTED};
    struct sp_rec_failed why;
    const pid_t pid = sp_adopt(request->packet.fds[1], request->packet.record.u.id.id);
    a->served = true;
    if (a->n_processes >= room_for_processes()) {
        (void)sp_failed(&why, SP_STAGE_SPAWN, EAGAIN, "processes of this sandbox");
        sp_packet_fail(request->packet.fds[0], 0, &why);
    } else if (pid < 0 || is_known(a, pid)) {
        (void)sp_failed(&why, SP_STAGE_SPAWN, ESRCH, "copy of a session");
        sp_packet_fail(request->packet.fds[0], 0, &why);
    } else {
        a->processes[a->n_processes++] = (struct sp_child){.pid = pid,
                                                           .socket = sp_fd_steal(&request->packet.fds[0]),
                                                           .start = -1,
                                                           .interprets = true,
                                                           .deadline = SP_NEVER};
        (void)sp_packet_send(a->processes[a->n_processes - 1].socket, &(struct sp_outgoing){.record = &started},
                             sp_now());
        sp_attend_watch_soon(a);
    }
}

static int start_command(struct sp_attend *a, struct sp_request *request, struct sp_command *command) {
    struct sp_record ack = {.type = SP_REC_ACK, .u.id.id = request->exec.id};
    if (a->command.pid != 0) {
        return -EBADMSG;
    }
    int rc = sp_packet_send(a->control, &(struct sp_outgoing){.record = &ack}, SP_NEVER);
    a->command = (struct sp_child){.socket = a->control, .start = -1, .id = request->exec.id, .is_command = true};
    if (rc == 0 && sp_child_start(&a->command, a->plan, request, command) != 0) {
        sp_packet_fail(a->control, request->exec.id, &a->command.why);
    }
    sp_attend_watch_soon(a);
    return rc;
}

static int take_request(struct sp_attend *a) {
    struct sp_request request;
    struct sp_command command;
    sp_request_free_large();
    int rc = sp_request_next(a->control, &request, &command, sp_file_serve);
    if (rc != 0) {
        return rc == -EAGAIN ? 0 : rc;
    }
    switch (request.packet.record.type) {
    case SP_REC_SPAWN:
        sp_attend_spawn(a, &request, &command);
        break;
    case SP_REC_ADOPT:
        adopt(a, &request);
        break;
    case SP_REC_EXEC:
        a->served = true;
        rc = start_command(a, &request, &command);
        break;
    case SP_REC_KILL:
        if (a->command.pid != 0 && request.packet.record.u.id.id == a->command.id) {
            sp_child_kill(&a->command);
        }
        break;
    case SP_REC_FILE: /* done */
        a->served = true;
        break;
    default: /* SERVE: init serves already, and has to serve what follows */
        a->served = false;
        break;
    }
    sp_packet_close(&request.packet);
    return rc;
}

/* ---- ends ---- */

static bool reap(struct sp_attend *a, int most, int *rc);

/* The command has ended: what it has left running ends before EXITED is sent. As long as it forks faster than init
 * kills, it can also touch memory. A look at that takes as long as many rounds of killing, so it comes after these. */
static int end_command(struct sp_attend *a, int status, const struct rusage *usage) {
    const struct timespec pause = {.tv_nsec = LEFTOVERS_PAUSE_NS};
    const int64_t began = sp_now();
    struct sp_child ended = a->command;
    enum sp_leftovers left;
    unsigned forking = 0;
    int rc = 0;
    a->command.pid = 0;
    while ((left = sp_leftovers_kill_marked(a->plan)) != SP_LEFTOVERS_NONE && rc == 0) {
        const int64_t passed = sp_now() - began;
        forking += left == SP_LEFTOVERS_NEW;
        if (passed > LEFTOVERS_NS || (passed > FORKING_NS && forking > FORKING_ROUNDS)) {
            (void)sp_kill_tenants(a->plan);
        }
        (void)nanosleep(&pause, NULL);
        if (left != SP_LEFTOVERS_NEW || passed > FORKING_NS) {
            sp_attend_look_at_memory(a, sp_now());
        }
        (void)reap(a, REAPED_AT_THE_END, &rc);
    }
    return rc != 0 ? rc : sp_child_report(&ended, status, usage);
}

static int end_child(struct sp_attend *a, pid_t pid, int status, const struct rusage *usage) {
    if (pid == a->command.pid) {
        sp_child_read_start(&a->command);
        return end_command(a, status, usage);
    }
    for (unsigned i = 0; i < a->n_processes; i++) {
        struct sp_child *child = &a->processes[i];
        if (child->pid == pid) {
            sp_child_read_start(child);
            (void)sp_child_report(child, status, usage);
            sp_fd_close(&child->socket);
            *child = a->processes[--a->n_processes];
            break;
        }
    }
    return 0;
}

/* Reaps those that have ended, `most` at the most. True when there are no children any more. */
static bool reap(struct sp_attend *a, int most, int *rc) {
    int status = 0;
    struct rusage usage;
    for (int n = 0; n < most && *rc == 0; n++) {
        pid_t ended = wait4(-1, &status, WNOHANG, &usage);
        if (ended <= 0) {
            return ended == -1 && errno == ECHILD;
        }
        if (WIFSTOPPED(status)) {
            sp_child_detach(ended, status);
        } else {
            sp_keeper_reaped(ended);
            *rc = end_child(a, ended, status, &usage);
        }
    }
    return false;
}

/* ---- the loop ---- */

/* Waits until a descriptor is ready, a signal comes, or a time has come. */
static int wait_for_news(const struct sp_attend *a, struct pollfd *fds, unsigned n) {
    sigset_t mask;
    const int64_t next = sp_attend_next_look(a);
    const struct timespec ts = sp_timespec_of(next != SP_NEVER ? sp_left_until(next) : 0);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigdelset(&mask, SIGCHLD);
    sigdelset(&mask, SP_KILL_SIGNAL);
    sigdelset(&mask, SP_WATCH_MEMORY_SIGNAL);
    return ppoll(fds, n, next != SP_NEVER ? &ts : NULL, &mask);
}

static int serve_turn(struct sp_attend *a) {
    struct pollfd fds[2 + 2 * SP_PROCESSES_MAX];
    const unsigned n = a->n_processes;
    fds[0] = (struct pollfd){.fd = a->control, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = a->command.pid != 0 ? a->command.start : -1, .events = POLLIN};
    for (unsigned i = 0; i < n; i++) {
        fds[2 + 2 * i] = (struct pollfd){.fd = a->processes[i].socket, .events = POLLIN};
        fds[3 + 2 * i] = (struct pollfd){.fd = a->processes[i].start, .events = POLLIN};
    }
    if (wait_for_news(a, fds, 2 + 2 * n) <= 0) {
        return 0; /* what is in `revents` then is not known */
    }
    /* The children before the request, which may add one. */
    for (unsigned i = 0; i < n; i++) {
        if (fds[2 + 2 * i].revents != 0) {
            sp_child_read_signals(&a->processes[i]);
        }
        if (fds[3 + 2 * i].revents != 0) {
            sp_child_read_start(&a->processes[i]);
        }
    }
    if (fds[1].revents != 0) {
        sp_child_read_start(&a->command);
    }
    return fds[0].revents != 0 ? take_request(a) : 0;
}

void sp_attend_begin(struct sp_attend *a, const struct sp_plan *plan, int control, const struct sp_memory_base *base) {
    catch_signals();
    a->plan = plan;
    a->control = control;
    a->served = false;
    a->command.pid = 0;
    a->n_processes = 0;
    a->base = *base;
    a->memory = (struct sp_memory_watch)SP_MEMORY_NOT_WATCHED;
    a->watch_at = SP_NEVER;
}

void sp_attend_take_watch(struct sp_attend *a, const struct sp_memory_watch *watch) {
    a->memory = *watch;
    a->memory.over = false;
    sp_attend_watch_soon(a);
}

int sp_attend(struct sp_attend *a) {
    int rc = 0;
    while (rc == 0) {
        bool alone = reap(a, REAPED_IN_A_TURN, &rc);
        rc = rc == 0 && sp_tier_is_orphan(a->plan) ? -ESRCH : rc;
        if (rc == 0 && alone && a->served) {
            break;
        }
        sp_attend_look(a);
        rc = rc != 0 ? rc : serve_turn(a);
    }
    sp_memory_watch_end(&a->memory);
    return rc;
}
