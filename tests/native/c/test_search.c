/* sources: csrc/zygote/search.c csrc/zygote/listing.c csrc/init/mount_flags.c csrc/init/lines.c csrc/init/proc.c
 * csrc/common/tree_linux.c csrc/common/idmap_linux.c csrc/common/vfork_linux.c csrc/common/wire.c csrc/common/clock.c
 * csrc/common/fd.c csrc/common/fd_linux.c csrc/common/mountinfo_linux.c csrc/common/text.c csrc/init/files.c */
/* The search for files that give rights covers all of them, and says so where it cannot. */
#include <limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "check.h"
#include "init/plan.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"
#include "zygote/binds.h"

#define TOP "/tmp/top"
#define DEEP 70 /* deeper than the search goes */

static struct sp_search search;

static void make(const char *path, mode_t mode) {
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd != -1 && fchmod(fd, mode) == 0);
    (void)close(fd);
}

static void prepare(void) {
    enter_own_mounts();
    umask(0);
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755") == 0 && mkdir(TOP, 0755) == 0);
    CHECK(mkdir(TOP "/a", 0755) == 0 && mkdir(TOP "/a/b", 0755) == 0 && mkdir(TOP "/skipped", 0755) == 0);
    make(TOP "/plain", 0755);
    make(TOP "/setuid", 04755);
    make(TOP "/a/setgid", 02755);
    make(TOP "/a/b/setuid", 04711);
    make(TOP "/skipped/setuid", 04755);
    CHECK(mkfifo(TOP "/fifo", 06777) == 0 && symlink("setuid", TOP "/link") == 0);
    CHECK(mount(TOP, TOP, NULL, MS_BIND, NULL) == 0);
    (void)dup2(open("/proc", O_PATH | O_DIRECTORY), SP_PROC_FD);
}

static bool is_covered(const char *path) { return access(path, W_OK) == -1 && errno == EROFS; }

static int skip(const char *path) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    int rc = sp_search_skip(&search, fd);
    (void)close(fd);
    return rc;
}

static int run_on(const char *path) {
    int root = open(path, O_PATH | O_CLOEXEC);
    int rc = sp_search_and_cover(&search, root);
    (void)close(root);
    return rc;
}

/* ---- what is found ---- */

static void find_all(void) {
    prepare();
    CHECK(skip(TOP "/skipped") == 0 && run_on(TOP) == 0);
    CHECK(is_covered(TOP "/setuid") && is_covered(TOP "/a/setgid") && is_covered(TOP "/a/b/setuid"));
    CHECK(!is_covered(TOP "/plain") && !is_covered(TOP "/skipped/setuid") && !is_covered(TOP "/fifo"));
}

/* A file with capabilities needs an owner with CAP_SETFCAP in the initial namespace or in this one. */
static void find_capabilities(void) {
    static const unsigned char cap_net_raw[20] = {0x01, 0, 0, 2, 0, 0x20};
    prepare();
    make(TOP "/capable", 0755);
    make(TOP "/noted", 0755);
    CHECK(setxattr(TOP "/capable", "security.capability", cap_net_raw, sizeof cap_net_raw, 0) == 0);
    CHECK(run_on(TOP) == 0 && is_covered(TOP "/capable") && !is_covered(TOP "/noted"));
}

static void find_unreadable_attributes(void) {
    prepare();
    refuse(SYS_llistxattr, EPERM);
    refuse(SYS_lgetxattr, EPERM);
    CHECK(run_on(TOP) == 0 && is_covered(TOP "/plain")); /* nobody knows that it has none */
}

static int no_attribute; /* each of these says that there is none */

static void find_no_attributes(void) {
    prepare();
    refuse(SYS_llistxattr, EPERM);
    refuse(SYS_lgetxattr, no_attribute);
    CHECK(run_on(TOP) == 0 && !is_covered(TOP "/plain") && is_covered(TOP "/setuid"));
}

static void what_gives_rights_is_covered(void) {
    CHECK(in_child(find_all, 10) == 0 && in_child(find_capabilities, 10) == 0);
    CHECK(in_child(find_unreadable_attributes, 10) == 0);
    static const int errors[] = {ENODATA, ENOTSUP, ENOENT, ENOTDIR, ELOOP};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        no_attribute = errors[i];
        CHECK(in_child(find_no_attributes, 10) == 0);
    }
}

/* ---- trees that are deep, large, or not of files ---- */

static void make_deep(int levels) {
    prepare();
    CHECK(chdir(TOP) == 0);
    for (int i = 0; i < levels; i++) {
        CHECK(mkdir("d", 0755) == 0 && chdir("d") == 0);
    }
    make("setuid", 04755);
}

static void cover_what_is_deep(void) {
    char path[PATH_MAX] = TOP;
    make_deep(DEEP);
    for (int i = 0; i < DEEP; i++) {
        (void)strcat(path, "/d");
    }
    (void)strcat(path, "/setuid");
    CHECK(run_on(TOP) == 0 && is_covered(path) && !is_covered(TOP "/d"));
}

static void give_up_where_it_is_deep(void) {
    make_deep(10);
    search.is_short = true;
    CHECK(run_on(TOP) == -EOVERFLOW);
}

static void give_up_where_it_is_large(void) {
    char name[64];
    prepare();
    for (int i = 0; i < 1010; i++) {
        (void)snprintf(name, sizeof name, TOP "/%d", i);
        make(name, 0644);
    }
    search.is_short = true;
    CHECK(run_on(TOP) == -EOVERFLOW);
    search = (struct sp_search){.entries = 4000000};
    CHECK(run_on(TOP) == -E2BIG);
}

static void pass_over_processes(void) {
    prepare();
    CHECK(mkdir(TOP "/proc", 0755) == 0 && mount("/proc", TOP "/proc", NULL, MS_BIND | MS_REC, NULL) == 0);
    CHECK(run_on(TOP) == 0 && search.entries < 20);
}

static void a_deep_or_large_tree_is_covered_or_reported(void) {
    CHECK(in_child(cover_what_is_deep, 10) == 0 && in_child(give_up_where_it_is_deep, 10) == 0);
    CHECK(in_child(give_up_where_it_is_large, 10) == 0 && in_child(pass_over_processes, 10) == 0);
}

static void search_files(void) {
    prepare();
    CHECK(run_on(TOP "/plain") == 0 && run_on(TOP "/setuid") == -EPERM && run_on(TOP "/a/setgid") == -EPERM);
    CHECK(run_on(TOP "/fifo") == 0);
}

static void skip_too_many(void) {
    prepare();
    for (int i = 0; i < SP_SEARCH_SKIPS; i++) {
        CHECK(skip(TOP) == 0);
    }
    CHECK(skip(TOP) == -E2BIG);
}

static void skip_nothing(void) {
    CHECK(sp_search_skip(&search, -1) == -EBADF && sp_search_and_cover(&search, -1) == -EBADF);
}

static void a_bind_that_is_a_file_must_give_no_rights(void) { CHECK(in_child(search_files, 10) == 0); }
static void only_so_many_are_left_out(void) {
    CHECK(in_child(skip_too_many, 10) == 0 && in_child(skip_nothing, 10) == 0);
}

/* ---- what changes under the search, and what is closed ---- */

/* A directory with nothing but one directory, in which there is one file. The n-th call is counted from here. */
static int search_one(long call, int err, unsigned n) {
    prepare();
    CHECK(mkdir(TOP "/one", 0755) == 0 && mkdir(TOP "/one/only", 0755) == 0);
    make(TOP "/one/only/setuid", 04755);
    refuse_nth(call, err, n);
    unsigned fds = count_low_fds();
    int rc = run_on(TOP "/one");
    CHECK(count_low_fds() == fds);
    return rc;
}

static void a_name_is_gone(void) {
    CHECK(search_one(SYS_newfstatat, ENOENT, 2) == 0 && !is_covered(TOP "/one/only/setuid"));
}

static void a_directory_is_gone(void) {
    CHECK(search_one(SYS_openat, ENOENT, 3) == 0 && !is_covered(TOP "/one/only/setuid"));
}

static void a_file_is_gone(void) {
    CHECK(search_one(SYS_openat, ENOENT, 4) == 0 && !is_covered(TOP "/one/only/setuid"));
}

static void a_directory_is_closed(void) {
    CHECK(search_one(SYS_openat, EACCES, 3) == 0 && is_covered(TOP "/one/only") && is_covered(TOP "/one/only/setuid"));
}

static void a_directory_is_no_directory(void) { CHECK(search_one(SYS_openat, ENOTDIR, 3) == 0); }
static void a_directory_is_a_link(void) { CHECK(search_one(SYS_openat, ELOOP, 3) == 0); }

static void the_top_is_closed(void) {
    prepare();
    refuse_nth(SYS_getdents64, EACCES, 1);
    CHECK(run_on(TOP) == -EACCES);
}

static void what_changes_meanwhile_is_covered_if_it_is_there(void) {
    CHECK(in_child(a_name_is_gone, 10) == 0 && in_child(a_directory_is_gone, 10) == 0);
    CHECK(in_child(a_file_is_gone, 10) == 0 && in_child(a_directory_is_closed, 10) == 0);
    CHECK(in_child(a_directory_is_no_directory, 10) == 0 && in_child(a_directory_is_a_link, 10) == 0);
    CHECK(in_child(the_top_is_closed, 10) == 0);
}

/* ---- calls that are refused ---- */

static int search_and_check(void) {
    int rc = sp_search_and_cover(&search, 9);
    CHECK(rc != 0 || (is_covered(TOP "/setuid") && is_covered(TOP "/a/setgid") && is_covered(TOP "/a/b/setuid")));
    return rc;
}

static void prepare_top(void) {
    prepare();
    (void)dup2(open(TOP, O_PATH | O_CLOEXEC), 9);
}

static void prepare_file(void) {
    prepare();
    (void)dup2(open(TOP "/plain", O_PATH | O_CLOEXEC), 9);
}

static int search_file(void) { return sp_search_and_cover(&search, 9); }

static void each_refused_call_covers_more_or_is_reported(void) {
    static const long calls[] = {SYS_openat, SYS_newfstatat, SYS_fchdir,     SYS_getdents64,
                                 SYS_chdir,  SYS_open_tree,  SYS_move_mount, SYS_mount_setattr};
    const struct sweep sweep = {.prepare = prepare_top, .act = search_and_check, .err = ENOMEM, .other = {EACCES}};
    const struct sweep file = {.prepare = prepare_file, .act = search_file, .err = ENOMEM};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
    CHECK(count_fatal(&file, SYS_newfstatat) == 1 && count_fatal(&file, SYS_openat) == 1);
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(200);
    RUN_WITHOUT(lack, what_gives_rights_is_covered);
    RUN_WITHOUT(lack, a_deep_or_large_tree_is_covered_or_reported);
    RUN_WITHOUT(lack, a_bind_that_is_a_file_must_give_no_rights);
    RUN_WITHOUT(lack, only_so_many_are_left_out);
    RUN_WITHOUT(lack, what_changes_meanwhile_is_covered_if_it_is_there);
    RUN_WITHOUT(lack, each_refused_call_covers_more_or_is_reported);
    return check_report();
}
