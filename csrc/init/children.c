#include "init/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/confine.h"
#include "init/exec.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"
#include "init/proc.h"
#include "init/stem.h"

/* ---- in the child, up to its exec ---- */

/* A new terminal of the sandbox's own devpts: its master, or -errno. The command gets the other end. It has its size
 * before the program can ask for it. */
static int open_terminal(const struct sp_rec_exec *exec, struct sp_command *command) {
    sp_auto_fd int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    const int unlocked = 0;
    const struct winsize size = {.ws_row = (unsigned short)exec->rows, .ws_col = (unsigned short)exec->cols};
    if (master == -1 || ioctl(master, TIOCSPTLCK, &unlocked) != 0 || ioctl(master, TIOCSWINSZ, &size) != 0) {
        return -errno;
    }
    int end = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (end == -1) {
        return -errno;
    }
    command->has_terminal = true;
    command->fds[0] = command->fds[1] = command->fds[2] = end;
    return sp_fd_steal(&master);
}

/* The process itself sends the ACK, so that the kernel shows the host its pid. */
static int acknowledge_self(int socket, const int *master) {
    struct sp_record record = {.type = SP_REC_ACK};
    return sp_packet_send(socket, &(struct sp_outgoing){.record = &record, .fds = master, .n_fds = *master >= 0},
                          sp_now() + SP_SEC(1));
}

/* Turns the child into the command. Returns only on failure, with *why filled. */
static void become_command(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    if (command->channel == -1 || plan->stem == NULL) {
        sp_command_exec(plan, command, why);
        return;
    }
    if (plan->stem->prepare(command->fds[2], true, why) == 0 && sp_command_enter(plan, command, why) == 0) {
        plan->stem->run(command, NULL, 0, NULL);
    }
}

static _Noreturn void become(const struct sp_plan *plan, const struct sp_child *child, const struct sp_request *request,
                             struct sp_command *command, int report) {
    struct sp_rec_failed why;
    const bool wants_terminal = !child->is_command && (request->exec.flags & SP_EXEC_PTY) != 0;
    /* Before it enters the domain of tenants, in which the Landlock tier lets nobody open one. */
    sp_auto_fd int master = !wants_terminal            ? -1
                            : sp_tier_is_grouped(plan) ? -ENOTSUP
                                                       : open_terminal(&request->exec, command);
    int rc = wants_terminal && master < 0 ? master : 0;
    if (rc != 0) {
        (void)sp_failed(&why, rc == -ENOTSUP ? SP_STAGE_TIER : SP_STAGE_SPAWN, -rc, "terminal");
    } else if ((rc = sp_tier_child(plan)) != 0) {
        (void)sp_failed(&why, SP_STAGE_LANDLOCK, -rc, "domain of a process");
    } else if (child->is_command) {
        sp_leftovers_mark();
    } else if ((rc = acknowledge_self(child->socket, &master)) != 0) {
        (void)sp_failed(&why, SP_STAGE_SPAWN, -rc, "acknowledgement");
    }
    if (rc == 0) {
        /* Once it has a tenant's ids: to take them above the limit would keep it from its exec (setuid(2)). */
        sp_limit_processes(plan, 0);
        become_command(plan, command, &why);
    }
    (void)!write(report, &why, sizeof why);
    _exit(127);
}

/* ---- in init ---- */

int sp_child_start(struct sp_child *child, const struct sp_plan *plan, const struct sp_request *request,
                   struct sp_command *command) {
    int pair[2];
    int rc = sp_pipe(pair);
    sp_auto_fd int report = pair[1];
    child->start = pair[0];
    child->interprets = command->channel != -1 && plan->stem != NULL;
    const int64_t now = sp_now();
    const uint64_t timeout = request->exec.timeout_ns;
    child->deadline = timeout == 0 || timeout > (uint64_t)(SP_NEVER - now) ? SP_NEVER : now + (int64_t)timeout;
    child->pid = rc == 0 ? fork() : -1;
    if (child->pid == 0) {
        become(plan, child, request, command, report);
    }
    if (child->pid == -1) {
        rc = rc != 0 ? rc : -errno;
        child->pid = 0;
        sp_fd_close(&child->start);
        return sp_failed(&child->why, SP_STAGE_SPAWN, -rc, "fork");
    }
    sp_tier_started(plan, child->pid);
    return 0;
}

static void send_record(struct sp_child *child, const struct sp_record *record) {
    if (child->socket != -1 && sp_packet_send(child->socket, &(struct sp_outgoing){.record = record}, sp_now()) != 0) {
        sp_fd_close(&child->socket);
    }
}

void sp_child_read_start(struct sp_child *child) {
    struct sp_rec_failed why;
    if (child->start == -1) {
        return;
    }
    ssize_t n = read(child->start, &why, sizeof why);
    sp_fd_close(&child->start);
    if (n == (ssize_t)sizeof why) {
        child->why = why;
    } else if (!child->is_command) {
        send_record(child, &(struct sp_record){.type = SP_REC_STARTED});
    }
}

void sp_child_read_signals(struct sp_child *child) {
    struct sp_packet packet;
    int rc = sp_packet_recv(child->socket, &packet, NULL, 0);
    sp_packet_close(&packet);
    if (rc == 0 && packet.record.type == SP_REC_SIGNAL) {
        if (packet.record.u.signal.number == SIGKILL) {
            sp_child_kill(child);
        } else {
            (void)sp_signal(child->pid, (int)packet.record.u.signal.number);
        }
    } else if (rc != -EAGAIN) { /* the host has given the process up */
        sp_fd_close(&child->socket);
    }
}

void sp_child_kill(struct sp_child *child) {
    (void)sp_signal(child->pid, SIGKILL);
    child->killed_at = sp_now();
}

void sp_child_free_from_tracer(struct sp_child *child) {
    char name[64];
    char text[4096];
    uint64_t tracer = 0;
    child->killed_at = sp_now();
    (void)snprintf(name, sizeof name, "/proc/%d/status", (int)child->pid);
    if (sp_read_text(-1, name, text, sizeof text) && sp_find_number(text, "\nTracerPid:", &tracer) && tracer > 1) {
        (void)sp_signal((pid_t)tracer, SIGKILL);
    }
}

uint64_t sp_micros(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

struct sp_record sp_exited(uint32_t id, int status, const struct rusage *usage) {
    return (struct sp_record){.type = SP_REC_EXITED,
                              .u.exited = {.id = id,
                                           .status = (uint32_t)status,
                                           .user_us = sp_micros(usage->ru_utime),
                                           .system_us = sp_micros(usage->ru_stime),
                                           .max_rss_bytes = (uint64_t)usage->ru_maxrss * 1024}};
}

int sp_child_report(const struct sp_child *child, int status, const struct rusage *usage) {
    struct sp_record record = sp_exited(child->id, status, usage);
    /* It may have ended by itself before it was killed. */
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        record.u.exited.flags = child->oom ? SP_EXITED_OOM : child->timed_out ? SP_EXITED_TIMED_OUT : 0;
    }
    if (child->why.stage != 0) {
        record.type = SP_REC_FAILED;
        record.u.failed = child->why;
        record.u.failed.id = child->id;
    }
    const int64_t deadline = child->is_command ? SP_NEVER : sp_now();
    return child->socket != -1 ? sp_packet_send(child->socket, &(struct sp_outgoing){.record = &record}, deadline) : 0;
}

void sp_child_detach(pid_t pid, int status) {
    int signal = WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0;
    (void)ptrace(PTRACE_DETACH, pid, NULL, (void *)(uintptr_t)signal);
}
