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
#include "init/judge.h"
#include "init/machine.h"
#include "init/proc.h"
#include "init/processes.h"
#include "init/share.h"
#include "init/sockets.h"
#include "init/stem.h"
#include "init/sysv.h"

#define MIB (UINT64_C(1) << 20)

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
#define LOCKS_NS SP_MS(100) /* with a cgroup, when only locks have to be counted */
/* In the Landlock tier a count of processes meets all those of the host. The next one comes after this many times the
 * processor time that it took, or with the next sum of memory. */
#define COUNT_PAUSE 20
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
/* Nor does a sum above twice the limit when each page counts once in it, or when no process has more than this part of
 * the limit: that many children of one parent would have to be between vfork and exec at once. */
#define SMALL_PART 8
/* If init has to wait for a processor in the middle of a census, memory that one process has freed may count together
 * with memory that another one has taken since. */
#define CENSUS_NS SP_MS(3)

/* When a pass over the descriptors is due: when the machine's figures have grown by a part of the limit, or after some
 * time. */
#define SLACK_PART 16
#define SLACK_MIN MIB
#define SLACK_OF_BASE 8
#define URGENT_PART 4
#define URGENT_MIN (8 * MIB)
#define GROWN_PAUSE 32  /* times the processor time of the last pass */
#define PERIOD_PAUSE 64 /* likewise */
#define PERIOD_NS SP_SEC(1)
#define FRESH_PAUSE 2 /* likewise, when too much is suspected */
#define FRESH_NS SP_MS(10)

/* ---- before the command ---- */

static int open_proc(void) { return open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

static int open_meminfo(int proc) { return openat(proc, "meminfo", O_RDONLY | O_CLOEXEC); }

/* In the Landlock tier /tmp is the host's, and no figure shows which part is the sandbox's. */
static uint64_t scratch_used(void) {
    struct statfs fs;
    return !sp_proc_is_shared() && statfs("/tmp", &fs) == 0 ? (uint64_t)fs.f_bsize * (fs.f_blocks - fs.f_bfree) : 0;
}

static uint64_t kept(void) { return scratch_used() + sp_sysv_used(0); }

void sp_memory_base_early(struct sp_memory_base *base, const struct sp_plan *plan, bool is_first) {
    base->kept = kept();
    if (is_first && plan->machine.at != 0) {
        base->kernel = plan->machine.kernel;
    } else if (plan->config.memory_bytes != 0) {
        sp_auto_fd int proc = open_proc();
        sp_auto_fd int meminfo = open_meminfo(proc);
        base->kernel = sp_machine_kernel(meminfo);
    }
}

void sp_memory_base_late(struct sp_memory_base *base) { base->shared_by_all = sp_machine_shared(); }

/* ---- the pass over descriptors ---- */

static bool is_scan_due(const struct sp_look *look, bool suspected) {
    const struct sp_memory_watch *watch = look->watch;
    const struct sp_scan *scan = &watch->scan;
    int64_t age = sp_now() - scan->ended;
    uint64_t growth = sp_above(look->kernel.used + look->shared_by_all, watch->lowest);
    uint64_t part = watch->by_cgroup ? 0 : watch->limit;
    int64_t fresh = scan->cost * FRESH_PAUSE > FRESH_NS ? scan->cost * FRESH_PAUSE : FRESH_NS;
    int64_t period = scan->cost * PERIOD_PAUSE > PERIOD_NS ? scan->cost * PERIOD_PAUSE : PERIOD_NS;
    bool urgent = suspected || growth > sp_larger(part / URGENT_PART, URGENT_MIN);
    bool is_grown = growth > sp_larger(part / SLACK_PART, SLACK_MIN);
    /* Before a command is killed for what a pass has found, another pass has to find it. */
    bool confirms = watch->breaches != 0 && scan->began <= watch->first_judged;
    urgent = urgent || scan->unreadable_since != 0;
    return scan->is_running || scan->ended == 0 || confirms || (urgent && age > fresh) ||
           (is_grown && age > scan->cost * GROWN_PAUSE) || age > period;
}

static void scan(struct sp_look *look) {
    struct sp_memory_watch *watch = look->watch;
    const struct sp_budget budget = sp_budget_of(SCAN_BUDGET_NS);
    if (!watch->scan.is_running) {
        watch->lowest = look->kernel.used + look->shared_by_all; /* what is added during the pass counts as growth */
    }
    watch->scan.starting = watch->starting;
    if (!sp_scan_step(&watch->scan, look->watch->proc, &budget)) {
        return;
    }
    struct sp_found *found = &watch->scan.last;
    watch->sysv = sp_sysv_used(look->census.threads);
    look->kept = scratch_used() + watch->sysv;
    watch->base.kept = sp_smaller(watch->base.kept, look->kept);
    watch->sockets = watch->own_network ? sp_sockets_count(look->watch->proc) : (struct sp_sockets){0};
    const unsigned sockets = watch->sockets.local + watch->sockets.inet;
    const bool wait = watch->own_network && sp_sockets_wait(watch->proc, &look->budget);
    watch->sockets_seen = watch->own_network && !wait && sockets == found->sums[SP_TALLY_SOCKET].n_present;
    watch->in_flight = found->in_flight > watch->in_flight / 2 ? found->in_flight : watch->in_flight / 2;
    /* Kernels before 6.8 do not report descriptors that are under way to a listener. */
    found->hidden = found->hidden || found->in_flight != 0 || wait;
    watch->hidden_passes = found->hidden || found->maps != 0 ? watch->hidden_passes + 1 : 0;
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
        const struct sp_machine_kernel now = sp_machine_kernel(watch->meminfo);
        struct sp_machine_kernel *base = &watch->base.kernel;
        *base = (struct sp_machine_kernel){sp_smaller(base->used, now.used), sp_smaller(base->objects, now.objects)};
    }
}

/* Looks at a young command. True when that suffices. */
static bool is_young_and_small(struct sp_look *look) {
    struct sp_memory_watch *watch = look->watch;
    if (watch->young_until == 0) {
        return false;
    }
    if (sp_now() < watch->young_until) {
        look->shared_by_all = sp_machine_shared();
        look->kept = scratch_used();
        sp_census_take(&look->census, watch->proc, false, look->shared_by_all, &look->budget);
        uint64_t shared = sp_above(look->shared_by_all, watch->base.shared_by_all);
        uint64_t seen = look->census.own + look->census.tables + (uint64_t)look->census.threads * SP_THREAD_BYTES +
                        sp_larger(shared, sp_larger(look->kept, sp_judge_mapped(look)));
        if (!look->census.out_of_time && seen < watch->limit / YOUNG_PART) {
            return true;
        }
    }
    begin_full(watch);
    return false;
}

/*
 * The kernel may still free what an earlier tenant had, or another one that ends just then: that must not make room for
 * this one. Of the figure that lags behind by the free pages of each processor a part of the limit stays.
 */
static void lower_base(const struct sp_look *look) {
    struct sp_memory_watch *watch = look->watch;
    struct sp_memory_base *base = &watch->base;
    base->kernel.objects = sp_smaller(base->kernel.objects, look->kernel.objects);
    base->kernel.used = sp_smaller(base->kernel.used, look->kernel.used + watch->limit / SLACK_OF_BASE);
    base->shared_by_all = sp_smaller(base->shared_by_all, look->shared_by_all);
    /* The command may have removed what an earlier one of its lease had left. Before a pass that is not known. */
    base->kept = watch->scan.ended != 0 ? sp_smaller(base->kept, look->kept) : base->kept;
}

static void look_at_figures(struct sp_look *look) {
    struct sp_memory_watch *watch = look->watch;
    look->kernel = sp_machine_kernel(look->watch->meminfo);
    if (!watch->by_cgroup) {
        look->shared_by_all = sp_machine_shared();
        look->kept = scratch_used() + watch->sysv;
        lower_base(look);
    }
    watch->lowest = sp_smaller(watch->lowest, look->kernel.used + look->shared_by_all);
}

/* In the host's network namespace nobody knows whose a socket is. */
static bool has_netlink(const struct sp_memory_watch *watch) { return watch->own_network && !watch->no_inet; }

/* memory.max counts everything but file locks, which some kernels (6.1) do not account to it, and netlink sockets,
 * whose queues Linux 5.10 does not account to it. */
static bool has_uncharged(struct sp_look *look) {
    uint64_t netlink = 0;
    if (has_netlink(look->watch) && !sp_sockets_netlink(look->watch->proc, &netlink)) {
        look->certain = true;
        return true;
    }
    look->by_scan = true;
    bool suspected = look->watch->breaches != 0;
    if (is_scan_due(look, suspected)) {
        scan(look);
    }
    return look->watch->scan.last.too_much;
}

static struct sp_verdict judge_exactly(struct sp_look *look) {
    struct sp_verdict verdict;
    do {
        sp_census_take(&look->census, look->watch->proc, true, look->shared_by_all, &look->budget);
        verdict = sp_judge(look);
    } while (verdict.too_much && !look->census.out_of_time && sp_share_forget());
    return verdict;
}

/* Whether a sum above twice the limit needs no second look. `took`: the time of its exact census. */
static bool is_certain(const struct sp_look *look, int64_t took) {
    const struct sp_census *census = &look->census;
    const uint64_t limit = look->watch->limit;
    bool all_small = census->largest <= limit / SMALL_PART;
    bool exact = took <= CENSUS_NS && sp_above(sp_judge_plain(look), census->shown) > 2 * limit && sp_share_is_known();
    return !census->out_of_time && (all_small || exact);
}

static bool has_too_many(struct sp_memory_watch *watch) {
    const int64_t began = sp_cpu_now();
    const unsigned count = sp_processes_count(watch->proc, watch->most);
    watch->count_cost = sp_cpu_now() - began;
    return count > watch->most;
}

static bool is_too_much(struct sp_look *look) {
    struct sp_memory_watch *of = look->watch;
    of->too_many = of->most != 0 && has_too_many(of);
    if (of->too_many || (of->limit == 0 && !of->by_cgroup)) {
        look->certain = of->too_many;
        return of->too_many;
    }
    if (is_young_and_small(look)) {
        return false;
    }
    look_at_figures(look);
    if (look->watch->by_cgroup) {
        return has_uncharged(look);
    }
    const struct sp_memory_watch *watch = look->watch;
    sp_census_take(&look->census, look->watch->proc, false, look->shared_by_all, &look->budget);
    if (look->census.largest > watch->limit + watch->limit / CERTAIN_PART) {
        look->certain = true;
        return true;
    }
    struct sp_verdict verdict = sp_judge(look);
    bool exact = false;
    /* Pages that processes share may be the only excess. The exact census comes before the pass, which it may make
     * unnecessary. */
    if (verdict.too_much && !look->census.out_of_time) {
        const int64_t began = sp_now();
        exact = true;
        verdict = judge_exactly(look);
        look->far = verdict.far;
        look->certain = verdict.far && is_certain(look, sp_now() - began);
        if (look->certain) {
            return true;
        }
    }
    bool is_plain = exact && !verdict.by_scan; /* too much without what a pass may find */
    if (!is_plain && is_scan_due(look, verdict.suspected || watch->breaches != 0)) {
        scan(look);
        verdict = sp_judge(look);
    }
    if (verdict.too_much && !exact && !look->census.out_of_time) {
        verdict = judge_exactly(look);
    }
    look->by_scan = verdict.by_scan;
    return verdict.too_much;
}

static int64_t until_next_sum(const struct sp_look *look) {
    const struct sp_memory_watch *watch = look->watch;
    if (watch->by_cgroup) {
        const bool goes_on = watch->scan.is_running || watch->scan.unreadable_since != 0;
        return has_netlink(watch) || goes_on ? LOOK_NS : LOCKS_NS;
    }
    if (watch->limit == 0) {
        return SP_NEVER;
    }
    uint64_t used = look->census.own + look->census.tables + sp_larger(look->kept, sp_judge_mapped(look));
    uint64_t ms = sp_above(2 * watch->limit, used) / FILL_BYTES_PER_MS / watch->processors;
    int64_t pause = LOOK_NS + (int64_t)sp_smaller(ms, LOOK_MAX_NS / SP_MS(1)) * SP_MS(1);
    return watch->young_until != 0 && pause > YOUNG_NS ? YOUNG_NS : pause;
}

static int64_t until_next(const struct sp_look *look) {
    const int64_t sum = until_next_sum(look);
    const int64_t rest = COUNT_PAUSE * look->watch->count_cost;
    const int64_t count = look->watch->most == 0 ? SP_NEVER : rest > LOOK_NS ? rest : LOOK_NS;
    return sum < count ? sum : count;
}

bool sp_memory_watch_look(struct sp_memory_watch *watch) {
    struct sp_look look = {.watch = watch, .budget = sp_budget_of(LOOK_BUDGET_NS)};
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
    (void)setsid(); /* an own session, see memory.h */
    memset(watch, 0, sizeof *watch);
    watch->limit = config->memory_bytes != 0 ? config->memory_bytes + base->of_interpreter : 0;
    watch->image = base->of_interpreter != 0 && plan->stem != NULL ? plan->stem->image_bytes : 0;
    watch->by_cgroup = config->memory_bytes == 0 && (config->flags & SP_CONFIG_MEMORY_CGROUP) != 0;
    watch->next_look = SP_NEVER;
    watch->proc = watch->meminfo = -1;
    watch->most = sp_processes_are_watched(plan) ? config->max_processes : 0;
    if (!watch->by_cgroup && watch->limit == 0 && watch->most == 0) {
        return;
    }
    watch->proc = open_proc();
    watch->young_until = sp_now() + YOUNG_NS;
    watch->next_look = watch->by_cgroup && watch->most == 0 ? watch->young_until : sp_now();
    watch->own_network = (config->flags & SP_CONFIG_NET_HOST) == 0 && (plan->left_out & SP_FACT_NET_NS) == 0;
    watch->no_inet = (config->flags & SP_CONFIG_NETNS_REUSE) != 0 || sp_in_landlock_tier(plan);
    watch->base = *base;
    watch->processors = sp_machine_processors();
    watch->exec_filter = plan->exec_filter.len != 0;
}

void sp_memory_watch_end(struct sp_memory_watch *watch) {
    sp_fd_close(&watch->meminfo);
    sp_fd_close(&watch->proc);
    watch->next_look = SP_NEVER;
}
