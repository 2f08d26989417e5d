/*
 * The serving loop of init. One command at a time: EXEC -> ACK -> (FAILED | EXITED). The standby takes the request and
 * becomes the command; init waits for its end and reports. When a command has exited, what it left running is killed
 * before EXITED is sent, and before the next standby is made: no tenant's process ever lives beside our code but init.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/packet.h"
#include "init/init.h"
#include "init/memory.h"
#include "init/standby.h"
#include "init/sysv.h"

#define NOT_YET_NS (10 * INT64_C(1000000))

/* What one wait for a command yields. */
struct outcome {
    int status;
    bool oom; /* killed by the memory watch */
    struct rusage usage;
};

/* Every orphan of the sandbox is init's child in the end, so "no children" means "no other process". */
static void kill_leftovers(void) {
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
        (void)kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0) {
        }
    }
}

/*
 * A command that asks to be traced (PTRACE_TRACEME) makes init its tracer; its stops are none of init's business, and
 * are not to be taken for its end.
 */
static void let_go(pid_t pid, int status) {
    int signal = WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0;
    (void)ptrace(PTRACE_DETACH, pid, NULL, (void *)(uintptr_t)signal);
}

/*
 * System V objects stay for the lease's next command, and a short command is not watched: what they come to is looked
 * at here. Above the limit they all go, as they would have gone with a cgroup.
 */
static void bound_leftovers(const struct sp_plan *plan) {
    if (plan->config.memory_bytes != 0 && sp_sysv_used() > plan->config.memory_bytes) {
        sp_sysv_remove();
    }
}

/* Reaps what has ended. True when `pid` was among it. */
static bool reap(pid_t pid, struct outcome *outcome) {
    int status = 0;
    struct rusage usage;
    for (;;) {
        pid_t ended = wait4(-1, &status, WNOHANG, &usage);
        if (ended <= 0) {
            return false;
        }
        if (WIFSTOPPED(status)) {
            let_go(ended, status);
        } else if (ended == pid) {
            outcome->status = status;
            outcome->usage = usage;
            return true;
        }
    }
}

/*
 * The host's KILL carries the command's number: one that comes late names a command that is over. It comes without a
 * number when the sandbox's signal queue is full, and then means whatever runs. A tenant that forges it kills itself.
 */
static bool is_kill(const siginfo_t *info, uint32_t id) {
    bool stale = info->si_code == SI_QUEUE && info->si_pid == 0 && (uint32_t)info->si_value.sival_int != id;
    return info->si_signo == SP_KILL_SIGNAL && id != 0 && !stale;
}

/* Sleeps until a signal or the next look. The signal's number, or -1. */
static int await_signal(siginfo_t *info, int64_t next_look) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SP_KILL_SIGNAL);
    sigaddset(&awaited, SP_WATCH_SIGNAL);
    if (next_look == SP_NEVER) {
        return sigwaitinfo(&awaited, info);
    }
    int64_t left = next_look - sp_now();
    left = left > 0 ? left : 0;
    const struct timespec ts = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
    return sigtimedwait(&awaited, info, &ts);
}

/* Before it has, nobody runs but our code on init's own, undumpable memory: there is nothing to look at. */
static bool has_execed(const struct sp_standby *standby) {
    return atomic_load_explicit(&standby->ours, memory_order_relaxed) == 0;
}

/* Until the standby, or the command that it has become, ends. */
static void await_end(struct sp_standby *standby, struct outcome *outcome) {
    struct sp_memory_watch watch = {.next_look = SP_NEVER};
    siginfo_t info;
    outcome->oom = false;
    while (!reap(standby->pid, outcome)) {
        int signal = await_signal(&info, watch.next_look);
        uint32_t id = atomic_load_explicit(&standby->id, memory_order_acquire);
        if (signal > 0 && is_kill(&info, id)) {
            (void)kill(-1, SIGKILL);
        }
        /* Whoever sent it: it does not hurt. */
        if (signal == SP_WATCH_SIGNAL && id != 0 && watch.next_look == SP_NEVER) {
            sp_memory_watch_begin(&watch, &standby->plan->config, &standby->base);
        }
        /* Also when something else woke it: a tenant's dying children must not put the look off. */
        bool due = watch.next_look != SP_NEVER && sp_now() >= watch.next_look;
        if (due && !has_execed(standby)) {
            watch.next_look = sp_now() + NOT_YET_NS;
        } else if (due && sp_memory_watch_look(&watch)) {
            outcome->oom = true;
            watch.next_look = SP_NEVER;
            (void)kill(-1, SIGKILL);
        }
    }
}

static uint64_t micros(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

static int report(const struct sp_standby *standby, const struct outcome *o) {
    uint32_t id = atomic_load_explicit(&standby->id, memory_order_relaxed); /* its writer is dead */
    /* It may have ended by itself before the kill reached it. */
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
        /* Killed before it had a request: nobody waits for it, and nothing is known of why. */
        rc = standby.broken != 0 || atomic_load(&standby.id) == 0 ? -ECONNRESET : 0;
        if (rc == 0) {
            kill_leftovers();
            rc = report(&standby, &outcome);
            bound_leftovers(plan);
        }
        rc = rc != 0 ? rc : sp_standby_start(&standby, plan, control);
    }
}
