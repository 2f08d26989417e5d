#include "init/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "init/files.h"
#include "init/kernel_memory.h"
#include "init/proc.h"
#include "init/reach.h"
#include "init/sysv.h"

#define LOOK_NS (25 * INT64_C(1000000))
/*
 * A child between vfork and exec shows its parent's memory as its own. It is there for a moment, so a sum counts as too
 * much only when no look of a whole row finds less.
 */
#define CONFIRM_NS (4 * INT64_C(1000000))
#define ROW_NS (20 * INT64_C(1000000))
#define ROW_LOOKS 3

#define KIB 1024
/* Told apart by inode, so that what two processes hold counts once. A power of two. */
#define FILES_TOLD_APART 4096
#define PROBES_MAX 64 /* then a file counts as another one */
/* Nobody needs more in all, and to look at more takes init too long: they count as too much. */
#define FILES_MAX (1u << 14)
/* Of sockets and pipes so many count as empty: that is what programs have. Any above that as full. */
#define FREE_BUFFERS 64
#define SPARSE_MIN (UINT64_C(1024) * KIB)
#define SPARSE_RATIO 64
#define PIPE_BYTES (64 * KIB)
#define PROC_BYTES (8 * KIB) /* what an open file of /proc keeps of its text */
/* So much of what the kernel keeps may come before it is counted, as a part of the limit. */
#define SLACK_MIN (UINT64_C(1024) * KIB)
#define SLACK_PART 16
#define DEEP_IS_NEW_NS (10 * INT64_C(1000000))

struct sum {
    uint64_t own;    /* anonymous, swap, page tables */
    uint64_t mapped; /* shared memory that is mapped */
    uint64_t memfds;
    uint64_t sockets, pipes, proc_files;
    unsigned files;
    bool unseen;                     /* by a process that init may not look into */
    bool under_way;                  /* there are descriptors in sockets */
    uint64_t seen[FILES_TOLD_APART]; /* keys of files; 0: free */
    struct sp_reach reach;           /* by a deep look: of shared mappings */
    struct sp_kernel_sum kernel;     /* by a deep look */
};

/* What a look looks for: pages, from cheap to dear, or locks alone. */
enum depth { QUICK, EXACT, DEEP, LOCKS };

/* The kernel's own mounts of memfds and pipes, init's of /proc, and what a socket may hold that nobody has asked to
 * hold more. */
static struct kernel_facts {
    dev_t memfds, pipes, proc;
    uint64_t socket_bytes;
} facts;

static void find_facts(void) {
    struct stat st;
    int ends[2] = {-1, -1};
    int size = 0;
    socklen_t len = sizeof size;
    if (facts.socket_bytes != 0) {
        return;
    }
    sp_auto_fd int memfd = (int)syscall(SYS_memfd_create, "", MFD_CLOEXEC);
    facts.memfds = memfd != -1 && fstat(memfd, &st) == 0 ? st.st_dev : 0;
    facts.proc = stat("/proc", &st) == 0 ? st.st_dev : 0;
    if (pipe2(ends, O_CLOEXEC) == 0) {
        facts.pipes = fstat(ends[0], &st) == 0 ? st.st_dev : 0;
        sp_fd_close(&ends[0]);
        sp_fd_close(&ends[1]);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
        (void)getsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, &len);
        sp_fd_close(&ends[0]);
        sp_fd_close(&ends[1]);
    }
    facts.socket_bytes = size > 0 ? (uint64_t)size : 208 * KIB;
}

/* ---- one process ---- */

static bool find_kib(const char *text, const char *name, uint64_t *bytes) {
    bool found = sp_find_number(text, name, bytes);
    *bytes *= KIB;
    return found;
}

/*
 * A look walks all page tables of a process, and meanwhile init hears nothing, no KILL either. So one that has many for
 * what it holds (a full one maps 512 times its size) is not looked at that closely: what it shares may count twice.
 */
static bool is_sparse(const char *status, uint64_t tables) {
    uint64_t resident = 0;
    (void)find_kib(status, "\nVmRSS:", &resident);
    return tables > SPARSE_MIN && tables > resident / SPARSE_RATIO;
}

/* False when there is no memory behind this entry: a zombie, or a thread that is gone. */
static bool add_status(struct sum *sum, int dir, enum depth depth) {
    char text[4096];
    uint64_t anon = 0;
    uint64_t shared = 0;
    uint64_t swap = 0;
    uint64_t tables = 0;
    if (!sp_read_text(dir, "status", text, sizeof text) || !find_kib(text, "\nRssAnon:", &anon)) {
        return false;
    }
    (void)find_kib(text, "\nRssShmem:", &shared);
    (void)find_kib(text, "\nVmSwap:", &swap);
    (void)find_kib(text, "\nVmPTE:", &tables);
    if (depth == EXACT && !is_sparse(text, tables) && sp_read_text(dir, "smaps_rollup", text, sizeof text)) {
        (void)find_kib(text, "\nPss_Anon:", &anon);
        (void)find_kib(text, "\nPss_Shmem:", &shared);
    }
    sum->own += anon + swap + tables;
    sum->mapped += shared;
    return true;
}

static bool is_new(struct sum *sum, const struct stat *st) {
    uint64_t key = (uint64_t)st->st_ino ^ ((uint64_t)st->st_dev << 48) ^ 1;
    for (size_t i = 0; i < PROBES_MAX; i++) {
        uint64_t *seen = &sum->seen[(key + i) & (FILES_TOLD_APART - 1)];
        if (*seen == 0 || *seen == key) {
            bool found = *seen == key;
            *seen = key;
            return !found;
        }
    }
    return true;
}

/* unix_show_fdinfo() of the kernel, since 5.6: how many descriptors are under way in this socket's queue. */
static void look_into_socket(struct sum *sum, int process, const char *fd) {
    char path[32];
    char text[512];
    uint64_t waiting = 0;
    (void)sp_append(sp_append(path, path + sizeof path, "fdinfo/"), path + sizeof path, fd);
    if (sp_read_text(process, path, text, sizeof text) && sp_find_number(text, "\nscm_fds:", &waiting)) {
        sum->under_way = sum->under_way || waiting != 0;
    }
}

static void add_file(struct sum *sum, int process, const char *fd, const struct stat *st) {
    if (st->st_dev == facts.proc && S_ISREG(st->st_mode)) {
        sum->proc_files++; /* the same file may be open many times, which nothing tells from copies of a descriptor */
    } else if (st->st_dev == facts.memfds && st->st_blocks != 0 && is_new(sum, st)) {
        sum->memfds += (uint64_t)st->st_blocks * 512;
    } else if (S_ISSOCK(st->st_mode) && is_new(sum, st)) {
        sum->sockets++;
        look_into_socket(sum, process, fd);
    } else if (st->st_dev == facts.pipes && S_ISFIFO(st->st_mode) && is_new(sum, st)) {
        sum->pipes++;
    }
}

/* False when it may not be listed. */
static bool add_files(struct sum *sum, int process, enum depth depth) {
    struct sp_listing list;
    sp_auto_fd int fd = sp_listing_open(&list, process, "fd");
    if (fd == -1) {
        return errno != EACCES;
    }
    for (const char *name; (name = sp_listing_next(&list)) != NULL;) {
        struct stat st = {.st_dev = 0};
        if (++sum->files > FILES_MAX) {
            return false;
        }
        if (fstatat(fd, name, &st, 0) == 0) {
            add_file(sum, process, name, &st);
        }
        if (depth >= DEEP) {
            sp_kernel_add_file(&sum->kernel, process, name, st.st_dev == facts.proc);
        }
        if (sum->kernel.objects > SP_KERNEL_OBJECTS) {
            return false;
        }
    }
    return true;
}

/* One thread stands for its process: all share memory and, by seccomp, descriptors. False when it has no memory. */
static bool add_thread(struct sum *sum, int dir, enum depth depth) {
    bool listed = add_files(sum, dir, depth);
    bool lives = add_status(sum, dir, depth);
    /* In this order: what has given up its memory cannot be listed either, and hides nothing. */
    sum->unseen = sum->unseen || (lives && !listed);
    if (lives && depth == DEEP) {
        sp_reach_add(&sum->reach, dir, facts.memfds);
    }
    return lives;
}

static void add_process(struct sum *sum, int proc, const char *pid, enum depth depth) {
    sp_auto_fd int dir = openat(proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir == -1 || add_thread(sum, dir, depth)) {
        return;
    }
    /* The first thread may have ended and left the memory to the others, who show it. */
    struct sp_listing list;
    sp_auto_fd int tasks = sp_listing_open(&list, dir, "task");
    const char *name;
    while (tasks != -1 && (name = sp_listing_next(&list)) != NULL) {
        sp_auto_fd int task = openat(tasks, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (task != -1 && add_thread(sum, task, depth == EXACT ? QUICK : depth)) {
            return;
        }
    }
}

/* ---- the sandbox ---- */

static uint64_t scratch_used(void) {
    struct statfs fs;
    return statfs("/tmp", &fs) == 0 ? (uint64_t)fs.f_bsize * (fs.f_blocks - fs.f_bfree) : 0;
}

uint64_t sp_memory_kept(void) { return scratch_used() + sp_sysv_used(); }

uint64_t sp_memory_shared_by_all(void) {
    struct sysinfo info;
    return sysinfo(&info) == 0 ? (uint64_t)info.sharedram * info.mem_unit : 0;
}

static void add_processes(struct sum *sum, enum depth depth) {
    struct sp_listing list;
    sp_auto_fd int proc = sp_listing_open(&list, AT_FDCWD, "/proc");
    const char *pid;
    memset(sum, 0, sizeof *sum);
    find_facts();
    while (proc != -1 && (pid = sp_listing_next(&list)) != NULL) {
        if (strcmp(pid, "1") != 0) {
            add_process(sum, proc, pid, depth);
        }
    }
}

static uint64_t buffers(const struct sum *sum, bool only_pairs) {
    uint64_t sockets = only_pairs && sum->sockets > FREE_BUFFERS ? sum->sockets - FREE_BUFFERS : 0;
    uint64_t pipes = sum->pipes > FREE_BUFFERS ? sum->pipes - FREE_BUFFERS : 0;
    uint64_t proc_files = sum->proc_files > FREE_BUFFERS ? sum->proc_files - FREE_BUFFERS : 0;
    return sockets * facts.socket_bytes + pipes * PIPE_BYTES + proc_files * PROC_BYTES;
}

/* Shared memory that no process shows is still in the machine's figure: what has come to that since the command began.
 */
static uint64_t growth(const struct sp_memory_watch *watch, uint64_t shared) {
    uint64_t before = watch->base.shared_by_all + (shared > watch->base.kept ? shared - watch->base.kept : 0);
    uint64_t all = sp_memory_shared_by_all();
    return all > before ? all - before : 0;
}

static void look_deep(struct sp_memory_watch *watch, struct sum *sum) {
    sp_kernel_count_begins(&watch->kernel);
    add_processes(sum, DEEP);
    watch->by_kernel = sp_kernel_bytes(&sum->kernel, sum->reach.lines, SP_REACH_LINES);
    watch->reach = sum->reach.bytes;
    sp_kernel_count_ends(&watch->kernel);
}

static bool is_deep_look_due(struct sp_memory_watch *watch) {
    uint64_t part = watch->limit / SLACK_PART;
    return sp_kernel_is_due(&watch->kernel, part > SLACK_MIN ? part : SLACK_MIN);
}

/* memory.max has all but file locks, which kernels do not all account (6.1 does not). */
static bool has_too_many_locks(struct sp_memory_watch *watch, enum depth depth) {
    static struct sum sum;
    if (depth == QUICK && !sp_kernel_is_due(&watch->kernel, SLACK_MIN)) {
        return false;
    }
    sp_kernel_count_begins(&watch->kernel);
    add_processes(&sum, LOCKS);
    sp_kernel_count_ends(&watch->kernel);
    return sum.unseen;
}

/*
 * The growth counts as the sandbox's as far as its mappings reach, and wholly when a descriptor of anything may be
 * under way. What a deep look has found stands until the next, which a suspicion brings at once.
 */
static bool is_too_much(struct sp_memory_watch *watch, enum depth depth) {
    static struct sum sum; /* too large for the stack */
    if (watch->by_cgroup) {
        return has_too_many_locks(watch, depth);
    }
    add_processes(&sum, depth);
    /* What is mapped is mostly what the second sum counts too, and nothing tells which: the larger one stands. */
    uint64_t shared = sp_memory_kept() + sum.memfds;
    shared = shared > sum.mapped ? shared : sum.mapped;
    uint64_t seen = sum.own + shared + buffers(&sum, watch->only_pairs);
    if (sum.unseen || seen > watch->limit) {
        return true;
    }
    uint64_t grown = growth(watch, shared);
    bool suspected = seen + grown + watch->by_kernel > watch->limit;
    bool stale = sp_now() - watch->kernel.counted > DEEP_IS_NEW_NS;
    if (is_deep_look_due(watch) || (suspected && stale)) {
        look_deep(watch, &sum);
    }
    grown = sum.under_way || watch->reach > grown ? grown : watch->reach;
    return sum.unseen || seen + grown + watch->by_kernel > watch->limit;
}

void sp_memory_watch_begin(struct sp_memory_watch *watch, const struct sp_rec_config *config,
                           const struct sp_memory_base *base) {
    bool by_cgroup = config->memory_bytes == 0 && (config->flags & SP_CONFIG_MEMORY_CGROUP) != 0;
    *watch = (struct sp_memory_watch){.limit = config->memory_bytes,
                                      .by_cgroup = by_cgroup,
                                      .only_pairs = (config->flags & SP_CONFIG_NETNS_REUSE) != 0,
                                      .base = *base,
                                      .next_look = by_cgroup || config->memory_bytes != 0 ? sp_now() : SP_NEVER};
}

bool sp_memory_watch_look(struct sp_memory_watch *watch) {
    bool suspected = watch->breaches != 0;
    bool too_much = (suspected || is_too_much(watch, QUICK)) && is_too_much(watch, EXACT);
    int64_t now = sp_now();
    watch->first_breach = suspected ? watch->first_breach : now;
    watch->breaches = too_much ? watch->breaches + 1 : 0;
    watch->next_look = now + (too_much ? CONFIRM_NS : LOOK_NS);
    return watch->breaches >= ROW_LOOKS && now - watch->first_breach >= ROW_NS;
}
