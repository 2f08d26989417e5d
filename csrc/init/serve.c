/*
 * The serving loop of init. One command at a time: EXEC -> ACK -> (FAILED | EXITED). The standby receives the request
 * and becomes the command; init waits for its end and reports it. When a command has ended, init kills the processes
 * that it left running before it sends EXITED and starts the next standby. So a process of a tenant never runs beside a
 * standby, only beside init. For processes that live longer than a command, init serves without a standby: attend.h.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/packet.h"
#include "init/attend.h"
#include "init/diagnostics.h"
#include "init/file.h"
#include "init/init.h"
#include "init/keeper.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"
#include "init/memory.h"
#include "init/request.h"
#include "init/standby.h"
#include "init/sysv.h"
#include "init/workspace.h"

#define EXEC_CHECK_NS SP_MS(10)
#define KEPT_NS SP_MS(3) /* how long the memory of an interpreter stays, if no request is expected */

/* How a command ended. */
struct outcome {
    int status;
    bool oom; /* killed by the memory watch */
    struct rusage usage;
};

/*
 * System V objects remain for the next command of the lease, and the memory watch does not see a short command. So
 * their size is checked after each command. Above the limit all of them are removed, as with a cgroup.
 */
static void limit_sysv(const struct sp_plan *plan) {
    const uint64_t limit = plan->config.memory_bytes;
    if (!sp_in_landlock_tier(plan) && limit != 0 && sp_sysv_used(0) > limit) {
        sp_sysv_remove();
    }
}

/* Reaps the processes that have ended. True when the standby, or the command, is one of them. */
static bool reap(const struct sp_standby *standby, struct outcome *outcome) {
    struct sp_runtime *runtime = standby->runtime;
    int status = 0;
    struct rusage usage;
    for (;;) {
        pid_t ended = wait4(-1, &status, WNOHANG, &usage);
        if (ended <= 0) {
            return false;
        }
        if (WIFSTOPPED(status)) {
            sp_child_detach(ended, status);
            continue;
        }
        sp_keeper_reaped(ended);
        if (ended == standby->pid) {
            outcome->status = status;
            outcome->usage = usage;
            return true;
        } else if (runtime != NULL && ended == runtime->pid) {
            runtime->status = status;
            runtime->usage = usage;
            runtime->ended = true;
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
 * Reads what the host has sent while the command runs: file operations, which are performed at once, KILL, SPAWN. After
 * the exec a signal proves nothing: a tenant can send any signal, and the kernel keeps only one pending signal of a
 * kind. So the records on the control socket decide. No tenant holds the socket, and nobody but init reads it until the
 * next standby starts. True when a process was started, so that init has to attend.
 */
static bool read_records(struct sp_standby *standby, uint32_t id, struct sp_attend *attend) {
    struct sp_request request;
    struct sp_command command;
    sp_request_free_large(); /* that of the command, which has execed */
    int rc = 0;
    while ((rc = sp_request_next(standby->control, &request, &command, sp_file_serve)) == 0) {
        if (request.packet.record.type == SP_REC_SPAWN) {
            sp_standby_hide(standby);
            sp_attend_begin(attend, standby->plan, standby->control, &standby->base);
            sp_attend_spawn(attend, &request, &command);
            return true;
        }
        if (request.packet.record.type == SP_REC_KILL && request.packet.record.u.id.id == id) {
            (void)sp_kill_tenants(standby->plan);
        } else if (request.packet.record.type == SP_REC_SERVE) {
            (void)sp_wait_fd(standby->control, POLLIN, SP_NEVER); /* the next standby must not get what follows */
        }
        sp_packet_close(&request.packet);
    }
    if (rc == -ECONNRESET) { /* the host has given the sandbox up */
        sp_end_init(standby->plan);
    }
    return false;
}

/*
 * Whichever of the host's two signals arrives, and whoever has sent it, init reads the socket and begins the memory
 * watch. So a tenant that keeps one of the signals pending can delay neither action.
 */
static bool check_host(struct sp_standby *standby, uint32_t id, struct checks *checks, struct sp_attend *attend) {
    checks->next_check = SP_NEVER;
    if (checks->memory.next_look == SP_NEVER && !checks->memory.over) {
        sp_memory_watch_begin(&checks->memory, standby->plan, &standby->base);
    }
    if (!read_records(standby, id, attend)) {
        return false;
    }
    sp_keeper_kill();
    if (standby->runtime != NULL) { /* init does not attend to it */
        sp_runtime_end(standby->runtime);
    }
    attend->command = (struct sp_child){.pid = standby->pid,
                                        .socket = standby->control,
                                        .start = -1,
                                        .id = id,
                                        .is_command = true,
                                        .deadline = SP_NEVER,
                                        .oom = checks->memory.over && !checks->memory.too_many};
    sp_attend_take_watch(attend, &checks->memory);
    return true;
}

/* The standby may be in the middle of a system call that uses memory and the errno that it shares with init. So init
 * does not read the socket yet, and comes back later. */
static void check_before_exec(const struct sp_standby *standby, uint32_t id, const siginfo_t *info,
                              struct checks *checks) {
    if (is_kill_signal(info, id)) {
        (void)sp_kill_tenants(standby->plan);
    }
    checks->next_check = sp_now() + EXEC_CHECK_NS;
}

static void look_at_memory(const struct sp_standby *standby, struct checks *checks, struct outcome *outcome) {
    /* Checked after every wake-up, so that a tenant whose children keep dying cannot delay the look. */
    const bool is_due = checks->memory.next_look != SP_NEVER && sp_now() >= checks->memory.next_look;
    if (is_due) {
        sp_keeper_look(standby->pid);
    }
    if (is_due && sp_memory_watch_look(&checks->memory)) {
        outcome->oom = !checks->memory.too_many;
        sp_memory_watch_end(&checks->memory);
        checks->memory.over = true;
        (void)sp_kill_tenants(standby->plan);
    }
}

/* The standby has ended, and the runtime is the command. True when it has ended, too. */
static bool take_runtime(struct sp_standby *standby, struct outcome *outcome) {
    struct sp_runtime *runtime = standby->runtime;
    standby->hands_over = false;
    standby->pid = runtime->pid;
    sp_runtime_leave(runtime);
    if (runtime->ended) {
        outcome->status = runtime->status;
        outcome->usage = runtime->usage;
    }
    return runtime->ended;
}

/* Without namespaces nobody kills init: it ends when the zygote has ended, or the host has given the sandbox up, also
 * while a standby takes no request. */
static bool has_to_end(const struct sp_standby *standby) {
    struct pollfd control = {.fd = standby->control, .events = POLLRDHUP};
    return sp_tier_is_orphan(standby->plan) || (sp_in_landlock_tier(standby->plan) && poll(&control, 1, 0) > 0);
}

/* Waits until the standby, or the command that it has become, has ended. False when init has to attend before. */
static bool await_end(struct sp_standby *standby, struct outcome *outcome, struct sp_attend *attend) {
    struct checks checks = {.memory = SP_MEMORY_NOT_WATCHED, .next_check = SP_NEVER};
    siginfo_t info;
    outcome->oom = false;
    while (!reap(standby, outcome) || (standby->hands_over && !take_runtime(standby, outcome))) {
        int64_t look = checks.memory.next_look;
        int signal = await_signal(&info, look < checks.next_check ? look : checks.next_check);
        uint32_t id = atomic_load_explicit(&standby->id, memory_order_acquire);
        bool is_due = checks.next_check != SP_NEVER && sp_now() >= checks.next_check;
        bool check_now = signal == SP_KILL_SIGNAL || signal == SP_WATCH_MEMORY_SIGNAL || is_due;
        if (signal == SP_KILL_SIGNAL && has_to_end(standby)) {
            sp_end_init(standby->plan);
        }
        if (id == 0) {
            /* No command yet. The signal may be about a request behind an EXEC that the standby is about to read. */
            checks.next_check = is_due ? SP_NEVER : check_now ? sp_now() + EXEC_CHECK_NS : checks.next_check;
            continue;
        }
        if (check_now && has_execed(standby)) {
            if (check_host(standby, id, &checks, attend)) {
                return false;
            }
        } else if (check_now) {
            check_before_exec(standby, id, &info, &checks);
        }
        look_at_memory(standby, &checks, outcome);
    }
    sp_memory_watch_end(&checks.memory);
    return true;
}

static void subtract(uint64_t *sum, uint64_t part) { *sum = *sum > part ? *sum - part : 0; }

static int report(const struct sp_standby *standby, const struct outcome *o) {
    uint32_t id = atomic_load_explicit(&standby->id, memory_order_relaxed); /* the process that wrote it is dead */
    /* The command may have ended by itself before the watch killed it. */
    bool killed = WIFSIGNALED(o->status) && WTERMSIG(o->status) == SIGKILL;
    struct sp_record record = sp_exited(id, o->status, &o->usage);
    subtract(&record.u.exited.user_us, standby->user_us);
    subtract(&record.u.exited.system_us, standby->system_us);
    subtract(&record.u.exited.max_rss_bytes, standby->max_rss_bytes);
    record.u.exited.flags = o->oom && killed ? SP_EXITED_OOM : 0;
    if (standby->why.stage != 0) {
        record.type = SP_REC_FAILED;
        record.u.failed = standby->why;
        record.u.failed.id = id;
    }
    return sp_packet_send(standby->control, &(struct sp_outgoing){.record = &record}, SP_NEVER);
}

/* The standby has ended. 0, or -errno when init has to end. */
static int follow(struct sp_standby *standby, const struct outcome *outcome, struct sp_attend *attend) {
    sp_keeper_stop();
    if (standby->runtime != NULL) { /* what follows is not to find it, and the next one has the next restrictions */
        sp_runtime_end(standby->runtime);
    }
    if (standby->yielded) {
        sp_keeper_kill();
        sp_memory_base_late(&standby->base);
        sp_standby_hide(standby);
        sp_attend_begin(attend, standby->plan, standby->control, &standby->base);
        return sp_attend(attend);
    }
    if (standby->restricts) {
        return sp_workspace_restrict(standby->plan);
    }
    /* With id 0 the standby was killed before it had a request: nobody waits for it, and the reason is unknown. */
    if (standby->control_error != 0 || atomic_load(&standby->id) == 0) {
        return -ECONNRESET;
    }
    if (!sp_keeper_is_alone()) {
        sp_leftovers_kill_all(standby->plan);
    }
    return report(standby, outcome);
}

static int begin_runtime(const struct sp_plan *plan, struct sp_runtime *runtime, int control) {
    struct sp_rec_failed why;
    int rc = sp_runtime_start(runtime, plan, &why);
    rc = rc != 0 ? rc : sp_runtime_await(runtime, sp_now() + SP_MS(plan->runtime_ms), &why);
    if (rc != 0) {
        sp_diagnostics_fail(control, &why);
    }
    return rc;
}

/* The runtime of the next request, which finds out if there is none. */
static void start_runtime_again(const struct sp_plan *plan, struct sp_runtime *runtime) {
    struct sp_rec_failed ignored;
    if (runtime != NULL) {
        sp_runtime_end(runtime);
        (void)sp_runtime_start(runtime, plan, &ignored);
    }
}

/* An interpreter is prepared before READY, so that no request waits for it. A standby that only has to be cloned is
 * started after READY, so that READY does not wait for it. */
static int begin(struct sp_standby *standby, const struct sp_plan *plan, int control, const struct sp_record *ready,
                 struct sp_runtime *runtime) {
    const struct sp_outgoing out = {.record = ready};
    if (standby == NULL) {
        return -ENOMEM;
    }
    if (plan->runtime != NULL && begin_runtime(plan, runtime, control) != 0) {
        return -ECHILD;
    }
    if (plan->stem == NULL) {
        int rc = sp_packet_send(control, &out, SP_NEVER);
        return rc != 0 ? rc : sp_standby_start(standby, plan, control, runtime);
    }
    int rc = sp_standby_start(standby, plan, control, runtime);
    if (rc != 0) {
        sp_diagnostics_fail(control, &standby->why);
    }
    return rc != 0 ? rc : sp_packet_send(control, &out, SP_NEVER);
}

/* Most leases end after one command, and a standby that is made before that has been made in vain. In the Landlock tier
 * init has to wait for signals, too. Most leases also end soon, and the kernel then kills the keeper together with
 * init, when the host has its result. */
static int await_request(const struct sp_standby *standby) {
    const bool waits = standby->is_last && !sp_in_landlock_tier(standby->plan);
    int rc = waits ? sp_wait_fd(standby->control, POLLIN, sp_keeper_lives() ? sp_now() + KEPT_NS : SP_NEVER) : 0;
    sp_keeper_end();
    return rc == -ETIMEDOUT ? sp_wait_fd(standby->control, POLLIN, SP_NEVER) : rc;
}

void sp_init_serve(const struct sp_plan *plan, int control, const struct sp_record *ready) {
    static struct sp_attend attend;
    static struct sp_runtime waiting;
    struct sp_runtime *runtime = plan->runtime != NULL ? &waiting : NULL;
    struct sp_standby *standby = sp_standby_memory(plan);
    int rc = begin(standby, plan, control, ready, runtime);
    while (rc == 0) {
        struct outcome outcome;
        bool ended = await_end(standby, &outcome, &attend);
        rc = ended ? follow(standby, &outcome, &attend) : sp_attend(&attend);
        limit_sysv(plan);
        rc = rc != 0 ? rc : await_request(standby);
        start_runtime_again(plan, runtime);
        rc = rc != 0 ? rc : sp_standby_start(standby, plan, control, runtime);
    }
}
