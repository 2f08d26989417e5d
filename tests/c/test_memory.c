/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/init/files.c csrc/init/proc.c csrc/init/reach.c csrc/init/sysv.c */
/*
 * What init's watch leaves to a cgroup and what it does not, over directories that only look like /proc: it is part of
 * this program with that name replaced. tests/test_memory.py has the rest, in sandboxes; tests/vm has both together.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "common/packet.h"
#include "init/proc.h"
#include "machine.h"

static char folder[] = "/tmp/sandpool-proc-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[128];
    (void)snprintf(path, sizeof path, "%s%s", folder, name);
    return path;
}

static bool read_text(int dir, const char *name, char *text, size_t size) {
    return sp_read_text(dir, strcmp(name, "/proc/meminfo") == 0 ? in_folder("/meminfo") : name, text, size);
}

static int open_listing(struct sp_listing *list, int dir, const char *name) {
    return sp_listing_open(list, dir, strcmp(name, "/proc") == 0 ? folder : name);
}

#define sp_read_text read_text
#define sp_listing_open open_listing
/* NOLINTBEGIN(bugprone-suspicious-include): with other names, see above */
#include "init/kernel_memory.c"
#undef KIB
#include "init/memory.c"
/* NOLINTEND(bugprone-suspicious-include) */

#define TOO_MANY (SP_KERNEL_OBJECTS + 1)

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

static void set_slab(unsigned mib) {
    char line[64];
    (void)snprintf(line, sizeof line, "SUnreclaim: %u kB\n", mib * 1024);
    write_lines("/meminfo", "Slab: 1 kB\n", 1, line);
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
    write_lines(name, "Name:\tx\n", 1, "RssAnon:\t 100 kB\n");
}

/* In a cgroup, with what there is when the command begins counted, and no other count due by the time. */
static struct sp_memory_watch begin(void) {
    const struct sp_rec_config config = {.flags = SP_CONFIG_MEMORY_CGROUP};
    const struct sp_memory_base base = {0};
    struct sp_memory_watch watch;
    sp_memory_watch_begin(&watch, &config, &base);
    CHECK(watch.next_look != SP_NEVER);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    CHECK(watch.kernel.next > watch.kernel.counted);
    watch.kernel.next = SP_NEVER;
    return watch;
}

/* The looks after a suspicion, each at its time, until one of them ends the command or takes it back. */
static bool ends(struct sp_memory_watch *watch) {
    bool ended = false;
    while (!ended && watch->breaches != 0) {
        CHECK(sp_wait_fd(-1, 0, watch->next_look) == -ETIMEDOUT);
        ended = sp_memory_watch_look(watch);
    }
    return ended;
}

static void without_a_limit_nothing_is_watched(void) {
    const struct sp_rec_config config = {.flags = 0};
    const struct sp_memory_base base = {0};
    struct sp_memory_watch watch;
    sp_memory_watch_begin(&watch, &config, &base);
    CHECK(watch.next_look == SP_NEVER);
}

static void too_many_locks_end_a_command_in_a_cgroup(void) {
    set_locks("2", 100);
    set_slab(100);
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0); /* of this nothing is to be seen yet */
    set_slab(102);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
    CHECK(ends(&watch) && watch.breaches >= ROW_LOOKS);
}

static void as_many_as_are_allowed_do_not(void) {
    set_locks("2", SP_KERNEL_OBJECTS);
    set_slab(100);
    struct sp_memory_watch watch = begin();
    set_slab(200);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
}

static void the_sum_of_all_processes_counts(void) {
    set_locks("2", SP_KERNEL_OBJECTS / 2);
    set_locks("3", SP_KERNEL_OBJECTS / 2);
    set_slab(100);
    struct sp_memory_watch watch = begin();
    set_locks("3", SP_KERNEL_OBJECTS / 2 + 1);
    set_slab(102);
    CHECK(!sp_memory_watch_look(&watch) && ends(&watch));
    set_locks("3", 0);
}

static void those_of_init_are_its_own(void) {
    set_locks("1", TOO_MANY);
    set_locks("2", 1);
    set_slab(100);
    struct sp_memory_watch watch = begin();
    set_slab(102);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
}

static void locks_that_are_let_go_end_nothing(void) {
    set_locks("2", 0);
    set_slab(100);
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    set_slab(102);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
    set_locks("2", 0);
    CHECK(!ends(&watch) && watch.breaches == 0);
}

/* What somebody else has given back is where the next growth begins. */
static void slab_counts_from_its_lowest(void) {
    set_locks("2", 0);
    set_slab(100);
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    set_slab(50);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    set_slab(52);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
}

/* Nobody tells of slab: there is the period. */
static void it_is_counted_once_in_a_while(void) {
    set_locks("2", 0);
    CHECK(unlink(in_folder("/meminfo")) == 0);
    struct sp_memory_watch watch = begin();
    set_locks("2", TOO_MANY);
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 0);
    watch.kernel.next = sp_now();
    CHECK(!sp_memory_watch_look(&watch) && watch.breaches == 1);
}

static void remove_folder(void) {
    static const char *const names[] = {"/fdinfo/3", "/fd/3", "/status", "/fdinfo", "/fd", ""};
    char name[64];
    for (int pid = 1; pid <= 3; pid++) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            (void)snprintf(name, sizeof name, "/%d%s", pid, names[i]);
            CHECK(remove(in_folder(name)) == 0);
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
    RUN(as_many_as_are_allowed_do_not);
    RUN(the_sum_of_all_processes_counts);
    RUN(those_of_init_are_its_own);
    RUN(locks_that_are_let_go_end_nothing);
    RUN(slab_counts_from_its_lowest);
    RUN(it_is_counted_once_in_a_while);
    remove_folder();
    return check_report();
}
