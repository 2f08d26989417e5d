/* sources: csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/text.c
 * csrc/common/mountinfo_linux.c csrc/init/mount_flags.c csrc/init/files.c csrc/init/proc.c csrc/init/lines.c
 * csrc/init/reach.c csrc/init/tally.c */
/*
 * The pass over descriptors, which ends commands, with a plain directory in place of /proc and a clock on which any
 * work takes too long: so it is in a virtual machine that waits for a processor of its host.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "init/scan.h"

static struct {
    bool in_cgroup; /* only file locks are looked for */
    bool is_slow;
    unsigned checks; /* of the budget of a step */
} the;
static const struct sp_budget of_step = {0};

/* A step examines one process. */
static bool fake_is_spent(const struct sp_budget *budget) {
    return budget == &of_step ? the.checks++ != 0 : the.is_slow;
}

static bool fake_ends(const struct sp_budget *budget, unsigned part, unsigned interval) {
    return part > SP_BUDGET_UNTIMED && part % interval == 0 && fake_is_spent(budget);
}

#define sp_budget_is_spent(budget) fake_is_spent(budget)
#define sp_budget_ends(budget, part, interval) fake_ends(budget, part, interval)
/* NOLINTNEXTLINE(bugprone-suspicious-include): with another clock, see above */
#include "init/scan.c"
#undef sp_budget_is_spent
#undef sp_budget_ends

static char folder[] = "/dev/shm/sandpool-scan-XXXXXX";
static int proc = -1;

static void write_text(const char *name, const char *text) {
    sp_auto_fd int fd = openat(proc, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* A process with files, each of which has one lock. */
static void make_process(int pid, int files) {
    static const char *const parts[] = {"", "/fd", "/fdinfo"};
    char name[64];
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        (void)snprintf(name, sizeof name, "%d%s", pid, parts[i]);
        CHECK(mkdirat(proc, name, 0700) == 0);
    }
    for (int fd = 0; fd < files; fd++) {
        (void)snprintf(name, sizeof name, "%d/fd/%d", pid, fd);
        write_text(name, "");
        (void)snprintf(name, sizeof name, "%d/fdinfo/%d", pid, fd);
        write_text(name, "pos:\t0\nlock:\t1: POSIX  ADVISORY  WRITE 2 00:1f:7 0 0\n");
    }
    (void)snprintf(name, sizeof name, "%d/status", pid);
    write_text(name, "Name:\tx\nRssAnon:\t 100 kB\nThreads:\t1\n");
}

static void remove_process(int pid, int files) {
    static const char *const parts[] = {"/status", "/fd", "/fdinfo", ""};
    char name[64];
    for (int fd = 0; fd < files; fd++) {
        (void)snprintf(name, sizeof name, "%d/fd/%d", pid, fd);
        CHECK(unlinkat(proc, name, 0) == 0);
        (void)snprintf(name, sizeof name, "%d/fdinfo/%d", pid, fd);
        CHECK(unlinkat(proc, name, 0) == 0);
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        (void)snprintf(name, sizeof name, "%d%s", pid, parts[i]);
        CHECK(unlinkat(proc, name, i == 0 ? 0 : AT_REMOVEDIR) == 0);
    }
}

static bool step(struct sp_scan *scan) {
    the.checks = 0;
    return sp_scan_step(scan, proc, &of_step);
}

/* A whole pass. What it has found is in `last`. */
static void pass(struct sp_scan *scan) {
    unsigned steps = 1;
    while (!step(scan) && steps < SP_SCAN_STEPS_MAX) {
        steps++;
    }
    CHECK(steps < SP_SCAN_STEPS_MAX);
}

static void too_little_time_for_a_process_ends_nobody(void) {
    struct sp_scan scan;
    make_process(2, 2 * BUDGET_FILES);
    the.is_slow = true;
    sp_scan_begin(&scan, the.in_cgroup, false);
    pass(&scan);
    CHECK(!scan.last.too_much && scan.last.objects == 2 * BUDGET_FILES);
    remove_process(2, 2 * BUDGET_FILES);
}

static void a_process_with_many_files_has_to_be_examined_in_time(void) {
    struct sp_scan scan;
    make_process(2, SP_BUDGET_UNTIMED + BUDGET_FILES);
    sp_scan_begin(&scan, the.in_cgroup, false);
    the.is_slow = false;
    pass(&scan);
    CHECK(!scan.last.too_much && scan.last.objects == SP_BUDGET_UNTIMED + BUDGET_FILES);
    the.is_slow = true;
    pass(&scan);
    CHECK(scan.last.too_much);
    remove_process(2, SP_BUDGET_UNTIMED + BUDGET_FILES);
}

static void a_process_whose_first_thread_has_ended_ends_nobody(void) {
    struct sp_scan scan;
    CHECK(mkdirat(proc, "2", 0700) == 0 && mkdirat(proc, "2/task", 0700) == 0);
    CHECK(mkdirat(proc, "2/task/2", 0700) == 0);
    the.is_slow = true;
    sp_scan_begin(&scan, the.in_cgroup, false);
    pass(&scan);
    CHECK(!scan.last.too_much);
    CHECK(unlinkat(proc, "2/task/2", AT_REMOVEDIR) == 0 && unlinkat(proc, "2/task", AT_REMOVEDIR) == 0);
    CHECK(unlinkat(proc, "2", AT_REMOVEDIR) == 0);
}

/* A session may have more copies than a pass has steps, and each copy may take a step. */
static void more_steps_than_usual_end_nobody(void) {
    struct sp_scan scan;
    make_process(2, 1);
    make_process(3, 1);
    the.is_slow = true;
    sp_scan_begin(&scan, the.in_cgroup, false);
    for (int i = 0; i < 2 * SP_SCAN_STEPS_MAX; i++) {
        CHECK(!step(&scan) && scan.is_running);
        scan.done = 1; /* there are more */
    }
    pass(&scan);
    CHECK(!scan.last.too_much);
    remove_process(2, 1);
    remove_process(3, 1);
}

/* They would be created faster than they can be examined, so that no pass ended. */
static void many_more_are_too_much(void) {
    struct sp_scan scan;
    make_process(2, 1);
    make_process(3, 1);
    the.is_slow = false;
    sp_scan_begin(&scan, the.in_cgroup, false);
    CHECK(!step(&scan) && scan.is_running && scan.processes == 1);
    scan.steps = SP_SCAN_STEPS_MAX;
    scan.processes = SP_SCAN_PROCESSES_MAX;
    scan.done = 1;
    CHECK(step(&scan) && scan.last.too_much);
    remove_process(2, 1);
    remove_process(3, 1);
}

/* As root a directory of mode 0 can be read, unless these capabilities are gone. */
static void without_override(bool on) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    const unsigned these = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;
    CHECK(syscall(SYS_capget, &header, caps) == 0);
    caps[0].effective = on ? caps[0].permitted & ~these : caps[0].permitted;
    CHECK(syscall(SYS_capset, &header, caps) == 0);
}

/* However long that has taken: a process in the middle of its exec may wait for a processor longer than init does. */
static void only_a_number_of_passes_makes_an_unreadable_process_too_much(void) {
    struct sp_scan scan;
    make_process(2, 1);
    without_override(true);
    CHECK(fchmodat(proc, "2/fd", 0, 0) == 0);
    sp_scan_begin(&scan, the.in_cgroup, false);
    for (int i = 0; i < (the.in_cgroup ? SP_SCAN_UNREADABLE_LOCKS : SP_SCAN_UNREADABLE_PASSES); i++) {
        pass(&scan);
        CHECK(scan.last.unreadable && !scan.last.too_much);
        scan.unreadable_since -= SP_SEC(10);
    }
    pass(&scan);
    CHECK(scan.last.too_much);
    CHECK(fchmodat(proc, "2/fd", 0700, 0) == 0);
    pass(&scan);
    CHECK(!scan.last.too_much && scan.unreadable_passes == 0);
    without_override(false);
    remove_process(2, 1);
}

int main(void) {
    check_deadline(60);
    if (mkdtemp(folder) == NULL || (proc = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1) {
        return EXIT_FAILURE;
    }
    for (int in_cgroup = 0; in_cgroup <= 1; in_cgroup++) {
        the.in_cgroup = in_cgroup != 0;
        RUN(too_little_time_for_a_process_ends_nobody);
        RUN(a_process_with_many_files_has_to_be_examined_in_time);
        RUN(a_process_whose_first_thread_has_ended_ends_nobody);
        RUN(more_steps_than_usual_end_nobody);
        RUN(many_more_are_too_much);
        RUN(only_a_number_of_passes_makes_an_unreadable_process_too_much);
    }
    CHECK(rmdir(folder) == 0);
    return check_report();
}
