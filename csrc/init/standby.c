#include "init/standby.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/children.h"
#include "init/confine.h"
#include "init/diagnostics.h"
#include "init/exec.h"
#include "init/file.h"
#include "init/keeper.h"
#include "init/kill.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"
#include "init/request.h"
#include "init/stem.h"
#include "init/workspace.h"

#define LOOK_MS 1000 /* while an interpreter is prepared */

/* `ends`: what the host gets of a runtime; NULL: nothing. */
static int acknowledge(struct sp_standby *standby, uint32_t id, const int ends[4]) {
    struct sp_record record = {.type = SP_REC_ACK, .u.id.id = id};
    sp_memory_base_late(&standby->base);
    /* Before the ACK, because after it the host may ask init to kill the command of this number. */
    atomic_store_explicit(&standby->id, id, memory_order_release);
    const struct sp_outgoing out = {.record = &record, .fds = ends, .n_fds = ends != NULL ? 4 : 0};
    return sp_packet_send(standby->control, &out, SP_NEVER);
}

/* The runtime becomes the command. init reaps it, if it ends now, and sets `ended`. */
static int hand_over(struct sp_standby *standby, uint32_t id, const struct sp_command *command) {
    const struct sp_runtime *runtime = standby->runtime;
    const bool waits = runtime != NULL && runtime->pid != 0 && !runtime->ended;
    int rc = acknowledge(standby, id, waits ? runtime->ends : NULL);
    if (rc != 0) {
        standby->control_error = rc;
    } else if (!waits) {
        (void)sp_failed(&standby->why, SP_STAGE_EXEC, ESRCH, "the runtime has ended");
    } else {
        if (sp_in_landlock_tier(standby->plan)) {
            sp_tier_set_home(command->env);
        }
        standby->control_error = sp_runtime_request(runtime, command);
        standby->hands_over = true;
    }
    return 0;
}

/* What the interpreter has used before the ACK is not the command's. */
static void measure(struct sp_standby *standby, bool runs) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        standby->user_us = sp_micros(usage.ru_utime);
        standby->system_us = sp_micros(usage.ru_stime);
        standby->max_rss_bytes = runs ? (uint64_t)usage.ru_maxrss * 1024 : 0;
    }
    standby->base.of_interpreter = runs ? standby->plan->stem->memory_bytes : 0;
}

/* The last step of a standby that runs the tenant's code itself. Returns only on failure, with the reason in
 * *standby. */
static void run(struct sp_standby *standby, const struct sp_command *command) {
    const struct sp_plan *plan = standby->plan;
    if (sp_command_enter(plan, command, &standby->why) == 0) {
        plan->stem->run(command, standby, sizeof *standby, &standby->not_execed);
    }
}

/*
 * The standby, which will become the command, runs this: a process of its own, with descriptors of its own, on init's
 * memory. It ends with an exec, or with the reason for a failure in *standby.
 */
static int standby_main(void *arg) {
    struct sp_standby *standby = arg;
    struct sp_request request;
    struct sp_command command;
    /* The kernel clears it when this process leaves the memory, by exec too. set_tid_address(2) instead of the flag
     * CLONE_CHILD_CLEARTID, because the clone() of musl 1.2.5 and later refuses the flag. */
    if (standby->plan->stem == NULL) {
        (void)syscall(SYS_set_tid_address, &standby->not_execed);
    }
    /* Before the request comes, so that no request waits for it. */
    sp_limit_processes(standby->plan, standby->keeper != 0);
    sp_leftovers_mark();
    int rc = standby->plan->stem == NULL ? sp_tier_child(standby->plan) : 0;
    rc = rc != 0 ? rc : sp_request_recv(standby->control, &request, &command, sp_file_serve);
    if (rc == 0 && request.packet.record.type == SP_REC_SERVE) {
        standby->yielded = true;
        return 0;
    }
    if (rc == 0 && request.packet.record.type == SP_REC_NAMESPACES) {
        sp_workspace_show_namespaces(&request.packet);
        standby->restricts = true;
        return 0;
    }
    rc = rc == 0 && request.packet.record.type != SP_REC_EXEC ? -EBADMSG : rc;
    standby->is_last = rc == 0 && (request.exec.flags & SP_EXEC_LAST) != 0;
    if (rc == 0 && (request.exec.flags & SP_EXEC_RUNTIME) != 0) {
        return hand_over(standby, request.exec.id, &command);
    }
    if (rc == 0 && standby->plan->stem != NULL) {
        measure(standby, command.channel != -1);
    }
    rc = rc != 0 ? rc : acknowledge(standby, request.exec.id, NULL);
    if (rc != 0) {
        standby->control_error = rc;
        return 1;
    }
    if (standby->plan->stem != NULL && command.channel == -1) {
        atomic_store(&standby->not_execed, 0); /* it reads the control socket no more, and shares no memory with init */
        if (standby->keeper != 0) {
            (void)kill(standby->keeper, SIGKILL); /* the memory is of no use to a program that is executed */
        }
    }
    if (command.channel != -1 && standby->plan->stem != NULL) {
        run(standby, &command);
    } else {
        sp_command_exec(standby->plan, &command, &standby->why);
    }
    return 127;
}

struct sp_standby *sp_standby_memory(const struct sp_plan *plan) {
    static struct sp_standby standby;
    if (plan->stem == NULL) {
        return &standby;
    }
    void *shared = mmap(NULL, sizeof standby, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared != MAP_FAILED ? shared : NULL;
}

/*
 * The standby that is a fork with an interpreter. `ready`: the end of a pipe to tell init that it is prepared, by a
 * NUL, or why not, by a text. In the Landlock tier it is confined before that, as a tenant is: it may find files that a
 * command has left. There it has no keeper, because init could not see whether that is the only process that is left.
 */
static _Noreturn void become_interpreter(struct sp_standby *standby, int *ready) {
    const struct sp_plan *plan = standby->plan;
    int rc = sp_tier_child(plan);
    rc = rc != 0 ? sp_failed(&standby->why, SP_STAGE_LANDLOCK, -rc, "domain of a process")
                 : plan->stem->prepare(*ready, standby->is_first, &standby->why);
    bool prepared = rc == 0;
    standby->keeper = prepared && !sp_in_landlock_tier(plan) ? sp_keeper_start() : 0;
    prepared = prepared && write(*ready, "", 1) == 1;
    sp_fd_close(ready);
    _exit(prepared ? standby_main(standby) : 127);
}

void sp_standby_hide(struct sp_standby *standby) {
    if (standby->plan->stem != NULL) {
        (void)madvise(standby, sizeof *standby, MADV_DONTFORK);
    }
}

/* Whether the standby is prepared. In the Landlock tier nobody can kill init and what it has started, so init itself
 * looks whether it was given up. */
static bool await_prepared(const struct sp_standby *standby, int pipe) {
    struct pollfd p[2] = {{.fd = pipe, .events = POLLIN}, {.fd = standby->control}};
    while (sp_in_landlock_tier(standby->plan) && p[0].revents == 0) {
        (void)poll(p, 2, LOOK_MS);
        if (p[1].revents != 0 || sp_tier_is_orphan(standby->plan)) {
            return false;
        }
    }
    return sp_diagnostics_read(pipe) == 1 && *sp_diagnostics_text() == '\0';
}

static int start_interpreter(struct sp_standby *standby) {
    int pair[2];
    if (madvise(standby, sizeof *standby, MADV_DOFORK) != 0) {
        return sp_failed(&standby->why, SP_STAGE_SPAWN, errno, "standby");
    }
    int rc = sp_pipe(pair);
    if (rc != 0) {
        return sp_failed(&standby->why, SP_STAGE_SPAWN, -rc, "standby");
    }
    sp_auto_fd int mine = pair[0];
    const pid_t pid = fork(); /* not stored by both processes, which share *standby */
    rc = pid == -1 ? -errno : 0;
    if (pid == 0) {
        become_interpreter(standby, &pair[1]);
    }
    sp_fd_close(&pair[1]);
    if (rc != 0) {
        return sp_failed(&standby->why, SP_STAGE_SPAWN, -rc, "standby");
    }
    standby->pid = pid;
    sp_tier_started(standby->plan, pid);
    if (await_prepared(standby, mine)) {
        sp_keeper_take(standby->keeper);
        return 0;
    }
    (void)sp_signal(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return standby->why.stage != 0 ? -EIO : sp_failed(&standby->why, SP_STAGE_PRELOAD, EIO, "the interpreter ended");
}

int sp_standby_start(struct sp_standby *standby, const struct sp_plan *plan, int control, struct sp_runtime *runtime) {
    static char stack[64 * 1024] __attribute__((aligned(16)));
    const bool is_first = standby->plan == NULL;
    sp_request_free_large();
    memset(standby, 0, sizeof *standby);
    standby->plan = plan;
    standby->is_first = is_first;
    standby->control = control;
    standby->runtime = runtime;
    sp_tier_all_ended();
    sp_memory_base_early(&standby->base, plan, is_first);
    standby->not_execed = 1;
    if (plan->stem != NULL) {
        return start_interpreter(standby);
    }
    standby->pid = clone(standby_main, stack + sizeof stack, CLONE_VM | SIGCHLD, standby);
    if (standby->pid == -1) {
        return -errno;
    }
    sp_tier_started(plan, standby->pid);
    return 0;
}
