#include "init/attend_clock.h"

#include <stddef.h>

#include "common/clock.h"
#include "init/kill.h"
#include "init/stem.h"

/* From SIGKILL to the end of a process that nothing holds. */
#define DEATH_NS SP_MS(100)

void sp_attend_watch_soon(struct sp_attend *a) {
    if (a->memory.next_look == SP_NEVER && a->watch_at == SP_NEVER && !a->memory.over) {
        a->watch_at = sp_now() + SP_WATCH_MEMORY_AFTER_NS;
    }
}

static void for_each_child(struct sp_attend *a, void (*act)(struct sp_child *)) {
    for (unsigned i = 0; i < a->n_processes; i++) {
        act(&a->processes[i]);
    }
    if (a->command.pid != 0) {
        act(&a->command);
    }
}

static void mark_oom(struct sp_child *child) { child->oom = true; }

/* What each live process has from the interpreter is not counted: see memory.h. */
static void raise_limit(struct sp_attend *a) {
    unsigned n = a->command.pid != 0 && a->command.interprets;
    for (unsigned i = 0; i < a->n_processes; i++) {
        n += a->processes[i].interprets;
    }
    if (a->memory.limit != 0 && a->plan->stem != NULL) {
        a->memory.limit = a->plan->config.memory_bytes + a->base.of_interpreter + n * a->plan->stem->memory_bytes;
        a->memory.image = n != 0 || a->base.of_interpreter != 0 ? a->plan->stem->image_bytes : 0;
    }
}

/* One look. True when there is too much memory. */
static bool look_once(struct sp_attend *a) {
    pid_t starting[SP_PROCESSES_MAX + 1];
    unsigned n = 0;
    for (unsigned i = 0; i < a->n_processes; i++) {
        starting[n] = a->processes[i].pid;
        n += a->processes[i].start != -1;
    }
    starting[n] = a->command.pid;
    n += a->command.pid != 0 && a->command.start != -1;
    a->memory.starting = (struct sp_starting){starting, n};
    raise_limit(a);
    bool too_much = sp_memory_watch_look(&a->memory);
    a->memory.starting.n = 0;
    return too_much;
}

void sp_attend_look_at_memory(struct sp_attend *a, int64_t now) {
    if (now >= a->watch_at) {
        a->watch_at = SP_NEVER;
        sp_memory_watch_begin(&a->memory, a->plan, &a->base);
        a->memory.over = a->memory.next_look == SP_NEVER; /* there is nothing to watch */
    }
    if (a->memory.next_look != SP_NEVER && now >= a->memory.next_look && look_once(a)) {
        if (!a->memory.too_many) {
            for_each_child(a, mark_oom);
        }
        sp_memory_watch_end(&a->memory);
        (void)sp_kill_tenants(a->plan);
        sp_attend_watch_soon(a); /* for what is started before all of these have ended */
    }
}

static void look_at_child(struct sp_child *child, int64_t now) {
    if (now >= child->deadline) {
        child->deadline = SP_NEVER;
        child->timed_out = true;
        sp_child_kill(child);
    }
    if (child->killed_at != 0 && now >= child->killed_at + DEATH_NS) {
        sp_child_free_from_tracer(child);
    }
}

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t next_look_at(const struct sp_child *child) {
    return earlier(child->deadline, child->killed_at != 0 ? child->killed_at + DEATH_NS : SP_NEVER);
}

void sp_attend_look(struct sp_attend *a) {
    const int64_t now = sp_now();
    for (unsigned i = 0; i < a->n_processes; i++) {
        look_at_child(&a->processes[i], now);
    }
    if (a->command.pid != 0) {
        look_at_child(&a->command, now);
    }
    sp_attend_look_at_memory(a, now);
}

int64_t sp_attend_next_look(const struct sp_attend *a) {
    int64_t next = earlier(a->watch_at, a->memory.next_look);
    for (unsigned i = 0; i < a->n_processes; i++) {
        next = earlier(next, next_look_at(&a->processes[i]));
    }
    return a->command.pid != 0 ? earlier(next, next_look_at(&a->command)) : next;
}
