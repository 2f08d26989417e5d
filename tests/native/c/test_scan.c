/* sources: csrc/init/tally.c csrc/init/proc.c csrc/init/lines.c csrc/common/text.c csrc/common/fd.c csrc/common/wire.c
 * csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/clock.c csrc/common/packet.c */
/*
 * A pass of the memory watch over a process whose first thread has ended, so that another one shows its memory: what
 * cannot be examined there counts as it does elsewhere. A plain directory is in place of /proc. The file is part of
 * this program, with the mappings, the time of a process and the list of its descriptors replaced.
 */
#include <errno.h>
#include <fcntl.h>

#include "init/proc.h"
#include "init/scan.h"
#include "machine.h"

static struct {
    bool no_time, refused, long_mappings;
} the;

static struct sp_budget faulty_budget_of(int64_t ns) {
    (void)ns;
    return (struct sp_budget){the.no_time ? 0 : INT64_MAX};
}

static int faulty_listing_open(struct sp_listing *list, int dir, const char *name) {
    if (the.refused && strcmp(name, "fd") == 0) {
        errno = EACCES;
        return -1;
    }
    return sp_listing_open(list, dir, name);
}

bool sp_reach_add(struct sp_reach *reach, int dir, dev_t dev, const struct sp_budget *budget) {
    (void)dir, (void)dev, (void)budget;
    reach->bytes += 4096;
    return !the.long_mappings;
}

#define sp_budget_of faulty_budget_of
#define sp_listing_open faulty_listing_open
/* NOLINTBEGIN(bugprone-suspicious-include): with other names, see above */
#include "init/scan.c"
/* NOLINTEND(bugprone-suspicious-include) */

static char folder[] = "/dev/shm/sandpool-scan-XXXXXX";
static int proc = -1;
static const char *const folders[] = {"7", "7/task", "7/task/8", "7/task/8/fd", "7/task/8/fdinfo"};
static const char *const files[] = {"7/status", "7/task/8/status", "7/task/8/fd/3", "7/task/8/fdinfo/3"};

static void write_file(const char *name, const char *line, unsigned n) {
    int fd = openat(proc, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd != -1);
    for (unsigned i = 0; i < n; i++) {
        CHECK(write(fd, line, strlen(line)) == (ssize_t)strlen(line));
    }
    (void)close(fd);
}

static void set_locks(unsigned n) {
    write_file("7/task/8/fdinfo/3", "\nlock:\t1: POSIX  ADVISORY  WRITE 2 00:1f:7 0 0", n);
}

/* What one pass has found. */
static struct sp_found found(void) {
    const struct sp_budget enough = {INT64_MAX};
    const unsigned fds = count_fds();
    struct sp_scan scan;
    sp_scan_begin(&scan, false, false);
    CHECK(sp_scan_step(&scan, proc, &enough) && !scan.is_running && count_fds() == fds);
    return scan.last;
}

static void another_thread_shows_what_the_process_has(void) {
    set_locks(2);
    write_file("7/task/8/status", "Name:\tx\nRssAnon:\t 100 kB\nSeccomp_filters:\t3\n", 1);
    const struct sp_found seen = found();
    CHECK(!seen.too_much && !seen.unreadable && seen.files == 1 && seen.reach == 4096);
    CHECK(seen.filtered == 1 && seen.filters == 3);
}

static void its_locks_count(void) {
    set_locks(SP_SCAN_OBJECTS_MAX + 1);
    CHECK(found().too_much);
    set_locks(SP_SCAN_OBJECTS_MAX - 1);
    CHECK(!found().too_much);
}

static void its_mappings_count(void) {
    the.long_mappings = true;
    CHECK(found().too_much);
    the.long_mappings = false;
}

static void many_threads_that_take_too_long_are_too_much(void) {
    char name[64];
    the.no_time = true;
    CHECK(!found().too_much); /* few threads end nobody, on any machine */
    for (int tid = 100; tid < 100 + SP_BUDGET_UNTIMED; tid++) {
        (void)snprintf(name, sizeof name, "7/task/%d", tid);
        CHECK(mkdirat(proc, name, 0700) == 0);
    }
    CHECK(found().too_much);
    the.no_time = false;
    CHECK(!found().too_much);
    for (int tid = 100; tid < 100 + SP_BUDGET_UNTIMED; tid++) {
        (void)snprintf(name, sizeof name, "7/task/%d", tid);
        CHECK(unlinkat(proc, name, AT_REMOVEDIR) == 0);
    }
}

static void one_that_may_not_be_examined_may_hide_anything(void) {
    the.refused = true;
    const struct sp_found seen = found();
    CHECK(seen.unreadable && seen.hidden && seen.reach_unknown && !seen.too_much);
    the.refused = false;
}

/* Nobody has the memory of a process without a living thread. */
static void one_without_a_living_thread_has_nothing(void) {
    write_file("7/task/8/status", "Name:\tx\n", 1);
    the.refused = the.long_mappings = true;
    const struct sp_found seen = found();
    CHECK(!seen.unreadable && !seen.too_much && seen.reach == 0 && seen.filters == 0);
}

int main(void) {
    check_deadline(30);
    CHECK(mkdtemp(folder) != NULL);
    proc = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        CHECK(mkdirat(proc, folders[i], 0700) == 0);
    }
    write_file("7/status", "Name:\tx\nThreads:\t1\n", 1); /* no memory: it has ended */
    write_file("7/task/8/fd/3", "", 0);
    RUN(another_thread_shows_what_the_process_has);
    RUN(its_locks_count);
    RUN(its_mappings_count);
    RUN(many_threads_that_take_too_long_are_too_much);
    RUN(one_that_may_not_be_examined_may_hide_anything);
    RUN(one_without_a_living_thread_has_nothing);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        CHECK(unlinkat(proc, files[i], 0) == 0);
    }
    for (size_t i = sizeof folders / sizeof folders[0]; i-- > 0;) {
        CHECK(unlinkat(proc, folders[i], AT_REMOVEDIR) == 0);
    }
    CHECK(rmdir(folder) == 0);
    return check_report();
}
