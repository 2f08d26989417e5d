/*
 * The serving loop of init. One command at a time: EXEC -> ACK -> (FAILED | EXITED). The standby receives the request
 * and becomes the command; init waits for its end and reports it. When a command has ended, init kills the processes
 * that it left running before it sends EXITED and starts the next standby. So a process of a tenant never runs beside a
 * standby, only beside init.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/packet.h"
#include "init/file.h"
#include "init/init.h"
#include "init/memory.h"
#include "init/standby.h"
#include "init/sysv.h"

#define EXEC_CHECK_NS SP_MS(10)

/* How a command ended. */
struct outcome {
    int status;
    bool oom; /* killed by the memory watch */
    struct rusage usage;
};

/* Every orphan of the sandbox becomes a child of init, so when init has no children, there is no other process. */
static void kill_leftovers(void) {
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
        (void)kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0) {
        }
    }
}

/*
 * A command that calls PTRACE_TRACEME makes init its tracer. init lets it run on, and must not mistake its stops for
 * its end.
 */
static void detach_tracee(pid_t pid, int status) {
    int signal = WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0;
    (void)ptrace(PTRACE_DETACH, pid, NULL, (void *)(uintptr_t)signal);
}

/*
 * System V objects remain for the next command of the lease, and the memory watch does not see a short command. So
 * their size is checked after each command. Above the limit all of them are removed, as with a cgroup.
 */
static void limit_sysv(const struct sp_plan *plan) {
    if (plan->config.memory_bytes != 0 && sp_sysv_used() > plan->config.memory_bytes) {
        sp_sysv_remove();
    }
}

/* Reaps the processes that have ended. True when `pid` is one of them. */
static bool reap(pid_t pid, struct outcome *outcome) {
    int status = 0;
    struct rusage usage;
    for (;;) {
        pid_t ended = wait4(-1, &status, WNOHANG, &usage);
        if (ended <= 0) {
            return false;
        }
        if (WIFSTOPPED(status)) {
            detach_tracee(ended, status);
        } else if (ended == pid) {
            outcome->status = status;
            outcome->usage = usage;
            return true;
        }
    }
}

/*
 * Whether this signal asks to kill the command. For use before the command has execed: as no code of a tenant runs
 * then, a signal with the number of the command comes from the host.
 */
static bool is_kill_signal(const siginfo_t *info, uint32_t id) {
    return info->si_signo == SP_KILL_SIGNAL && info->si_code == SI_QUEUE && info->si_pid == 0 &&
           (uint32_t)info->si_value.sival_int == id;
}

/*
 * Performs the file operations that the host asks for, and returns whether it asks to kill the command. After the exec
 * a signal proves nothing: a tenant can send any signal, and the kernel keeps only one pending signal of a kind. So the
 * record on the control socket decides. No tenant holds the socket, and nobody but init reads it until the next standby
 * starts.
 */
static bool serve_until_kill(int control, uint32_t id) {
    static char payload[SP_FILE_PAYLOAD_MAX];
    struct sp_packet packet;
    bool killed = false;
    while (!killed && sp_packet_recv(control, &packet, payload, sizeof payload) == 0) {
        if (packet.record.type == SP_REC_FILE) {
            (void)sp_file_serve(&packet, payload);
        }
        killed = packet.record.type == SP_REC_KILL && packet.record.u.id.id == id;
        sp_packet_close(&packet);
    }
    return killed;
}

/* Sleeps until a signal arrives, at most until `until`. The number of the signal, or -1. */
static int await_signal(siginfo_t *info, int64_t until) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SP_KILL_SIGNAL);
    sigaddset(&awaited, SP_WATCH_MEMORY_SIGNAL);
    if (until == SP_NEVER) {
        return sigwaitinfo(&awaited, info);
    }
    const struct timespec ts = sp_timespec_of(sp_left_until(until));
    return sigtimedwait(&awaited, info, &ts);
}

/* Before the exec, the standby runs only code of ours, on init's own memory: there is no memory to watch. */
static bool has_execed(const struct sp_standby *standby) {
    return atomic_load_explicit(&standby->not_execed, memory_order_relaxed) == 0;
}

/* What init checks while a command runs, and when. */
struct checks {
    struct sp_memory_watch memory;
    int64_t next_check; /* when to see again whether the standby has execed, for a postponed check; else SP_NEVER */
};

/*
 * Whichever of the host's two signals arrives, and whoever has sent it, init reads the socket and begins the memory
 * watch. So a tenant that keeps one of the signals pending can delay neither action.
 */
static void check_host(struct sp_standby *standby, uint32_t id, struct checks *checks) {
    checks->next_check = SP_NEVER;
    if (serve_until_kill(standby->control, id)) {
        (void)kill(-1, SIGKILL);
    }
    if (checks->memory.next_look == SP_NEVER && !checks->memory.over) {
        sp_memory_watch_begin(&checks->memory, standby->plan, &standby->base);
    }
}

/* The standby may be in the middle of a system call that uses memory and the errno that it shares with init. So init
 * does not read the socket yet, and comes back later. */
static void check_before_exec(uint32_t id, const siginfo_t *info, struct checks *checks) {
    if (is_kill_signal(info, id)) {
        (void)kill(-1, SIGKILL);
    }
    checks->next_check = sp_now() + EXEC_CHECK_NS;
}

static void look_at_memory(struct checks *checks, struct outcome *outcome) {
    /* Checked after every wake-up, so that a tenant whose children keep dying cannot delay the look. */
    if (checks->memory.next_look != SP_NEVER && sp_now() >= checks->memory.next_look &&
        sp_memory_watch_look(&checks->memory)) {
        outcome->oom = true;
        sp_memory_watch_end(&checks->memory);
        checks->memory.over = true;
        (void)kill(-1, SIGKILL);
    }
}

/* Waits until the standby, or the command that it has become, has ended. */
static void await_end(struct sp_standby *standby, struct outcome *outcome) {
    struct checks checks = {.memory = SP_MEMORY_NOT_WATCHED, .next_check = SP_NEVER};
    siginfo_t info;
    outcome->oom = false;
    while (!reap(standby->pid, outcome)) {
        int64_t look = checks.memory.next_look;
        int signal = await_signal(&info, look < checks.next_check ? look : checks.next_check);
        uint32_t id = atomic_load_explicit(&standby->id, memory_order_acquire);
        bool check_now = signal == SP_KILL_SIGNAL || signal == SP_WATCH_MEMORY_SIGNAL ||
                         (checks.next_check != SP_NEVER && sp_now() >= checks.next_check);
        if (id == 0) {
            continue; /* no command yet */
        }
        if (check_now && has_execed(standby)) {
            check_host(standby, id, &checks);
        } else if (check_now) {
            check_before_exec(id, &info, &checks);
        }
        look_at_memory(&checks, outcome);
    }
    sp_memory_watch_end(&checks.memory);
}

static uint64_t micros(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

static int report(const struct sp_standby *standby, const struct outcome *o) {
    uint32_t id = atomic_load_explicit(&standby->id, memory_order_relaxed); /* the process that wrote it is dead */
    /* The command may have ended by itself before the watch killed it. */
    bool killed = WIFSIGNALED(o->status) && WTERMSIG(o->status) == SIGKILL;
    struct sp_record record = {.type = SP_REC_EXITED,
                               .u.exited = {.id = id,
                                            .status = (uint32_t)o->status,
                                            .user_us = micros(o->usage.ru_utime),
                                            .system_us = micros(o->usage.ru_stime),
                                            .max_rss_bytes = (uint64_t)o->usage.ru_maxrss * 1024,
                                            .flags = o->oom && killed ? SP_EXITED_OOM : 0}};
    if (standby->why.stage != 0) {
        record.type = SP_REC_FAILED;
        record.u.failed = standby->why;
        record.u.failed.id = id;
    }
    return sp_packet_send(standby->control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

void sp_init_serve(const struct sp_plan *plan, int control) {
    static struct sp_standby standby;
    int rc = sp_standby_start(&standby, plan, control);
    while (rc == 0) {
        struct outcome outcome;
        await_end(&standby, &outcome);
        /* With id 0 the standby was killed before it had a request: nobody waits for it, and the reason is unknown. */
        rc = standby.control_error != 0 || atomic_load(&standby.id) == 0 ? -ECONNRESET : 0;
        if (rc == 0) {
            kill_leftovers();
            rc = report(&standby, &outcome);
            limit_sysv(plan);
        }
        rc = rc != 0 ? rc : sp_standby_start(&standby, plan, control);
    }
}
