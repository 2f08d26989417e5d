#include "init/census.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "init/files.h"
#include "init/lines.h"
#include "init/proc.h"
#include "init/share.h"

#define KIB UINT64_C(1024)
#define BUDGET_PROCESSES 8 /* between two checks of the budget */

static void find_kib(const char *text, const char *name, uint64_t *bytes) {
    *bytes = 0;
    (void)sp_find_number(text, name, bytes);
    *bytes *= KIB;
}

struct walk {
    struct sp_census *census;
    const struct sp_budget *budget;
    bool exact;
    uint64_t not_exact; /* shared memory of the processes whose exact share was not asked for */
    int64_t walked_ns;  /* see sp_share_find() */
};

/* False when this entry has no memory: a zombie, or a thread that has ended. */
static bool has_memory(const char *text) { return strstr(text, "\nRssAnon:") != NULL; }

/*
 * Whether the process has the memory of its parent, which counts already. It is read again because two processes whose
 * first threads have ended look as if they had the same memory.
 */
static bool is_counted(const struct sp_process *p, const char *text, int dir) {
    char again[4096];
    uint64_t parent = 0;
    (void)sp_find_number(text, "\nPPid:", &parent);
    return sp_share_is_same(p->pid, (int)parent) && sp_read_text(dir, "status", again, sizeof again) &&
           has_memory(again);
}

static bool add_text(struct walk *walk, const char *text, struct sp_process *p, int dir) {
    uint64_t threads = 0;
    if (!has_memory(text)) {
        return false;
    }
    (void)sp_find_number(text, "\nThreads:", &threads);
    walk->census->threads += (unsigned)threads;
    if (dir != -1 && is_counted(p, text, dir)) {
        return true;
    }
    walk->census->processes++;
    find_kib(text, "\nRssAnon:", &p->anon);
    find_kib(text, "\nRssFile:", &p->file);
    find_kib(text, "\nRssShmem:", &p->shared);
    find_kib(text, "\nVmSwap:", &p->swap);
    find_kib(text, "\nVmPTE:", &p->tables);
    bool refined = dir != -1 && sp_share_find(p, dir, walk->budget, &walk->walked_ns);
    walk->census->mapped += refined ? p->shared : 0;
    walk->not_exact += refined ? 0 : p->shared;
    walk->census->own += p->anon + p->swap;
    walk->census->shown += refined ? 0 : p->anon;
    walk->census->largest = p->anon + p->swap > walk->census->largest ? p->anon + p->swap : walk->census->largest;
    walk->census->tables += p->tables;
    return true;
}

/* When the first thread has ended before the others, its status shows no memory, but theirs does. */
static void add_other_thread(struct walk *walk, int dir) {
    struct sp_listing list;
    char text[4096];
    const char *name;
    sp_auto_fd int tasks = sp_listing_open(&list, dir, "task");
    for (unsigned n = 1; tasks != -1 && (name = sp_listing_next(&list)) != NULL; n++) {
        if (sp_budget_ends(walk->budget, n, BUDGET_PROCESSES)) {
            walk->census->out_of_time = true;
            return;
        }
        struct sp_process p = {.pid = 0};
        sp_auto_fd int task = openat(tasks, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (task != -1 && sp_read_text(task, "status", text, sizeof text) && add_text(walk, text, &p, -1)) {
            return;
        }
    }
}

static void add_process(struct walk *walk, int proc, const char *pid) {
    char name[32];
    char text[4096];
    const char *at = pid;
    struct sp_process p = {.pid = (int)sp_number(&at, 10)};
    (void)sp_append(sp_append(name, name + sizeof name, pid), name + sizeof name, "/status");
    if (!sp_read_text(proc, name, text, sizeof text)) {
        return;
    }
    sp_auto_fd int dir = walk->exact ? openat(proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (!add_text(walk, text, &p, dir)) {
        sp_auto_fd int leaderless = openat(proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        add_other_thread(walk, leaderless);
    }
}

void sp_census_take(struct sp_census *census, int proc, bool exact, uint64_t shared_by_all,
                    const struct sp_budget *budget) {
    struct walk walk = {.census = census, .budget = budget, .exact = exact};
    struct sp_listing list;
    const char *pid;
    memset(census, 0, sizeof *census);
    sp_listing_again(&list, proc);
    for (unsigned n = 1; (pid = sp_listing_next(&list)) != NULL; n++) {
        if (sp_budget_ends(budget, n, BUDGET_PROCESSES)) {
            census->out_of_time = true;
            break;
        }
        const char *at = pid;
        if (sp_proc_is_tenant((int)sp_number(&at, 10))) {
            add_process(&walk, proc, pid);
        }
    }
    const uint64_t at_most = walk.not_exact < shared_by_all ? walk.not_exact : shared_by_all;
    census->mapped += at_most;
    census->shown += at_most;
}
