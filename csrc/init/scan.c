#include "init/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "init/files.h"
#include "init/lines.h"
#include "init/proc.h"

#define PROCESS_NS SP_MS(25) /* of processor time: a process that takes more counts as too much */
#define PROCESS_LOCKS_NS SP_MS(250)
#define BUDGET_FILES 16 /* between two checks of the budget */

/*
 * Reading the mappings waits for the lock of the process's memory, which some calls hold while they go through all page
 * tables. Of a process with larger page tables the mappings are not read, and their reach counts as unknown.
 */
#define TABLES_MAX_KIB UINT64_C(8192)

/* Too large for the stack; only one memory watch runs at a time. */
static struct sp_tally tally;
static struct sp_reach reach;

/* The devices of the kernel's internal mounts for memfds and pipes, and of init's /proc. */
static struct devices {
    bool known;
    dev_t memfds, pipes, proc;
} devices;

static void find_devices(int proc) {
    struct stat st;
    int ends[2] = {-1, -1};
    if (devices.known) {
        return;
    }
    devices.known = true;
    sp_auto_fd int memfd = (int)syscall(SYS_memfd_create, "", MFD_CLOEXEC);
    devices.memfds = memfd != -1 && fstat(memfd, &st) == 0 ? st.st_dev : 0;
    devices.proc = fstat(proc, &st) == 0 ? st.st_dev : 0;
    if (pipe2(ends, O_CLOEXEC) == 0) {
        devices.pipes = fstat(ends[0], &st) == 0 ? st.st_dev : 0;
        sp_fd_close(&ends[0]);
        sp_fd_close(&ends[1]);
    }
}

void sp_scan_begin(struct sp_scan *scan, bool locks_only, bool exec_filter) {
    memset(scan, 0, sizeof *scan);
    memset(&tally, 0, sizeof tally);
    scan->locks_only = locks_only;
    scan->exec_filter = exec_filter;
}

/* ---- one descriptor ---- */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text);
    size_t m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Each descriptor counts, because a file that was opened several times looks the same as copies of one descriptor. */
static void add_proc_file(struct sp_found *found, int process, const char *fd) {
    char path[32];
    char target[64];
    (void)sp_append(sp_append(path, path + sizeof path, "fd/"), path + sizeof path, fd);
    ssize_t n = readlinkat(process, path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    found->proc_files++;
    found->lists += strstr(target, "/fdinfo/") != NULL;
    found->maps += ends_with(target, "maps"); /* numa_maps and smaps, too */
}

/* Counts lines "lock:\t1: POSIX  ADVISORY  WRITE ..." and "tfd: ..."; reads "scm_fds:\t2". See proc_pid_fdinfo(5). */
static void read_info(struct sp_scan *scan, int process, const char *fd) {
    struct sp_found *found = &scan->now;
    const char watch = scan->locks_only ? 'l' : 't'; /* a cgroup counts epoll watches */
    char path[32];
    char text[4096];
    char before = '\n';
    uint64_t waiting = 0;
    ssize_t n;
    (void)sp_append(sp_append(path, path + sizeof path, "fdinfo/"), path + sizeof path, fd);
    sp_auto_fd int info = openat(process, path, O_RDONLY | O_CLOEXEC);
    while (info != -1 && found->objects <= SP_SCAN_OBJECTS_MAX && (n = read(info, text, sizeof text - 1)) > 0) {
        text[n] = '\0';
        waiting = 0;
        (void)sp_find_number(text, "\nscm_fds:", &waiting);
        found->in_flight += (unsigned)waiting;
        for (ssize_t i = 0; i < n; i++) {
            found->objects += before == '\n' && (text[i] == 'l' || text[i] == watch);
            before = text[i];
        }
    }
}

static void add_file(struct sp_found *found, int process, const char *fd, int64_t now) {
    struct stat st;
    if (fstatat(process, fd, &st, 0) != 0) {
        return;
    }
    if (st.st_dev == devices.proc && S_ISREG(st.st_mode)) {
        add_proc_file(found, process, fd + strlen("fd/"));
    } else if (st.st_dev == devices.memfds && st.st_blocks != 0) {
        sp_tally_add(&tally, SP_TALLY_MEMFD, &st, now);
    } else if (S_ISSOCK(st.st_mode)) {
        sp_tally_add(&tally, SP_TALLY_SOCKET, &st, now);
    } else if (st.st_dev == devices.pipes && S_ISFIFO(st.st_mode)) {
        sp_tally_add(&tally, SP_TALLY_PIPE, &st, now);
    }
}

/* ---- one process ---- */

/* Adds the descriptors of a process. False when they are too many to be examined. */
static bool add_files(struct sp_scan *scan, int process, bool *refused, const struct sp_budget *budget) {
    struct sp_found *found = &scan->now;
    const unsigned before = found->files;
    struct sp_listing list;
    int64_t now = sp_now();
    sp_auto_fd int fd = sp_listing_open(&list, process, "fd");
    if (fd == -1) {
        *refused = errno == EACCES;
        return true;
    }
    for (const char *name; (name = sp_listing_next(&list)) != NULL;) {
        char path[32];
        (void)sp_append(sp_append(path, path + sizeof path, "fd/"), path + sizeof path, name);
        found->files++;
        bool spent = sp_budget_ends(budget, found->files - before, BUDGET_FILES);
        if (spent || found->files > SP_SCAN_FILES_MAX) {
            return false;
        }
        add_file(found, process, path, now);
        read_info(scan, process, name);
        if (found->objects > SP_SCAN_OBJECTS_MAX) {
            return false;
        }
    }
    return true;
}

/* True when this entry has memory: it is not a zombie, and not a thread that has ended. */
static bool is_alive(int dir, char *text, size_t size) {
    uint64_t anon = 0;
    return sp_read_text(dir, "status", text, size) && sp_find_number(text, "\nRssAnon:", &anon);
}

/* Adds the filters of one thread, beyond those that every command has from the start. */
static void add_filters(struct sp_scan *scan, const char *status) {
    uint64_t filters = 0;
    if (sp_find_number(status, "\nSeccomp_filters:", &filters) && filters > scan->filters) {
        scan->now.filtered++;
        scan->now.filters += (unsigned)filters - scan->filters;
    }
}

/* False when the mappings cannot all be examined. */
static bool add_mappings(struct sp_scan *scan, int dir, const char *status, const struct sp_budget *budget) {
    uint64_t tables = 0;
    (void)sp_find_number(status, "\nVmPTE:", &tables);
    if (scan->locks_only) {
        return true;
    }
    if (tables > TABLES_MAX_KIB) {
        scan->now.reach_unknown = true;
        return true;
    }
    return sp_reach_add(&reach, dir, devices.memfds, budget);
}

/* What it may hide counts by the growth of the machine's figures. */
static void note_unreadable(struct sp_found *found) { found->unreadable = found->hidden = found->reach_unknown = true; }

/* Each thread may have filters of its own. All share the memory and, enforced by seccomp, the descriptors. */
static bool add_threads(struct sp_scan *scan, int dir, bool *has_memory, const struct sp_budget *budget) {
    struct sp_listing list;
    char text[4096];
    const char *name;
    unsigned n = 0;
    sp_auto_fd int tasks = sp_listing_open(&list, dir, "task");
    while (tasks != -1 && (name = sp_listing_next(&list)) != NULL) {
        sp_auto_fd int task = openat(tasks, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (sp_budget_ends(budget, ++n, 1)) {
            return false;
        }
        if (task == -1 || !is_alive(task, text, sizeof text)) {
            continue;
        }
        add_filters(scan, text);
        /* When the first thread has ended before the others, only they show the memory. */
        if (!*has_memory) {
            bool refused = false;
            *has_memory = true;
            if (!add_files(scan, task, &refused, budget) || !add_mappings(scan, task, text, budget)) {
                return false;
            }
            if (refused) {
                note_unreadable(&scan->now);
            }
        }
    }
    return true;
}

/* False when the process cannot be examined completely. */
static bool add_process(struct sp_scan *scan, int dir, const struct sp_budget *budget) {
    char text[4096];
    uint64_t threads = 0;
    bool refused = false;
    bool listed = add_files(scan, dir, &refused, budget);
    /* The order matters: a process without memory cannot be listed either, but it hides nothing. */
    bool lives = is_alive(dir, text, sizeof text);
    if (lives && (!listed || !add_mappings(scan, dir, text, budget))) {
        return false;
    }
    if (lives && refused) {
        note_unreadable(&scan->now);
    }
    if (lives && scan->locks_only) {
        return true;
    }
    (void)sp_find_number(text, "\nThreads:", &threads);
    if (lives && threads == 1) {
        add_filters(scan, text);
        return true;
    }
    return add_threads(scan, dir, &lives, budget);
}

/* ---- a pass ---- */

static void begin_pass(struct sp_scan *scan, int proc) {
    char text[4096];
    uint64_t filters = 0;
    find_devices(proc);
    memset(&reach, 0, sizeof reach);
    memset(&scan->now, 0, sizeof scan->now);
    sp_tally_begin_pass(&tally);
    if (sp_read_text(proc, "1/status", text, sizeof text) && sp_find_number(text, "\nSeccomp_filters:", &filters)) {
        scan->filters = (unsigned)filters + (scan->exec_filter ? 1 : 0);
    }
    scan->is_running = true;
    scan->done = 1; /* skips init */
    scan->started = sp_now();
    scan->spent = 0;
    scan->steps = scan->processes = 0;
}

static void end_pass(struct sp_scan *scan) {
    int64_t now = sp_now();
    sp_tally_sum(&tally, scan->started, now, scan->now.sums);
    scan->unreadable_since = !scan->now.unreadable         ? 0
                             : scan->unreadable_since == 0 ? scan->started
                                                           : scan->unreadable_since;
    scan->unreadable_passes = scan->now.unreadable ? scan->unreadable_passes + 1 : 0;
    const unsigned passes = scan->locks_only ? SP_SCAN_UNREADABLE_LOCKS : SP_SCAN_UNREADABLE_PASSES;
    const int64_t since = scan->locks_only ? 0 : SP_SCAN_UNREADABLE_NS;
    scan->now.too_much |= scan->unreadable_passes > passes && scan->started - scan->unreadable_since > since;
    scan->now.reach = reach.bytes;
    scan->now.mappings = reach.lines;
    scan->last = scan->now;
    scan->began = scan->started;
    scan->ended = now;
    scan->cost = scan->spent;
    scan->is_running = false;
}

static bool is_starting(const struct sp_scan *scan, pid_t pid) {
    for (unsigned i = 0; i < scan->starting.n; i++) {
        if (scan->starting.pids[i] == pid) {
            return true;
        }
    }
    return false;
}

/* Continues the pass; /proc lists processes in the order of their pids. True when no process is left. */
static bool scan_processes(struct sp_scan *scan, int proc, const struct sp_budget *budget) {
    struct sp_listing list;
    const char *name;
    const int done_before = scan->done;
    sp_listing_again(&list, proc);
    while ((name = sp_listing_next(&list)) != NULL) {
        const char *at = name;
        int pid = (int)sp_number(&at, 10);
        if (pid <= done_before || !sp_proc_is_tenant(pid) || is_starting(scan, pid)) {
            continue;
        }
        if (sp_budget_is_spent(budget)) {
            return false;
        }
        sp_auto_fd int dir = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const struct sp_budget own = sp_budget_of(scan->locks_only ? PROCESS_LOCKS_NS : PROCESS_NS);
        if (dir != -1 && !add_process(scan, dir, &own)) {
            scan->now.too_much = true;
            return true;
        }
        scan->processes++;
        scan->done = pid;
    }
    return true;
}

bool sp_scan_step(struct sp_scan *scan, int proc, const struct sp_budget *budget) {
    int64_t start = sp_cpu_now();
    if (!scan->is_running) {
        begin_pass(scan, proc);
    }
    bool whole = scan_processes(scan, proc, budget);
    if (!whole && ++scan->steps >= SP_SCAN_STEPS_MAX && scan->processes > SP_SCAN_PROCESSES_MAX) {
        scan->now.too_much = true;
        whole = true;
    }
    scan->spent += sp_cpu_now() - start;
    if (whole) {
        end_pass(scan);
    }
    return whole;
}
