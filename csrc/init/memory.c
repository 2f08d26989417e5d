#include "init/memory.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fact.h"
#include "common/fd.h"
#include "init/census.h"
#include "init/machine.h"
#include "init/sockets.h"
#include "init/sysv.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)

/* The processor time of one look, and of the pass over descriptors in it. */
#define LOOK_BUDGET_NS SP_MS(40)
#define SCAN_BUDGET_NS SP_MS(15)

/*
 * The time until the next look. It is the time in which the fastest tenant reaches twice the limit, plus the time that
 * it may stay there, minus the time that looking and confirming take.
 */
#define LOOK_NS SP_MS(25)
#define FILL_BYTES_PER_MS (6 * MIB) /* one processor touches new pages no faster */
#define LOOK_MAX_NS SP_MS(250)
#define LOCKS_NS SP_MS(100) /* with a cgroup, only locks have to be counted */
/* Most commands are over before they are this old, or far below their limit. Until then a look only adds up what
 * processes and files show, which takes a tenth of the time, unless that reaches this part of the limit. */
#define YOUNG_NS SP_MS(40)
#define YOUNG_PART 4

/*
 * A child between vfork and exec shows the memory of its parent as its own. That lasts only a moment, so a sum counts
 * as too much only when all looks of a row find it.
 */
#define CONFIRM_NS SP_MS(4)
#define ROW_NS SP_MS(20)
#define ROW_LOOKS 3
#define LONG_ROW_NS SP_MS(50) /* a row of this duration needs only two looks */
/* Above twice the limit the memory of one such parent cannot be the whole excess. */
#define FAR_ROW_NS SP_MS(8)
#define FAR_ROW_LOOKS 2
/* The memory of one process counts only once, so a process that alone has more than the limit needs no second look. It
 * must have some more, because the kernel's figure lags behind by some pages for each processor. */
#define CERTAIN_PART 4
/* Nor does a sum above twice the limit when no process has more than this part of the limit: that many children of one
 * parent would have to be between vfork and exec at once. */
#define SMALL_PART 8

/* When a pass over the descriptors is due: when the machine's figures have grown by a part of the limit, or after some
 * time. */
#define SLACK_PART 16
#define SLACK_MIN MIB
#define URGENT_PART 4
#define URGENT_MIN (8 * MIB)
#define GROWN_PAUSE 32  /* times the processor time of the last pass */
#define PERIOD_PAUSE 64 /* likewise */
#define PERIOD_NS SP_SEC(1)
#define FRESH_PAUSE 2 /* likewise, when too much is suspected */
#define FRESH_NS SP_MS(10)

/* What each kind of object costs. FREE_*: so many are not counted, because ordinary programs have them. */
#define FREE_BUFFERS 64
#define SOCKET_FILLS 2 /* a queue that is not full yet takes one more message, of up to its whole size */
#define PIPE_BYTES (64 * KIB)
#define TEXT_BYTES (8 * KIB) /* the text that an open file of /proc keeps */
#define FREE_LISTS 16
#define LIST_BYTES (512 * KIB) /* the text of SP_SCAN_OBJECTS_MAX objects */
#define OBJECT_BYTES 256       /* with the unused space of its slab; a lock may have the list of its inode */
#define FREE_MAPPINGS 8192
#define MAPPING_BYTES 512         /* including a file that only the mapping holds */
#define THREAD_BYTES (32 * KIB)   /* its kernel stack and the kernel's structures for it */
#define FILTER_BYTES (6 * KIB)    /* a short filter */
#define FILTERED_BYTES (96 * KIB) /* all the filters that a thread may add, compiled: see zygote/filters.c */
#define HIDDEN_PASSES 2
#define PAGE (4 * KIB)

static uint64_t above(uint64_t n, uint64_t free) { return n > free ? n - free : 0; }

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ---- before the command ---- */

static int open_proc(void) { return open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

static int open_meminfo(int proc) { return openat(proc, "meminfo", O_RDONLY | O_CLOEXEC); }

static uint64_t scratch_used(void) {
    struct statfs fs;
    return statfs("/tmp", &fs) == 0 ? (uint64_t)fs.f_bsize * (fs.f_blocks - fs.f_bfree) : 0;
}

static uint64_t kept(void) { return scratch_used() + sp_sysv_used(); }

void sp_memory_base_early(struct sp_memory_base *base, const struct sp_plan *plan) {
    base->kept = kept();
    if (plan->config.memory_bytes != 0) {
        sp_auto_fd int proc = open_proc();
        sp_auto_fd int meminfo = open_meminfo(proc);
        base->kernel = sp_machine_kernel(meminfo);
    }
}

void sp_memory_base_late(struct sp_memory_base *base) { base->shared_by_all = sp_machine_shared(); }

/* ---- one look ---- */

struct look {
    struct sp_memory_watch *watch;
    struct sp_budget budget;
    struct sp_census census;
    uint64_t kept, shared_by_all, kernel;
    bool certain; /* too much, and no vfork can be the reason */
    bool far;     /* see struct verdict; pages that processes share count once */
    bool by_scan; /* too much only because of what a pass over the descriptors has found */
};

/* The kernel memory that is known to be the sandbox's, as if all buffers were full. */
static uint64_t known_of_kernel(const struct look *look) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_found *found = &watch->scan.last;
    uint64_t sockets = watch->own_network ? watch->sockets.local
                       : watch->no_inet   ? found->sums[SP_TALLY_SOCKET].n_present
                                          : 0;
    uint64_t socket_bytes = sp_sockets_pair_bytes() * SOCKET_FILLS;
    return look->census.tables + (uint64_t)look->census.threads * THREAD_BYTES +
           (uint64_t)found->filtered * FILTERED_BYTES + (uint64_t)found->filters * FILTER_BYTES +
           above(sockets, SP_SOCKETS_FREE) * socket_bytes + watch->queued +
           above(found->sums[SP_TALLY_PIPE].n_present, FREE_BUFFERS) * PIPE_BYTES +
           above(found->proc_files, FREE_BUFFERS) * TEXT_BYTES + above(found->lists, FREE_LISTS) * LIST_BYTES +
           (uint64_t)found->objects * OBJECT_BYTES + above(found->mappings, FREE_MAPPINGS) * MAPPING_BYTES;
}

/*
 * The other kernel memory that the machine has taken since the command began may be anybody's. It counts as the
 * sandbox's up to the size of the pipes that were seen before and are not found any more, and wholly while there is
 * something that can hide any amount: descriptors in flight, or the text of a process's mappings.
 */
static uint64_t hidden_in_kernel(const struct look *look, uint64_t known, uint64_t room) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_tally_sum *pipes = &watch->scan.last.sums[SP_TALLY_PIPE];
    uint64_t hidden = above(look->kernel, watch->base.kernel + known);
    if (watch->hidden_passes < HIDDEN_PASSES) {
        uint64_t all = above((uint64_t)pipes->n_present + pipes->n_gone, FREE_BUFFERS);
        return smaller(hidden, (all - above(pipes->n_present, FREE_BUFFERS)) * PIPE_BYTES);
    }
    /* Free pages in the lists of processors look like used ones. They are read only where they decide. */
    return hidden > room ? above(hidden, above(sp_machine_free_lists(look->watch->proc), watch->free_lists)) : hidden;
}

/*
 * Shared memory that no process shows is still in the figure of the machine. The growth of that figure since the
 * command began counts up to what the sandbox's mappings reach, or up to the memfds that were seen before and are not
 * found any more. It counts wholly when descriptors may be in flight, or when the reach of the mappings is not known.
 */
static uint64_t hidden_shared(const struct look *look, uint64_t shared) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_found *found = &watch->scan.last;
    uint64_t grown = above(look->shared_by_all, watch->base.shared_by_all + above(shared, watch->base.kept));
    uint64_t gone = found->sums[SP_TALLY_MEMFD].gone * PAGE;
    return found->in_flight || found->reach_unknown ? grown : smaller(grown, larger(found->reach, gone));
}

/* The growth of the machine's figures, whoever caused it. */
static uint64_t grown(const struct look *look) {
    const struct sp_memory_base *base = &look->watch->base;
    return above(look->kernel, base->kernel) + above(look->shared_by_all, base->shared_by_all);
}

struct verdict {
    bool too_much;
    bool far;       /* what processes show is above twice the limit */
    bool suspected; /* it would be too much if the sandbox had caused all growth of the machine's figures */
    bool by_scan;
};

static struct verdict judge(const struct look *look) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_found *found = &watch->scan.last;
    /* Most mapped memory is in the first sum, too, but it is not known which: the larger sum counts. */
    uint64_t shared = larger(look->kept + found->sums[SP_TALLY_MEMFD].present * PAGE, look->census.mapped);
    uint64_t known = known_of_kernel(look);
    uint64_t seen = look->census.own + shared + known;
    uint64_t plain = look->census.own + larger(look->kept, look->census.mapped) + look->census.tables +
                     (uint64_t)look->census.threads * THREAD_BYTES;
    struct verdict verdict = {.far = plain > 2 * watch->limit,
                              .suspected = seen + grown(look) > watch->limit,
                              .by_scan = plain <= watch->limit && !look->census.out_of_time};
    if (look->census.out_of_time || found->too_much || seen > watch->limit) {
        verdict.too_much = true;
        return verdict;
    }
    seen += hidden_shared(look, shared);
    seen += seen > watch->limit ? 0 : hidden_in_kernel(look, known, watch->limit - seen);
    verdict.too_much = seen > watch->limit;
    return verdict;
}

/* ---- the pass over descriptors ---- */

static bool is_scan_due(const struct look *look, bool suspected) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_scan *scan = &watch->scan;
    int64_t age = sp_now() - scan->ended;
    uint64_t growth = above(look->kernel + look->shared_by_all, watch->lowest);
    uint64_t part = watch->by_cgroup ? 0 : watch->limit;
    int64_t fresh = scan->cost * FRESH_PAUSE > FRESH_NS ? scan->cost * FRESH_PAUSE : FRESH_NS;
    int64_t period = scan->cost * PERIOD_PAUSE > PERIOD_NS ? scan->cost * PERIOD_PAUSE : PERIOD_NS;
    bool urgent = suspected || growth > larger(part / URGENT_PART, URGENT_MIN);
    bool is_grown = growth > larger(part / SLACK_PART, SLACK_MIN);
    /* Before a command is killed for what a pass has found, another pass has to find it. */
    bool confirms = watch->breaches != 0 && scan->began <= watch->first_judged;
    return scan->is_running || scan->ended == 0 || confirms || (urgent && age > fresh) ||
           (is_grown && age > scan->cost * GROWN_PAUSE) || age > period;
}

static void scan(struct look *look) {
    struct sp_memory_watch *watch = look->watch;
    const struct sp_budget budget = sp_budget_of(SCAN_BUDGET_NS);
    if (!watch->scan.is_running) {
        watch->lowest = look->kernel + look->shared_by_all; /* what is added during the pass counts as growth */
    }
    watch->scan.starting = watch->starting;
    if (!sp_scan_step(&watch->scan, look->watch->proc, &budget)) {
        return;
    }
    struct sp_found *found = &watch->scan.last;
    watch->sysv = sp_sysv_used();
    look->kept = scratch_used() + watch->sysv;
    watch->sockets = watch->own_network ? sp_sockets_count(look->watch->proc) : (struct sp_sockets){0};
    /* Kernels before 6.8 do not report descriptors that are under way to a listener. */
    found->in_flight = found->in_flight || (watch->own_network && sp_sockets_wait(watch->proc, &look->budget));
    watch->hidden_passes = found->in_flight || found->maps != 0 ? watch->hidden_passes + 1 : 0;
    if (watch->own_network && !watch->no_inet && !sp_sockets_queued(look->watch->proc, &look->budget, &watch->queued)) {
        found->too_much = true;
    }
}

/* ---- the watch ---- */

/* What only the looks at an older command need. */
static void begin_full(struct sp_memory_watch *watch) {
    watch->young_until = 0;
    watch->meminfo = open_meminfo(watch->proc);
    sp_scan_begin(&watch->scan, watch->by_cgroup, watch->exec_filter);
    watch->lowest = UINT64_MAX;
    if (!watch->by_cgroup) {
        watch->free_lists = sp_machine_free_lists(watch->proc);
        /* An idle sandbox may have waited long for its command; what others took in the meantime must not count. */
        watch->base.kernel = smaller(watch->base.kernel, sp_machine_kernel(watch->meminfo));
    }
}

/* Looks at a young command. True when that suffices. */
static bool is_young_and_small(struct look *look) {
    struct sp_memory_watch *watch = look->watch;
    if (watch->young_until == 0) {
        return false;
    }
    if (sp_now() < watch->young_until) {
        look->shared_by_all = sp_machine_shared();
        look->kept = scratch_used();
        sp_census_take(&look->census, watch->proc, false, look->shared_by_all, &look->budget);
        uint64_t shared = above(look->shared_by_all, watch->base.shared_by_all);
        uint64_t seen = look->census.own + look->census.tables + (uint64_t)look->census.threads * THREAD_BYTES +
                        larger(shared, larger(look->kept, look->census.mapped));
        if (!look->census.out_of_time && seen < watch->limit / YOUNG_PART) {
            return true;
        }
    }
    begin_full(watch);
    return false;
}

static void look_at_figures(struct look *look) {
    struct sp_memory_watch *watch = look->watch;
    look->kernel = sp_machine_kernel(look->watch->meminfo);
    if (!watch->by_cgroup) {
        look->shared_by_all = sp_machine_shared();
        look->kept = scratch_used() + watch->sysv;
    }
    watch->lowest = smaller(watch->lowest, look->kernel + look->shared_by_all);
}

/* memory.max counts everything but file locks, which some kernels (6.1) do not account to it. */
static bool has_too_many_locks(struct look *look) {
    look->by_scan = true;
    bool suspected = look->watch->breaches != 0;
    if (is_scan_due(look, suspected)) {
        scan(look);
    }
    return look->watch->scan.last.too_much;
}

static bool is_too_much(struct look *look) {
    if (is_young_and_small(look)) {
        return false;
    }
    look_at_figures(look);
    if (look->watch->by_cgroup) {
        return has_too_many_locks(look);
    }
    const struct sp_memory_watch *watch = look->watch;
    sp_census_take(&look->census, look->watch->proc, false, look->shared_by_all, &look->budget);
    if (look->census.largest > watch->limit + watch->limit / CERTAIN_PART) {
        look->certain = true;
        return true;
    }
    struct verdict verdict = judge(look);
    bool exact = false;
    /* Pages that processes share may be the only excess. The exact census comes before the pass, which it may make
     * unnecessary. */
    if (verdict.too_much && !look->census.out_of_time) {
        exact = true;
        sp_census_take(&look->census, look->watch->proc, true, look->shared_by_all, &look->budget);
        verdict = judge(look);
    }
    look->far = exact && verdict.far;
    if (look->far && look->census.largest <= watch->limit / SMALL_PART && !look->census.out_of_time) {
        look->certain = true;
        return true;
    }
    bool is_plain = exact && !verdict.by_scan; /* too much without what a pass may find */
    if (!is_plain && is_scan_due(look, verdict.suspected || watch->breaches != 0)) {
        scan(look);
        verdict = judge(look);
    }
    if (verdict.too_much && !exact && !look->census.out_of_time) {
        sp_census_take(&look->census, look->watch->proc, true, look->shared_by_all, &look->budget);
        verdict = judge(look);
    }
    look->by_scan = verdict.by_scan;
    return verdict.too_much;
}

static int64_t until_next(const struct look *look) {
    const struct sp_memory_watch *watch = look->watch;
    if (watch->by_cgroup) {
        return LOCKS_NS;
    }
    uint64_t used = look->census.own + look->census.tables + larger(look->kept, look->census.mapped);
    uint64_t ms = above(2 * watch->limit, used) / FILL_BYTES_PER_MS / watch->processors;
    int64_t pause = LOOK_NS + (int64_t)smaller(ms, LOOK_MAX_NS / SP_MS(1)) * SP_MS(1);
    return watch->young_until != 0 && pause > YOUNG_NS ? YOUNG_NS : pause;
}

bool sp_memory_watch_look(struct sp_memory_watch *watch) {
    struct look look = {.watch = watch, .budget = sp_budget_of(LOOK_BUDGET_NS)};
    int64_t began = sp_now();
    bool too_much = is_too_much(&look);
    int64_t now = sp_now();
    watch->first_breach = watch->breaches != 0 ? watch->first_breach : began;
    watch->first_judged = watch->breaches != 0 ? watch->first_judged : now;
    watch->breaches = too_much ? watch->breaches + 1 : 0;
    watch->far_breaches = look.far ? watch->far_breaches + 1 : 0;
    watch->next_look = now + (too_much ? CONFIRM_NS : until_next(&look));
    int64_t row = now - watch->first_breach;
    if (look.certain) {
        return true;
    }
    if (look.by_scan && watch->scan.began <= watch->first_judged) {
        return false;
    }
    return (watch->far_breaches >= FAR_ROW_LOOKS && row >= FAR_ROW_NS) ||
           (watch->breaches >= ROW_LOOKS && row >= ROW_NS) || (watch->breaches > 1 && row >= LONG_ROW_NS);
}

void sp_memory_watch_begin(struct sp_memory_watch *watch, const struct sp_plan *plan,
                           const struct sp_memory_base *base) {
    const struct sp_rec_config *config = &plan->config;
    memset(watch, 0, sizeof *watch);
    watch->limit = config->memory_bytes;
    watch->by_cgroup = config->memory_bytes == 0 && (config->flags & SP_CONFIG_MEMORY_CGROUP) != 0;
    watch->next_look = SP_NEVER;
    watch->proc = watch->meminfo = -1;
    if (!watch->by_cgroup && watch->limit == 0) {
        return;
    }
    watch->proc = open_proc();
    watch->young_until = sp_now() + YOUNG_NS;
    watch->next_look = watch->by_cgroup ? watch->young_until : sp_now();
    watch->own_network = (config->flags & SP_CONFIG_NET_HOST) == 0 && (plan->left_out & SP_FACT_NET_NS) == 0;
    watch->no_inet = (config->flags & SP_CONFIG_NETNS_REUSE) != 0;
    watch->base = *base;
    watch->processors = sp_machine_processors();
    watch->exec_filter = plan->exec_filter.len != 0;
}

void sp_memory_watch_end(struct sp_memory_watch *watch) {
    sp_fd_close(&watch->meminfo);
    sp_fd_close(&watch->proc);
    watch->next_look = SP_NEVER;
}
