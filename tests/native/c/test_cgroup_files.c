/*
 * linux/cgroup.c and cgroup_dir.c with plain directories in place of cgroups, see cgroup_kernel.h: what they write,
 * what they read back, and what they leave behind. This needs no controller. test_cgroup.c and tests/vm use real
 * cgroups.
 */
#include "cgroup_kernel.h"
#include "common/clock.h"
#include "common/stage.h"
#include "machine.h"

/* ---- a tree of plain directories ---- */

static char top[64], own[96];

static void put(const char *directory, const char *file, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", directory, file);
    FILE *out = fopen(path, "we");
    CHECK(out != NULL && fputs(text, out) >= 0 && fclose(out) == 0);
}

static bool exists(const char *name) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", own, name);
    return access(path, F_OK) == 0;
}

static bool says(const char *name, const char *text) {
    char path[256];
    char found[128] = "";
    (void)snprintf(path, sizeof path, "%s/%s", own, name);
    FILE *in = fopen(path, "re");
    size_t n = in != NULL ? fread(found, 1, sizeof found - 1, in) : 0;
    if (in != NULL) {
        (void)fclose(in);
    }
    found[n] = '\0';
    return strcmp(found, text) == 0;
}

static void begin_tree(void) {
    (void)snprintf(top, sizeof top, "/tmp/sandpool-cgroup-XXXXXX");
    CHECK(mkdtemp(top) != NULL);
    (void)snprintf(own, sizeof own, "%s/own", top);
    put(top, "cgroup.subtree_control", "cpuset memory\n");
    refuse(NO_CALL, "", 0);
    answer = NULL;
    given = killed = 0;
    as_user = 1000;
}

static void end_tree(void) {
    char path[256];
    refuse(NO_CALL, "", 0);
    CHECK(!exists(""));
    (void)snprintf(path, sizeof path, "%s/cgroup.subtree_control", top);
    (void)unlink(path);
    CHECK(rmdir(top) == 0);
}

static const sp_sandbox_options all_limits = {.size = sizeof(sp_sandbox_options),
                                              .cgroup_dir = own,
                                              .memory_bytes = 1 << 20,
                                              .max_processes = 7,
                                              .cpu_quota_us = 30000,
                                              .cpu_period_us = 60000};
#define ALL_CONTROLLERS (SP_CGROUP_MEMORY | SP_CGROUP_PIDS | SP_CGROUP_CPU)

static struct sp_cgroups *open_all(void) {
    sp_error error = {0};
    struct sp_cgroups *c = sp_cgroups_open(&all_limits, &error);
    if (c == NULL) {
        abort();
    }
    CHECK(sp_cgroups_enforced(c) == ALL_CONTROLLERS);
    return c;
}

static void end(struct sp_cgroups *c) {
    refuse(NO_CALL, "", 0);
    sp_cgroups_close(c, 0);
    sp_cgroups_free(c);
}

/* ---- the launcher's directory ---- */

static void directories_are_created_with_their_limits(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    int fd = -1;
    CHECK(exists("zygote") && says("cgroup.subtree_control", "memory\npids\ncpu\n"));
    CHECK(sp_cgroups_add_zygote(c, 4711) == 0 && says("zygote/cgroup.procs", "4711\n"));
    int64_t number = sp_cgroup_take(c, &fd);
    CHECK(number == 1 && fd != -1 && given == 0);
    CHECK(says("s1/memory.max", "1048576\n") && says("s1/memory.oom.group", "1\n") &&
          says("s1/memory.swap.max", "0\n") && says("s1/pids.max", "8\n") && says("s1/cpu.max", "30000 60000\n"));
    sp_cgroup_kill(c, 1);
    CHECK(killed == 1);
    (void)close(fd);
    end(c);
    CHECK(killed == 2);
    end_tree();
}

static void the_zygote_of_root_gets_its_files(void) {
    begin_tree();
    as_user = 0;
    struct sp_cgroups *c = open_all();
    int fd = -1;
    CHECK(given == 1 && sp_cgroup_take(c, &fd) == 1 && given == 2);
    (void)close(fd);
    refuse(CHOWN, "cgroup.procs", EROFS);
    CHECK(sp_cgroup_take(c, &fd) == -EROFS && !exists("s2"));
    end(c);
    end_tree();
}

static void opening_fails(enum call call, const char *name, int err, int stage, const char *detail) {
    sp_error error = {0};
    const unsigned fds = count_fds();
    begin_tree();
    as_user = call == CHOWN ? 0 : 1000;
    refuse(call, name, err);
    CHECK(sp_cgroups_open(&all_limits, &error) == NULL);
    CHECK(error.stage == stage && error.err == (call == STATFS ? ENODEV : err));
    CHECK(detail == NULL || strcmp(error.detail, detail) == 0);
    end_tree();
    CHECK(count_fds() == fds);
}

static void an_open_fails_when_one_of_its_calls_fails(void) {
    opening_fails(CALLOC, "", ENOMEM, SP_STAGE_NONE, NULL);
    opening_fails(STRNDUP, "", ENOMEM, SP_STAGE_CGROUP, own);
    opening_fails(STATFS, "", EIO, SP_STAGE_CGROUP, "not a directory of cgroup v2");
    opening_fails(MKDIR, "own", EACCES, SP_STAGE_CGROUP, own);
    opening_fails(OPEN, "own", EMFILE, SP_STAGE_CGROUP, own);
    opening_fails(MKDIR, "zygote", EAGAIN, SP_STAGE_CGROUP, own);
    opening_fails(CHOWN, "cgroup.procs", EROFS, SP_STAGE_CGROUP, own);
}

/* If a missing controller is required, the error names it. If not, sp_cgroups_enforced() leaves it out. */
static void a_controller_may_be_missing(enum call call, int err) {
    begin_tree();
    sp_sandbox_options options = all_limits;
    sp_error error = {0};
    refuse(call, "cgroup.subtree_control", err);
    struct sp_cgroups *c = sp_cgroups_open(&options, &error);
    CHECK(c != NULL && sp_cgroups_enforced(c) == 0);
    end(c);
    refuse(call, "cgroup.subtree_control", err);
    options.cgroup_required = SP_CGROUP_CPU;
    CHECK(sp_cgroups_open(&options, &error) == NULL);
    CHECK(error.code == SP_E_CREATE && error.stage == SP_STAGE_CGROUP && error.err == EOPNOTSUPP);
    CHECK(strcmp(error.detail, "cpu") == 0);
    end_tree();
}

static void a_missing_controller_is_reported(void) {
    a_controller_may_be_missing(OPENAT, EACCES);
    a_controller_may_be_missing(WRITE, EBUSY);
    a_controller_may_be_missing(READ, EIO);
}

static void only_whole_words_are_found(void) {
    CHECK(sp_cgroup_has_word("cpuset cpu", "cpu") && sp_cgroup_has_word("io\ncpu\n", "cpu") &&
          sp_cgroup_has_word("cpu", "cpu"));
    CHECK(!sp_cgroup_has_word("cpuset", "cpu") && !sp_cgroup_has_word("xcpu", "cpu") &&
          !sp_cgroup_has_word("", "cpu") && !sp_cgroup_has_word("cpu1", "cpu"));
}

/* ---- the directory of one sandbox ---- */

static void taking_fails(enum call call, const char *name, int err, const char *read_back) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    int fd = -1;
    refuse(call, name, err);
    answer = read_back;
    CHECK(sp_cgroup_take(c, &fd) == (read_back != NULL ? -EPROTO : -err) && fd == -1);
    CHECK(call == OPENAT && ends_with(name, "s1") ? exists("s1") : !exists("s1"));
    refuse(NO_CALL, "", 0);
    CHECK(!sp_cgroups_tend(c) && !exists("s1"));
    end(c);
    end_tree();
}

static void a_sandbox_fails_when_one_of_its_limits_is_refused(void) {
    static const char *const files[] = {"memory.max", "memory.oom.group", "memory.swap.max", "pids.max", "cpu.max"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        taking_fails(OPENAT, files[i], EACCES, NULL);
        taking_fails(WRITE, files[i], EINVAL, NULL);
        taking_fails(READ, files[i], EIO, NULL);
    }
    taking_fails(MKDIR, "s1", EAGAIN, NULL);
    taking_fails(OPENAT, "s1", EMFILE, NULL);
}

/* The kernel may have rounded a limit, or a cgroup above allows less. Another value than the wanted one is an error. */
static void a_limit_that_is_read_back_differently_is_refused(void) {
    taking_fails(NO_CALL, "memory.max", 0, "1044480");
    taking_fails(NO_CALL, "memory.max", 0, "10485760"); /* it begins with the wanted value */
    taking_fails(NO_CALL, "memory.oom.group", 0, "0");
    taking_fails(NO_CALL, "memory.swap.max", 0, "max");
    taking_fails(NO_CALL, "pids.max", 0, "max");
    taking_fails(NO_CALL, "cpu.max", 0, "max 60000");
}

/* If "nobody" is not mapped, or root may not change owners, the zygote has the id of this process. */
static void a_zygote_that_keeps_its_id_needs_no_files(void) {
    static const int refusals[] = {EINVAL, EPERM};
    for (int i = 0; i < 2; i++) {
        begin_tree();
        as_user = 0;
        refuse(CHOWN, "cgroup.procs", refusals[i]);
        struct sp_cgroups *c = open_all();
        int fd = -1;
        CHECK(sp_cgroup_take(c, &fd) == 1 && close(fd) == 0);
        end(c);
        end_tree();
    }
}

static void a_short_write_is_a_failure(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    int fd = -1;
    refuse(SHORT_WRITE, "memory.max", 0); /* errno is 0 */
    CHECK(sp_cgroup_take(c, &fd) == -EIO && fd == -1 && !exists("s1"));
    end(c);
    end_tree();
}

/* The kernel refuses a number above its largest pid. */
static void a_limit_that_no_process_can_reach_is_written_as_max(void) {
    static const uint64_t limits[] = {4194303, 4194304, UINT32_MAX};
    static const char *const written[] = {"4194304\n", "max\n", "max\n"};
    for (int i = 0; i < 3; i++) {
        begin_tree();
        sp_sandbox_options options = all_limits;
        options.max_processes = limits[i];
        sp_error error = {0};
        struct sp_cgroups *c = sp_cgroups_open(&options, &error);
        int fd = -1;
        CHECK(c != NULL && sp_cgroup_take(c, &fd) == 1 && says("s1/pids.max", written[i]));
        (void)close(fd);
        end(c);
        end_tree();
    }
}

static void a_kernel_without_swap_is_accepted(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    int fd = -1;
    refuse(OPENAT, "memory.swap.max", ENOENT);
    CHECK(sp_cgroup_take(c, &fd) == 1 && says("s1/pids.max", "8\n"));
    (void)close(fd);
    end(c);
    end_tree();
}

static void processes_and_usage_are_read(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    struct sp_usage usage;
    char dir[128];
    int fd = -1;
    CHECK(sp_cgroup_take(c, &fd) == 1);
    (void)snprintf(dir, sizeof dir, "%s/s1", own);
    put(dir, "cgroup.procs", "12\n345\n");
    CHECK(sp_cgroup_contains(c, 1, 12) && sp_cgroup_contains(c, 1, 345) && !sp_cgroup_contains(c, 1, 34));
    CHECK(!sp_cgroup_contains(c, 2, 12));
    put(dir, "cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\n");
    put(dir, "memory.peak", "4096\n");
    put(dir, "memory.events", "low 0\noom 3\noom_kill 2\n");
    CHECK(sp_cgroup_usage(c, 1, &usage) == 0);
    CHECK(usage.user_us == 4 && usage.system_us == 3 && usage.peak_bytes == 4096 && usage.oom_kills == 2);
    refuse(OPENAT, "memory.peak", ENOENT); /* before Linux 5.19 */
    put(dir, "memory.events", "low 0\n");
    CHECK(sp_cgroup_usage(c, 1, &usage) == 0 && usage.peak_bytes == 0 && usage.oom_kills == 0);
    put(dir, "memory.max", "8192\n");
    put(dir, "memory.events", "low 0\noom 3\noom_kill 2\n"); /* the limit was reached */
    CHECK(sp_cgroup_usage(c, 1, &usage) == 0 && usage.peak_bytes == 8192 && usage.oom_kills == 2);
    refuse(READ, "memory.events", EIO);
    CHECK(sp_cgroup_usage(c, 1, &usage) == -EIO);
    refuse(READ, "cpu.stat", ENODEV); /* the directory was removed */
    CHECK(sp_cgroup_usage(c, 1, &usage) == -ENODEV && usage.user_us == 0);
    refuse(NO_CALL, "", 0);
    c->enforced = 0;
    put(dir, "memory.peak", "4096\n");
    CHECK(sp_cgroup_usage(c, 1, &usage) == 0 && usage.peak_bytes == 0);
    (void)close(fd);
    end(c);
    end_tree();
}

/* ---- tending ---- */

static struct sp_cgroups *tended;

static void tend_once_more(void) { (void)sp_cgroups_tend(tended); }

static unsigned count_directories(void) {
    unsigned n = 0;
    char name[32];
    for (unsigned i = 1; i < 400; i++) {
        (void)snprintf(name, sizeof name, "s%u", i);
        n += exists(name);
    }
    return n;
}

static void one_thread_or_two_fill_the_stash(void) {
    begin_tree();
    struct sp_cgroups *c = tended = open_all();
    int fds[SP_CGROUP_STASH + 1];
    refuse(MKDIR, "s1", EAGAIN);
    CHECK(!sp_cgroups_tend(c) && count_directories() == 0);
    refuse(NO_CALL, "", 0);
    CHECK(!sp_cgroups_tend(c) && count_directories() == SP_CGROUP_STASH);
    CHECK(sp_cgroup_take(c, &fds[0]) == 9 && count_directories() == SP_CGROUP_STASH);
    (void)close(fds[0]);
    on_mkdir = tend_once_more; /* another thread fills the stash meanwhile */
    CHECK(!sp_cgroups_tend(c) && c->n_stash == SP_CGROUP_STASH && c->n_dying == 0 &&
          count_directories() == SP_CGROUP_STASH + 1);
    for (unsigned i = 0; i < SP_CGROUP_STASH + 1; i++) { /* the stash is empty for the last one, which is created now */
        CHECK(sp_cgroup_take(c, &fds[i]) > 0);
        (void)close(fds[i]);
    }
    end(c);
    end_tree();
}

static void busy_directories_are_removed_later(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    int fd = -1;
    for (unsigned i = 0; i < 100; i++) {
        int64_t number = sp_cgroup_take(c, &fd);
        CHECK(number > 0 && close(fd) == 0);
        sp_cgroup_discard(c, (uint32_t)number);
    }
    c->n_stash = SP_CGROUP_STASH; /* so that no directory is created in advance */
    refuse(RMDIR, "", EBUSY);
    CHECK(sp_cgroups_tend(c) && c->n_dying == 100);
    refuse(RMDIR, "s7", EBUSY);
    CHECK(sp_cgroups_tend(c) && c->n_dying == 1 && exists("s7"));
    refuse(RMDIR, "s7", EPERM); /* not EBUSY: only close() tries again */
    CHECK(!sp_cgroups_tend(c) && c->n_dying == 0);
    end(c);
    end_tree();
}

/* Many directories stay busy. Those that are empty are removed all the same. */
static void directories_that_stay_busy_do_not_delay_others(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    int fd = -1;
    for (unsigned i = 0; i < 700; i++) {
        int64_t number = sp_cgroup_take(c, &fd);
        CHECK(number > 0 && close(fd) == 0);
        sp_cgroup_discard(c, (uint32_t)number);
    }
    c->n_stash = SP_CGROUP_STASH; /* so that no directory is created in advance */
    refuse(RMDIR, "7", EBUSY);
    CHECK(sp_cgroups_tend(c) && c->n_dying == 70 && !exists("s1") && exists("s7") && exists("s697"));
    refuse(NO_CALL, "", 0);
    CHECK(!sp_cgroups_tend(c) && c->n_dying == 0 && !exists("s7"));
    end(c);
    end_tree();
}

/* ---- the end ---- */

/* What is left after a close, the next start of a host removes. */
static void remove_the_rest(void) {
    char path[128];
    refuse(NO_CALL, "", 0);
    (void)snprintf(path, sizeof path, "%s/zygote", own);
    CHECK(kernel_rmdir(path) == 0 && kernel_rmdir(own) == 0);
    end_tree();
}

static void closing_leaves_the_zygotes(enum call call, const char *name, int err, int64_t wait) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    const int64_t start = sp_now();
    refuse(call, name, err);
    sp_cgroups_close(c, start + wait);
    CHECK(sp_now() - start >= wait && exists("zygote"));
    refuse(NO_CALL, "", 0);
    sp_cgroups_close(c, INT64_MAX); /* it is closed already */
    CHECK(exists("zygote"));
    sp_cgroups_free(c);
    remove_the_rest();
}

static void a_close_gives_up_at_its_deadline(void) {
    closing_leaves_the_zygotes(RMDIR, "zygote", EBUSY, 20 * MS);
    closing_leaves_the_zygotes(OPENAT, ".", EMFILE, 0);
    closing_leaves_the_zygotes(LIST, "", ENOMEM, 0);
}

/* One of two directories is busy, whichever comes first. */
static void a_close_removes_what_is_not_busy(void) {
    static const char *const names[] = {"zygote", "s1"};
    for (int busy = 0; busy < 2; busy++) {
        char path[128];
        begin_tree();
        struct sp_cgroups *c = open_all();
        int fd = -1;
        CHECK(sp_cgroup_take(c, &fd) == 1 && close(fd) == 0);
        refuse(RMDIR, names[busy], EBUSY);
        sp_cgroups_close(c, sp_now());
        CHECK(exists("zygote") == (busy == 0) && exists("s1") == (busy == 1));
        sp_cgroups_free(c);
        refuse(NO_CALL, "", 0);
        (void)snprintf(path, sizeof path, "%s/%s", own, names[busy]);
        CHECK(kernel_rmdir(path) == 0 && kernel_rmdir(own) == 0);
        end_tree();
    }
}

static void nothing_is_created_after_close(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    struct sp_usage usage;
    int fd = -1;
    refuse(RMDIR, "zygote", ENOENT); /* the sweep of another host has removed it first */
    sp_cgroups_close(c, INT64_MAX);
    CHECK(sp_cgroup_take(c, &fd) == -ESHUTDOWN && !sp_cgroups_tend(c));
    CHECK(sp_cgroups_add_zygote(c, 1) == -ESHUTDOWN && sp_cgroup_usage(c, 1, &usage) == -ESHUTDOWN);
    CHECK(!sp_cgroup_contains(c, 1, 1));
    sp_cgroup_kill(c, 1);
    CHECK(killed == 1); /* by the close */
    sp_cgroups_free(c);
    sp_cgroups_free(NULL);
    remove_the_rest();
}

/* Other code of this process has closed it, and opened a file with its number. */
static void a_lost_descriptor_is_not_used(void) {
    begin_tree();
    struct sp_cgroups *c = open_all();
    int fd = -1;
    c->closed = true; /* the close has begun */
    CHECK(sp_cgroup_take(c, &fd) == -ESHUTDOWN);
    c->closed = false;
    const int number = c->dir;
    const int kept = dup(number);
    CHECK(dup2(0, number) == number && sp_cgroup_take(c, &fd) == -EBADF && fd == -1);
    CHECK(dup2(kept, number) == number && close(kept) == 0);
    end(c);
    end_tree();
}

/* A lease of a closed pool keeps this structure, and must not keep a descriptor. */
static void a_closed_one_keeps_no_descriptor(void) {
    begin_tree();
    const unsigned before = count_fds();
    struct sp_cgroups *c = open_all();
    CHECK(count_fds() == before + 1);
    sp_cgroups_close(c, 0);
    CHECK(count_fds() == before && c->dir == -1);
    sp_cgroups_free(c);
    end_tree();
}

int main(void) {
    check_deadline(60);
    RUN(directories_are_created_with_their_limits);
    RUN(the_zygote_of_root_gets_its_files);
    RUN(an_open_fails_when_one_of_its_calls_fails);
    RUN(a_missing_controller_is_reported);
    RUN(only_whole_words_are_found);
    RUN(a_sandbox_fails_when_one_of_its_limits_is_refused);
    RUN(a_limit_that_is_read_back_differently_is_refused);
    RUN(a_zygote_that_keeps_its_id_needs_no_files);
    RUN(a_short_write_is_a_failure);
    RUN(a_limit_that_no_process_can_reach_is_written_as_max);
    RUN(a_kernel_without_swap_is_accepted);
    RUN(processes_and_usage_are_read);
    RUN(one_thread_or_two_fill_the_stash);
    RUN(busy_directories_are_removed_later);
    RUN(directories_that_stay_busy_do_not_delay_others);
    RUN(a_lost_descriptor_is_not_used);
    RUN(a_close_gives_up_at_its_deadline);
    RUN(a_close_removes_what_is_not_busy);
    RUN(nothing_is_created_after_close);
    RUN(a_closed_one_keeps_no_descriptor);
    return check_report();
}
