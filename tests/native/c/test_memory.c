/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/common/text.c csrc/common/mountinfo_linux.c csrc/init/mount_flags.c csrc/init/files.c
 * csrc/init/proc.c csrc/init/lines.c csrc/init/reach.c csrc/init/tally.c csrc/init/scan.c csrc/init/share.c
 * csrc/init/census.c csrc/init/processes.c */
/*
 * init's memory watch with plain directories in place of /proc, and made-up figures of the machine. Its file is part of
 * this program, with the name of /proc replaced. tests/isolation/test_memory.py tests it in sandboxes, and tests/vm
 * with cgroups.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "init/census.h"
#include "init/machine.h"
#include "init/memory.h"
#include "init/sockets.h"
#include "init/sysv.h"
#include "lacks.h"
#include "machine.h"

/* In one file system, as /proc is: on an overlay, as a container has it, a file is on another device than its
 * directory.
 */
static char folder[] = "/dev/shm/sandpool-proc-XXXXXX";

static int fake_open(const char *path, int flags) { return open(strcmp(path, "/proc") == 0 ? folder : path, flags); }

static int empty_scratch(struct statfs *fs) {
    memset(fs, 0, sizeof *fs);
    return 0;
}

#define open(path, flags) fake_open(path, flags)
#define statfs(path, fs) empty_scratch(fs)
/* NOLINTBEGIN(bugprone-suspicious-include): with other names, see above */
#include "init/judge.c"
#include "init/memory.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef open
#undef statfs

/* ---- the machine ---- */

#define GIB (1024 * MIB)

static struct {
    uint64_t shared, kernel, objects, free_lists, queued, undone;
    struct sp_sockets sockets;
    bool queues_are_long, wait, netlink_is_full;
} the;

uint64_t sp_machine_shared(void) { return the.shared; }
struct sp_machine_kernel sp_machine_kernel(int meminfo) {
    (void)meminfo;
    return (struct sp_machine_kernel){the.kernel, the.objects};
}
uint64_t sp_machine_free_lists(int proc) {
    (void)proc;
    return the.free_lists;
}
unsigned sp_machine_processors(void) { return 2; }
uint64_t sp_sysv_used(unsigned threads) { return threads * the.undone; }
uint64_t sp_sockets_pair_bytes(void) { return 208 * KIB; }
struct sp_sockets sp_sockets_count(int proc) {
    (void)proc;
    return the.sockets;
}
bool sp_sockets_wait(int proc, const struct sp_budget *budget) {
    (void)proc;
    (void)budget;
    return the.wait;
}
bool sp_sockets_queued(int proc, const struct sp_budget *budget, uint64_t *bytes) {
    (void)proc, (void)budget;
    *bytes = the.queued;
    return !the.queues_are_long;
}

bool sp_sockets_netlink(int proc, uint64_t *bytes) {
    (void)proc;
    *bytes = 0;
    return !the.netlink_is_full;
}

#define TOO_MANY (SP_SCAN_OBJECTS_MAX + 1)
#define LIMIT (64 * MIB)

static const char *in_folder(const char *name) {
    static char path[128];
    (void)snprintf(path, sizeof path, "%s%s", folder, name);
    return path;
}

static void write_lines(const char *name, const char *first, unsigned n, const char *line) {
    FILE *file = fopen(in_folder(name), "we");
    if (file == NULL) {
        abort();
    }
    (void)fputs(first, file);
    for (unsigned i = 0; i < n; i++) {
        (void)fputs(line, file);
    }
    (void)fclose(file);
}

static void set_locks(const char *pid, unsigned n) {
    char name[64];
    (void)snprintf(name, sizeof name, "/%s/fdinfo/3", pid);
    write_lines(name, "pos:\t0\nflags:\t02\nmnt_id:\t7\n", n, "lock:\t1: POSIX  ADVISORY  WRITE 2 00:1f:7 0 0\n");
}

/* A process with memory and one descriptor. */
static void make_process(const char *pid) {
    static const char *const parts[] = {"", "/fd", "/fdinfo"};
    char name[64];
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        (void)snprintf(name, sizeof name, "/%s%s", pid, parts[i]);
        CHECK(mkdir(in_folder(name), 0700) == 0);
    }
    (void)snprintf(name, sizeof name, "/%s/fd/3", pid);
    write_lines(name, "", 0, "");
    (void)snprintf(name, sizeof name, "/%s/status", pid);
    write_lines(name, "Name:\tx\n", 1, "RssAnon:\t 100 kB\nThreads:\t1\n");
}

/* One look for which no pass is due by time: the last pass has taken no time and has just ended. */
static bool look(struct sp_memory_watch *watch) {
    watch->scan.cost = 0;
    watch->scan.ended = sp_now();
    return sp_memory_watch_look(watch);
}

static struct sp_memory_watch begin_with(struct sp_rec_config config) {
    const struct sp_plan plan = {.config = config};
    struct sp_memory_base base = {.kernel = {the.kernel, the.objects}};
    struct sp_memory_watch watch;
    sp_memory_base_late(&base);
    sp_memory_watch_begin(&watch, &plan, &base);
    CHECK(watch.next_look != SP_NEVER);
    watch.young_until = 1; /* it is old enough for whole looks */
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    CHECK(watch.scan.ended != 0 && !watch.scan.is_running);
    return watch;
}

/* Begins the watch of a command in a cgroup. What exists now was counted when the command began. */
static struct sp_memory_watch begin(void) {
    return begin_with((struct sp_rec_config){.flags = SP_CONFIG_MEMORY_CGROUP});
}

static struct sp_memory_watch begin_with_limit(void) {
    return begin_with((struct sp_rec_config){.flags = SP_CONFIG_NETNS_REUSE, .memory_bytes = LIMIT});
}

/* Makes the looks that follow a suspicion, each at its time, until one ends the command or drops the suspicion. */
static bool ends(struct sp_memory_watch *watch) {
    bool ended = false;
    while (!ended && watch->breaches != 0) {
        CHECK(sp_wait_fd(-1, 0, watch->next_look) == -ETIMEDOUT);
        /* So that a pass is due, also if the last one took long: it checks the suspicion. */
        watch->scan.ended -= FRESH_NS + FRESH_PAUSE * watch->scan.cost;
        ended = sp_memory_watch_look(watch);
    }
    return ended;
}

/* A row that has lasted long, on a busy machine, needs only two looks. */
static bool has_looked(const struct sp_memory_watch *watch, unsigned times) {
    return watch->breaches >= times || (watch->breaches > 1 && sp_now() - watch->first_breach >= LONG_ROW_NS);
}

static void without_a_limit_nothing_is_watched(void) {
    const struct sp_plan plan = {.config = {.flags = 0}};
    const struct sp_memory_base base = {0};
    struct sp_memory_watch watch;
    sp_memory_watch_begin(&watch, &plan, &base);
    CHECK(watch.next_look == SP_NEVER);
}

static void too_many_locks_end_a_command_in_a_cgroup(void) {
    set_locks("2", 100);
    the.kernel = 100 * MIB;
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    CHECK(!look(&watch) && watch.breaches == 0); /* without growth of the kernel's memory no pass is due */
    the.kernel = 102 * MIB;
    CHECK(!look(&watch) && watch.breaches == 1);
    CHECK(ends(&watch) && has_looked(&watch, ROW_LOOKS));
}

static void as_many_locks_as_are_allowed_do_not(void) {
    set_locks("2", SP_SCAN_OBJECTS_MAX);
    the.kernel = 100 * MIB;
    struct sp_memory_watch watch = begin();
    the.kernel = 200 * MIB;
    CHECK(!look(&watch) && watch.breaches == 0);
}

static void the_sum_of_all_processes_counts(void) {
    set_locks("2", SP_SCAN_OBJECTS_MAX / 2);
    set_locks("3", SP_SCAN_OBJECTS_MAX / 2);
    the.kernel = 100 * MIB;
    struct sp_memory_watch watch = begin();
    set_locks("3", SP_SCAN_OBJECTS_MAX / 2 + 1);
    the.kernel = 102 * MIB;
    CHECK(!look(&watch) && ends(&watch));
    set_locks("3", 0);
}

static void full_netlink_sockets_end_a_command_in_a_cgroup(void) {
    struct sp_memory_watch watch = begin();
    the.netlink_is_full = true;
    CHECK(sp_memory_watch_look(&watch));
    /* Where there are only unix sockets, and where those of others are, too, nobody looks. */
    watch = begin_with((struct sp_rec_config){.flags = SP_CONFIG_MEMORY_CGROUP | SP_CONFIG_NETNS_REUSE});
    CHECK(!look(&watch));
    watch = begin_with((struct sp_rec_config){.flags = SP_CONFIG_MEMORY_CGROUP | SP_CONFIG_NET_HOST});
    CHECK(!look(&watch));
    the.netlink_is_full = false;
}

/* The kernel charges them to the cgroup. */
static void epoll_watches_are_left_to_the_cgroup(void) {
    the.kernel = 100 * MIB;
    struct sp_memory_watch watch = begin();
    write_lines("/2/fdinfo/3", "pos:\t0\n", TOO_MANY, "tfd:        5 events:       19 data:  5\n");
    the.kernel = 200 * MIB;
    CHECK(!look(&watch) && watch.breaches == 0 && watch.scan.last.objects == 0);
}

static void locks_of_init_are_not_counted(void) {
    set_locks("1", TOO_MANY);
    set_locks("2", 1);
    the.kernel = 100 * MIB;
    struct sp_memory_watch watch = begin();
    the.kernel = 102 * MIB;
    CHECK(!look(&watch) && watch.breaches == 0);
}

static void released_locks_end_no_command(void) {
    set_locks("2", 0);
    the.kernel = 100 * MIB;
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    the.kernel = 102 * MIB;
    CHECK(!look(&watch) && watch.breaches == 1);
    set_locks("2", 0);
    CHECK(!ends(&watch) && watch.breaches == 0);
}

/* When other processes free memory, growth is counted from the lower figure. */
static void growth_is_counted_from_the_lowest_figure(void) {
    set_locks("2", 0);
    the.kernel = 100 * MIB;
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    the.kernel = 50 * MIB;
    CHECK(!look(&watch) && watch.breaches == 0);
    the.kernel = 52 * MIB;
    CHECK(!look(&watch) && watch.breaches == 1);
}

/* If the kernel's memory is unknown, a pass is made once in each period. */
static void a_pass_is_made_once_in_each_period(void) {
    set_locks("2", 0);
    the.kernel = 0;
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    CHECK(!look(&watch) && watch.breaches == 0);
    watch.scan.ended = sp_now() - 2 * PERIOD_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
    set_locks("2", 0);
}

/* ---- with a limit ---- */

static void set_status(const char *pid, uint64_t anon, uint64_t shared, uint64_t tables) {
    char name[64];
    char text[256];
    (void)snprintf(name, sizeof name, "/%s/status", pid);
    (void)snprintf(text, sizeof text,
                   "RssAnon:\t%llu kB\nRssFile:\t0 kB\nRssShmem:\t%llu kB\nVmPTE:\t%llu kB\nThreads:\t1\n"
                   "Seccomp_filters:\t0\n",
                   (unsigned long long)(anon / KIB), (unsigned long long)(shared / KIB),
                   (unsigned long long)(tables / KIB));
    write_lines(name, "Name:\tx\n", 1, text);
}

static void set_share(const char *pid, uint64_t anon, unsigned faults) {
    char name[64];
    char text[128];
    (void)snprintf(name, sizeof name, "/%s/smaps_rollup", pid);
    (void)snprintf(text, sizeof text, "Pss_Anon: %llu kB\nPss_Shmem: 0 kB\n", (unsigned long long)(anon / KIB));
    write_lines(name, "head\n", 1, text);
    (void)snprintf(name, sizeof name, "/%s/stat", pid);
    (void)snprintf(text, sizeof text, "2 (a) name) S 1 2 3 4 5 6 %u 8 0 10\n", faults);
    write_lines(name, "", 1, text);
}

static void set_maps(const char *pid, size_t length_of_name) {
    char name[64];
    (void)snprintf(name, sizeof name, "/%s/maps", pid);
    write_lines(name, "1000-2000 rw-s 0 00:01 7 /", (unsigned)length_of_name, "x");
}

/* The descriptor 3 of process 2 becomes what the path leads to. */
static void set_file(const char *path, const char *info) {
    char target[128];
    (void)snprintf(target, sizeof target, "%s", path); /* `path` may be the buffer of in_folder() */
    CHECK(unlink(in_folder("/2/fd/3")) == 0);
    CHECK(symlink(target, in_folder("/2/fd/3")) == 0);
    write_lines("/2/fdinfo/3", "pos:\t0\n", 1, info);
}

static void reset(void) {
    static const char *const pids[] = {"2", "3"};
    memset(&the, 0, sizeof the);
    the.kernel = the.shared = GIB;
    for (size_t i = 0; i < 2; i++) {
        set_status(pids[i], MIB, 0, 0);
        set_share(pids[i], MIB, 1);
        set_maps(pids[i], 10);
    }
    set_file(in_folder("/3/fd/3"), "");
}

static void shared_memory_is_counted_once(void) {
    struct sp_memory_watch watch = begin_with_limit();
    set_status("2", 50 * MIB, 0, 0);
    set_status("3", 50 * MIB, 0, 0);
    set_share("2", 25 * MIB, 2);
    set_share("3", 25 * MIB, 2);
    CHECK(!look(&watch) && watch.breaches == 0);
    /* No process has had a page fault or more pages, so the share is not read again. */
    set_share("2", 50 * MIB, 2);
    CHECK(!look(&watch) && watch.breaches == 0);
    set_share("2", 50 * MIB, 3);
    CHECK(!look(&watch) && watch.breaches == 1 && ends(&watch));
}

/* Until a process is forked, its parent's share is the whole. */
static void a_kept_share_is_read_again_before_it_is_too_much(void) {
    struct sp_memory_watch watch = begin_with_limit();
    set_status("2", 50 * MIB, 0, 0);
    set_status("3", 50 * MIB, 0, 0);
    set_share("2", 50 * MIB, 7);
    set_share("3", 10 * MIB, 7);
    CHECK(!look(&watch) && watch.breaches == 0);
    set_share("2", 20 * MIB, 7);
    set_share("3", 20 * MIB, 8);
    CHECK(!look(&watch) && watch.breaches == 0);
}

static void a_walk_that_would_take_too_long_is_skipped(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.shared += 10 * MIB;
    set_share("2", 60 * MIB, 4); /* what a walk over the pages would find */
    set_status("2", 60 * MIB, UINT64_C(1) << 40, MIB);
    /* Without the walk the anonymous memory counts in full, and the shared memory up to what the machine has. */
    CHECK(!look(&watch) && watch.breaches == 1);
    the.shared = MIB;
    set_status("2", 40 * MIB, UINT64_C(1) << 40, MIB);
    CHECK(!ends(&watch));
}

/* A share that is not read makes the sum too large, and on a slow machine no time would be left for any. */
static void on_a_slow_machine_short_walks_are_made(void) {
    struct sp_memory_watch watch = begin_with_limit();
    const struct sp_budget spent = {0};
    struct sp_census census;
    set_status("2", 30 * MIB, 0, MIB);
    set_status("3", 30 * MIB, 0, MIB);
    set_share("2", 15 * MIB, 1);
    set_share("3", 15 * MIB, 1);
    sp_census_take(&census, watch.proc, true, 0, &spent);
    CHECK(census.own == 30 * MIB && !census.out_of_time);
    set_status("3", 2 * GIB, 0, MIB);
    set_share("3", GIB, 2);
    sp_census_take(&census, watch.proc, true, 0, &spent);
    CHECK(census.own == 15 * MIB + 2 * GIB);
    reset();
}

/* More than an ordinary program has must be read in time. */
static void on_a_slow_machine_ordinary_mappings_are_read(void) {
    static struct sp_reach reach;
    const struct sp_budget spent = {0};
    const int dir = open(in_folder("/2"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(dir != -1);
    write_lines("/2/maps", "", 4000, "1000-2000 r--p 0 00:01 7 /x\n");
    CHECK(sp_reach_add(&reach, dir, 0, &spent));
    write_lines("/2/maps", "", 4200, "1000-2000 r--p 0 00:01 7 /x\n");
    CHECK(!sp_reach_add(&reach, dir, 0, &spent));
    (void)close(dir);
    reset();
}

static void page_tables_and_threads_count(void) {
    struct sp_memory_watch watch = begin_with_limit();
    set_status("2", MIB, 0, 60 * MIB);
    CHECK(!look(&watch) && watch.breaches == 0);
    set_status("2", MIB, 0, 65 * MIB);
    CHECK(!look(&watch) && ends(&watch));
}

/* Each thread of a process may have filters of its own. All processes have those of init, which are not counted. */
static void filters_of_each_thread_are_counted(void) {
    static const char text[] = "RssAnon:\t100 kB\nThreads:\t2\nSeccomp_filters:\t%d\n";
    char line[128];
    write_lines("/1/status", "", 1, "RssAnon:\t 100 kB\nSeccomp_filters:\t6\n");
    (void)snprintf(line, sizeof line, text, 6);
    write_lines("/2/status", "Name:\tx\n", 1, line);
    CHECK(mkdir(in_folder("/2/task"), 0700) == 0 && mkdir(in_folder("/2/task/2"), 0700) == 0);
    CHECK(mkdir(in_folder("/2/task/4"), 0700) == 0);
    write_lines("/2/task/2/status", "Name:\tx\n", 1, line);
    (void)snprintf(line, sizeof line, text, 6 + 380);
    write_lines("/2/task/4/status", "Name:\tx\n", 1, line);
    struct sp_memory_watch watch = begin_with_limit();
    CHECK(watch.scan.last.filtered == 1 && watch.scan.last.filters == 380);
    struct sp_look seen = {.watch = &watch};
    CHECK(known_of_kernel(&seen) == FILTERED_BYTES + 380 * FILTER_BYTES);
    static const char *const made[] = {"/2/task/2/status", "/2/task/4/status", "/2/task/2", "/2/task/4", "/2/task"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        CHECK(remove(in_folder(made[i])) == 0);
    }
    write_lines("/1/status", "Name:\tx\n", 1, "RssAnon:\t 100 kB\nThreads:\t1\n");
}

static void more_processes_than_a_pass_has_time_for_are_too_much(void) {
    struct sp_memory_watch watch = begin_with_limit();
    struct sp_look late = {.watch = &watch, .budget = {0}};
    CHECK(!is_too_much(&late) && !late.census.out_of_time); /* a few of them have, on any machine */
    for (int pid = 4; pid < 20 + SP_BUDGET_UNTIMED; pid++) {
        char name[64];
        (void)snprintf(name, sizeof name, "/%d", pid);
        CHECK(mkdir(in_folder(name), 0700) == 0);
    }
    CHECK(is_too_much(&late) && late.census.out_of_time);
    for (int pid = 4; pid < 20 + SP_BUDGET_UNTIMED; pid++) {
        char name[64];
        (void)snprintf(name, sizeof name, "/%d", pid);
        CHECK(rmdir(in_folder(name)) == 0);
    }
}

static void a_pass_continues_where_it_stopped(void) {
    struct sp_scan pass;
    const struct sp_budget spent = {0};
    const struct sp_budget enough = sp_budget_of(10000 * MS);
    int proc = fake_open("/proc", O_RDONLY | O_DIRECTORY);
    set_locks("3", 7);
    sp_scan_begin(&pass, false, false);
    CHECK(!sp_scan_step(&pass, proc, &spent) && pass.is_running && pass.ended == 0);
    CHECK(sp_scan_step(&pass, proc, &enough) && !pass.is_running && pass.last.objects == 7);
    pass.is_running = true;
    pass.done = 3;
    CHECK(sp_scan_step(&pass, proc, &enough) && pass.last.objects == 7);
    set_locks("3", 0);
    for (int i = 1; i < SP_SCAN_STEPS_MAX; i++) {
        CHECK(!sp_scan_step(&pass, proc, &spent));
    }
    pass.processes = SP_SCAN_PROCESSES_MAX + 1;
    CHECK(sp_scan_step(&pass, proc, &spent) && pass.last.too_much); /* the number of steps is bounded */
    CHECK(sp_scan_step(&pass, proc, &enough) && !pass.last.too_much);
    sp_fd_close(&proc);
}

/* As root a directory of mode 0 can be read, unless these capabilities are gone. */
static void without_override(bool on) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    CHECK(syscall(SYS_capget, &header, caps) == 0);
    caps[0].effective =
        on ? caps[0].permitted & ~(1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH) : caps[0].permitted;
    CHECK(syscall(SYS_capset, &header, caps) == 0);
}

/* In the middle of an exec a process cannot be examined, and on a busy machine it may wait there for a processor. */
static void an_unreadable_process_is_too_much_after_a_while(void) {
    struct sp_memory_watch watch = begin_with_limit();
    without_override(true);
    CHECK(chmod(in_folder("/2/fd"), 0) == 0);
    watch.scan.ended = sp_now() - 2 * PERIOD_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0 && watch.scan.unreadable_since != 0);
    /* Until then it counts as one that may hide whatever the machine has taken. */
    the.shared += 100 * MIB;
    watch.scan.ended -= FRESH_NS;
    watch.scan.unreadable_since = sp_now() + SP_SEC(60); /* it has just begun, however slow this machine is */
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1 && !watch.scan.last.too_much);
    the.shared -= 100 * MIB;
    CHECK(!ends(&watch));
    watch.scan.unreadable_since = sp_now() - SP_SCAN_UNREADABLE_NS;
    watch.scan.unreadable_passes = SP_SCAN_UNREADABLE_PASSES;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1 && watch.scan.last.too_much);
    CHECK(chmod(in_folder("/2/fd"), 0700) == 0);
    CHECK(!ends(&watch) && watch.scan.unreadable_since == 0);
    without_override(false);
}

/* What it may hide there are only locks. */
static void in_a_cgroup_that_takes_longer(void) {
    struct sp_memory_watch watch = begin();
    without_override(true);
    CHECK(chmod(in_folder("/2/fd"), 0) == 0);
    watch.scan.ended = sp_now() - 2 * PERIOD_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.scan.unreadable_passes == 1 && !watch.scan.last.too_much);
    CHECK(until_next(&(struct sp_look){.watch = &watch}) == LOOK_NS); /* and not only when locks are due */
    watch.scan.unreadable_since -= SP_SEC(60);
    watch.scan.ended = sp_now() - 2 * PERIOD_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.scan.unreadable_passes == 2 && !watch.scan.last.too_much);
    watch.scan.unreadable_passes = SP_SCAN_UNREADABLE_LOCKS;
    watch.scan.ended = sp_now() - 2 * PERIOD_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1 && watch.scan.last.too_much);
    CHECK(chmod(in_folder("/2/fd"), 0700) == 0);
    without_override(false);
}

static void a_mapping_name_longer_than_any_path_is_too_much(void) {
    struct sp_memory_watch watch = begin_with_limit();
    set_maps("2", 20000);
    the.kernel += 20 * MIB;
    watch.scan.ended -= FRESH_NS;
    watch.scan.cost = 0;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1 && ends(&watch));
}

/* For an open maps file the kernel may hold any amount of text. */
static void an_open_maps_file_may_hide_memory(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.kernel += 100 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0); /* memory of other processes of the machine */
    set_file(in_folder("/2/maps"), "");
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0 && watch.hidden_passes == 1);
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
    the.free_lists = 90 * MIB; /* these pages are free, although they are counted as used */
    CHECK(!ends(&watch));
}

static void descriptors_in_flight_may_hide_memory(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.shared += 100 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    set_file(in_folder("/3/status"), "scm_fds:\t1\n");
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && ends(&watch));
}

/* So many full pipes, and what the machine has taken in objects; more only if a socket is in flight as well. */
static void descriptors_in_flight_hide_a_bounded_amount(void) {
    struct sp_memory_watch watch = begin_with_limit();
    set_file(in_folder("/3/status"), "scm_fds:\t20\n");
    the.kernel += 500 * MIB;
    for (int pass = 0; pass < 3; pass++) {
        watch.scan.ended -= FRESH_NS;
        CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    }
    the.objects += LIMIT;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
    the.objects -= LIMIT;
    CHECK(!ends(&watch));
    the.sockets.local = 1; /* in the table of no process */
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1 && ends(&watch));
}

static void connections_that_nobody_accepts_may_hide_memory(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.shared += 100 * MIB;
    the.wait = true;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && ends(&watch));
}

/* A finding alone ends no command: when the next pass comes late, the memory may have been freed. */
static void a_finding_is_confirmed_by_another_pass(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.sockets.local = 1000;
    the.kernel += 20 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
    the.sockets.local = 0;
    watch.scan.cost = 10000 * MS;
    sleep_ns(LONG_ROW_NS);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
}

/* The mappings of such a process are not read, because that would lock them for long. */
static void large_page_tables_may_hide_memory(void) {
    struct sp_memory_watch watch = begin_with_limit();
    set_status("2", MIB, 0, 9 * MIB);
    set_maps("2", 20000);
    the.shared += 30 * MIB;
    watch.scan.ended = sp_now() - 2 * PERIOD_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0 && watch.scan.last.reach_unknown);
    the.shared += 30 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && ends(&watch));
}

static void sockets_of_the_sandbox_are_counted(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.sockets.local = 1000;
    the.kernel += 20 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && ends(&watch));
    reset();
    watch = begin_with((struct sp_rec_config){.flags = SP_CONFIG_NET_LOOPBACK, .memory_bytes = LIMIT});
    the.sockets.local = 200;
    the.kernel += 20 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    the.queued = LIMIT;
    the.kernel += 20 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && ends(&watch));
    reset();
    watch = begin_with((struct sp_rec_config){.flags = SP_CONFIG_NET_LOOPBACK, .memory_bytes = LIMIT});
    the.queues_are_long = true;
    the.kernel += 20 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && ends(&watch));
}

/* As far as the machine has taken objects, beyond those that are known. */
static void links_between_processes_are_counted(void) {
    struct sp_memory_watch watch = begin_with_limit();
    struct sp_look seen = {.watch = &watch, .census.processes = 100};
    watch.scan.last.mappings = 5000;
    seen.kernel = (struct sp_machine_kernel){watch.base.kernel.used + GIB, watch.base.kernel.objects + GIB};
    CHECK(hidden_in_kernel(&seen, 0, 0) == 5000 * 100 * LINK_BYTES);
    seen.kernel.objects = watch.base.kernel.objects + 3 * MIB;
    CHECK(hidden_in_kernel(&seen, MIB, 0) == 2 * MIB);
    seen.census.tables = MIB; /* are known, and are no objects */
    CHECK(hidden_in_kernel(&seen, MIB, 0) == 3 * MIB);
    sp_census_take(&seen.census, watch.proc, false, 0, &seen.budget);
    CHECK(seen.census.processes == 2);
}

/* What an earlier tenant had, and the kernel frees only now, makes no room for this command. */
static void objects_that_the_kernel_still_frees_are_not_in_the_base(void) {
    the.objects = 100 * MIB;
    struct sp_memory_watch watch = begin_with_limit();
    the.objects = 60 * MIB;
    CHECK(!sp_memory_watch_look(&watch) && watch.base.kernel.objects == 60 * MIB);
    the.objects = 90 * MIB;
    CHECK(!sp_memory_watch_look(&watch) && watch.base.kernel.objects == 60 * MIB);
}

/* Likewise shared memory, and, but for a part of the limit, pages of the kernel. */
static void what_others_free_is_not_in_the_base(void) {
    the.shared = the.kernel = GIB;
    struct sp_memory_watch watch = begin_with_limit();
    watch.base.shared_by_all = GIB;
    the.shared = the.kernel = GIB / 2;
    CHECK(!sp_memory_watch_look(&watch) && watch.base.shared_by_all == GIB / 2);
    CHECK(watch.base.kernel.used == GIB / 2 + LIMIT / SLACK_OF_BASE);
    the.shared = the.kernel = GIB;
    CHECK(!sp_memory_watch_look(&watch) && watch.base.shared_by_all == GIB / 2);
    CHECK(watch.base.kernel.used == GIB / 2 + LIMIT / SLACK_OF_BASE);
}

static void what_each_thread_puts_back_is_counted(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.undone = LIMIT / 2; /* of each of two */
    the.kernel += 20 * MIB;
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1 && ends(&watch));
}

/* In the host's network namespace the kernel counts the sockets of all processes, so only descriptors are counted. */
static void sockets_of_the_host_are_not_counted(void) {
    the.sockets.local = 1000;
    struct sp_memory_watch watch =
        begin_with((struct sp_rec_config){.flags = SP_CONFIG_NET_HOST, .memory_bytes = LIMIT});
    CHECK(watch.sockets.local == 0);
}

/* The memory of pipes that were seen shortly before still counts, as far as the machine's figure has not shrunk. */
static void pipes_passed_between_processes_are_counted(void) {
    int ends_of[100][2];
    char path[64];
    struct sp_tally_sum *pipes;
    struct sp_memory_watch watch = begin_with_limit();
    for (int i = 0; i < 100; i++) {
        CHECK(pipe(ends_of[i]) == 0);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", ends_of[i][0]);
        set_file(path, "");
        watch.scan.ended = sp_now() - 2 * PERIOD_NS;
        CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    }
    pipes = &watch.scan.last.sums[SP_TALLY_PIPE];
    CHECK(pipes->n_present == 1 && pipes->n_gone > 0);
    unsigned gone = pipes->n_gone;
    struct sp_look seen = {.watch = &watch, .kernel = {watch.base.kernel.used + GIB, GIB}};
    CHECK(hidden_in_kernel(&seen, 0, 0) == sp_above(gone + 1, FREE_BUFFERS) * PIPE_BYTES);
    seen.kernel = watch.base.kernel;
    CHECK(hidden_in_kernel(&seen, 0, 0) == 0);
    sleep_ns(SP_TALLY_KEPT_NS);
    watch.scan.ended = sp_now() - 2 * PERIOD_NS;
    CHECK(!sp_memory_watch_look(&watch) && pipes->n_gone == 0);
    for (int i = 0; i < 100; i++) {
        sp_fd_close(&ends_of[i][0]);
        sp_fd_close(&ends_of[i][1]);
    }
}

static void memfds_passed_between_processes_are_counted(void) {
    int memfd = memfd_create("x", MFD_CLOEXEC);
    char path[64];
    struct sp_memory_watch watch = begin_with_limit();
    CHECK(memfd != -1 && fallocate(memfd, 0, 0, (off_t)(60 * MIB)) == 0);
    the.shared += 60 * MIB;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", memfd);
    set_file(path, "");
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && watch.scan.last.sums[SP_TALLY_MEMFD].present == 60 * MIB / PAGE);
    set_file(in_folder("/3/status"), "");
    struct sp_look seen = {.watch = &watch, .shared_by_all = the.shared};
    watch.scan.ended -= FRESH_NS;
    CHECK(!sp_memory_watch_look(&watch) && hidden_shared(&seen, 0) == 60 * MIB);
    seen.shared_by_all -= 50 * MIB; /* most of it was freed */
    CHECK(hidden_shared(&seen, 0) == 10 * MIB);
    sp_fd_close(&memfd);
}

static void one_process_above_the_limit_needs_one_look(void) {
    struct sp_memory_watch watch = begin_with_limit();
    set_status("2", LIMIT + LIMIT / 2, 0, 0);
    CHECK(sp_memory_watch_look(&watch));
}

/* The second process may be a child of the first between vfork and exec: nobody has asked how much of it is shared. */
static void a_sum_needs_several_looks_and_fewer_above_twice_the_limit(void) {
    struct sp_memory_watch watch = begin_with_limit();
    the.shared = 0;
    for (int far = 0; far < 2; far++) {
        uint64_t each = LIMIT / 4 * 3 + (uint64_t)far * LIMIT / 2;
        set_status("2", each, UINT64_C(1) << 40, 0);
        set_status("3", each, UINT64_C(1) << 40, 0);
        watch.breaches = watch.far_breaches = 0;
        CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
        CHECK(ends(&watch) && has_looked(&watch, far != 0 ? FAR_ROW_LOOKS : ROW_LOOKS));
    }
}

/* Processes between fork and exec that share all with another one would be larger. */
static void a_sum_of_small_ones_above_twice_the_limit_needs_one_look(void) {
    enum { FIRST = 100, LAST = FIRST + 3 * SMALL_PART };
    char name[16];
    struct sp_memory_watch watch = begin_with_limit();
    for (unsigned pid = FIRST; pid <= LAST; pid++) {
        (void)snprintf(name, sizeof name, "/%u", pid);
        CHECK(mkdir(in_folder(name), 0700) == 0);
        set_status(name + 1, LIMIT / SMALL_PART, 0, 0);
    }
    CHECK(sp_memory_watch_look(&watch) && watch.breaches == 1);
    for (unsigned pid = FIRST; pid <= LAST; pid++) {
        (void)snprintf(name, sizeof name, "/%u/status", pid);
        CHECK(unlink(in_folder(name)) == 0);
        (void)snprintf(name, sizeof name, "/%u", pid);
        CHECK(rmdir(in_folder(name)) == 0);
    }
}

static void an_exact_sum_above_twice_the_limit_needs_one_look(void) {
    struct sp_memory_watch watch = begin_with_limit();
    struct sp_look seen = {.watch = &watch, .census = {.own = 2 * LIMIT + MIB, .largest = LIMIT}};
    CHECK(is_certain(&seen, 0) == sp_share_is_known());
    CHECK(!is_certain(&seen, CENSUS_NS + 1)); /* init has waited for a processor */
    seen.census.shown = 2 * MIB;
    CHECK(!is_certain(&seen, 0));
    seen.census.largest = LIMIT / SMALL_PART;
    CHECK(is_certain(&seen, CENSUS_NS + 1));
}

static int wait_for_signal(void *unused) {
    (void)unused;
    return pause();
}

/* The process 4, by its real pid, is a child of this one, and has its memory or not. */
static uint64_t look_at_child(unsigned flags) {
    static char stack[64 * 1024] __attribute__((aligned(16)));
    char name[64];
    const pid_t pid = clone(wait_for_signal, stack + sizeof stack, (int)flags | SIGCHLD, NULL);
    const char *const made[] = {"", "/status"};
    CHECK(pid > 3);
    (void)snprintf(name, sizeof name, "/%d", (int)pid);
    CHECK(mkdir(in_folder(name), 0700) == 0);
    (void)snprintf(name, sizeof name, "/%d/status", (int)pid);
    char text[128];
    (void)snprintf(text, sizeof text, "PPid:\t%d\nRssAnon:\t40960 kB\nThreads:\t1\n", (int)getpid());
    write_lines(name, "Name:\tx\n", 1, text);
    struct sp_look seen = {.budget = sp_budget_of(10000 * MS)};
    int proc = fake_open("/proc", O_RDONLY | O_DIRECTORY);
    sp_census_take(&seen.census, proc, true, 0, &seen.budget);
    sp_fd_close(&proc);
    for (size_t i = 2; i-- > 0;) {
        (void)snprintf(name, sizeof name, "/%d%s", (int)pid, made[i]);
        CHECK(remove(in_folder(name)) == 0);
    }
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    CHECK(seen.census.threads == 3);
    return seen.census.own;
}

/* Between vfork and exec; a process that clone() has given memory of its own counts, whatever waits for it. */
static void a_child_with_the_memory_of_its_parent_counts_once(void) {
    CHECK(look_at_child(CLONE_VM) == 2 * MIB);
    CHECK(look_at_child(0) == 42 * MIB);
}

static void the_first_base_is_from_before_the_creation(void) {
    struct sp_plan plan = {.config = {.memory_bytes = LIMIT}, .machine = {.kernel = {.used = 7}, .at = 1}};
    struct sp_memory_base base = {.kept = 0};
    sp_memory_base_early(&base, &plan, true);
    CHECK(base.kernel.used == 7);
    sp_memory_base_early(&base, &plan, false); /* commands have run since */
    CHECK(base.kernel.used == the.kernel);
    plan.machine.at = 0; /* the zygote had no need of a reading */
    sp_memory_base_early(&base, &plan, true);
    CHECK(base.kernel.used == the.kernel);
}

/* The first looks make no pass and read no figures of the machine, unless much memory is in use. */
static void a_young_command_is_looked_at_briefly(void) {
    const struct sp_plan plan = {.config = {.flags = SP_CONFIG_NETNS_REUSE, .memory_bytes = LIMIT}};
    const struct sp_memory_base base = {.kernel = {the.kernel, 0}, .shared_by_all = the.shared};
    struct sp_memory_watch watch;
    sp_memory_watch_begin(&watch, &plan, &base);
    CHECK(!sp_memory_watch_look(&watch) && watch.young_until != 0 && watch.scan.ended == 0);
    CHECK(watch.next_look <= sp_now() + YOUNG_NS);
    set_status("2", LIMIT / 2, 0, 0);
    CHECK(!sp_memory_watch_look(&watch) && watch.young_until == 0 && watch.scan.ended != 0);
    sp_memory_watch_end(&watch);
    set_status("2", MIB, 0, 0);
    sp_memory_watch_begin(&watch, &plan, &base);
    watch.young_until = sp_now();
    CHECK(!sp_memory_watch_look(&watch) && watch.young_until == 0 && watch.scan.ended != 0);
    sp_memory_watch_end(&watch);
}

/* Far from the limit a look is needed only rarely. */
static void the_next_look_comes_sooner_near_the_limit(void) {
    struct sp_memory_watch watch = begin_with_limit();
    struct sp_look far = {.watch = &watch};
    struct sp_look near = {.watch = &watch, .census.own = 2 * LIMIT};
    CHECK(until_next(&near) == LOOK_NS);
    CHECK(until_next(&far) == LOOK_NS + (int64_t)(2 * LIMIT / FILL_BYTES_PER_MS / 2) * MS);
    watch.limit = UINT64_C(1) << 40;
    CHECK(until_next(&far) == LOOK_NS + LOOK_MAX_NS);
}

static void remove_folder(void) {
    static const char *const names[] = {"/fdinfo/3", "/fd/3", "/status", "/smaps_rollup", "/stat", "/maps",
                                        "/fdinfo",   "/fd",   ""};
    char name[64];
    for (int pid = 1; pid <= 3; pid++) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            (void)snprintf(name, sizeof name, "/%d%s", pid, names[i]);
            CHECK(remove(in_folder(name)) == 0 || pid == 1);
        }
    }
    CHECK(rmdir(folder) == 0);
}

int main(void) {
    check_deadline(60);
    if (mkdtemp(folder) == NULL) {
        return EXIT_FAILURE;
    }
    make_process("1");
    make_process("2");
    make_process("3");
    RUN(without_a_limit_nothing_is_watched);
    RUN(too_many_locks_end_a_command_in_a_cgroup);
    RUN(as_many_locks_as_are_allowed_do_not);
    RUN(the_sum_of_all_processes_counts);
    RUN(full_netlink_sockets_end_a_command_in_a_cgroup);
    RUN(epoll_watches_are_left_to_the_cgroup);
    RUN(locks_of_init_are_not_counted);
    RUN(released_locks_end_no_command);
    RUN(growth_is_counted_from_the_lowest_figure);
    RUN(a_pass_is_made_once_in_each_period);
    reset();
    RUN(shared_memory_is_counted_once);
    reset();
    RUN(a_kept_share_is_read_again_before_it_is_too_much);
    reset();
    RUN(a_walk_that_would_take_too_long_is_skipped);
    reset();
    RUN(on_a_slow_machine_short_walks_are_made);
    RUN(on_a_slow_machine_ordinary_mappings_are_read);
    RUN(page_tables_and_threads_count);
    reset();
    RUN(filters_of_each_thread_are_counted);
    reset();
    RUN(more_processes_than_a_pass_has_time_for_are_too_much);
    reset();
    RUN(a_pass_continues_where_it_stopped);
    reset();
    RUN(an_unreadable_process_is_too_much_after_a_while);
    reset();
    RUN(in_a_cgroup_that_takes_longer);
    reset();
    RUN(a_mapping_name_longer_than_any_path_is_too_much);
    reset();
    RUN(an_open_maps_file_may_hide_memory);
    reset();
    RUN(descriptors_in_flight_may_hide_memory);
    reset();
    RUN(descriptors_in_flight_hide_a_bounded_amount);
    reset();
    RUN(connections_that_nobody_accepts_may_hide_memory);
    reset();
    RUN(a_finding_is_confirmed_by_another_pass);
    reset();
    RUN(large_page_tables_may_hide_memory);
    reset();
    RUN(sockets_of_the_sandbox_are_counted);
    reset();
    RUN(links_between_processes_are_counted);
    reset();
    RUN(objects_that_the_kernel_still_frees_are_not_in_the_base);
    reset();
    RUN(what_others_free_is_not_in_the_base);
    reset();
    RUN(what_each_thread_puts_back_is_counted);
    reset();
    RUN(sockets_of_the_host_are_not_counted);
    reset();
    RUN(pipes_passed_between_processes_are_counted);
    reset();
    RUN(memfds_passed_between_processes_are_counted);
    reset();
    RUN(the_next_look_comes_sooner_near_the_limit);
    reset();
    RUN(one_process_above_the_limit_needs_one_look);
    reset();
    RUN(a_sum_needs_several_looks_and_fewer_above_twice_the_limit);
    reset();
    RUN(a_sum_of_small_ones_above_twice_the_limit_needs_one_look);
    RUN(an_exact_sum_above_twice_the_limit_needs_one_look);
    RUN(the_first_base_is_from_before_the_creation);
    RUN(a_young_command_is_looked_at_briefly);
    reset();
    RUN_WITHOUT(lack_of_kcmp(), a_child_with_the_memory_of_its_parent_counts_once);
    remove_folder();
    return check_report();
}
