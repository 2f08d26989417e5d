/* sources: csrc/host/linux/paths.c csrc/host/linux/mounts.c csrc/host/sys/own.c csrc/host/sandbox/error.c
 * csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/clock.c csrc/common/text.c
 * csrc/common/mountinfo_linux.c */
/* Looks at the paths of a configuration: what changes them, what does not, and what cannot be seen. */
#include "host/linux/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "common/stage.h"
#include "host/linux/mounts.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"

#define DIR "/tmp/looked-at"

static struct sp_paths *paths;
static struct sp_look *look;
static sp_error error;

static void make(const char *rootfs, const sp_bind *binds, uint32_t n) {
    const sp_sandbox_options options = {.rootfs = rootfs, .binds = binds, .n_binds = n};
    CHECK(sp_paths_make(&options, &paths) == 0);
    look = paths != NULL ? sp_look_new(paths) : NULL;
}

static void drop(void) {
    sp_paths_free(paths);
    free(look);
}

static uint64_t look_once(void) { return sp_paths_look(paths, look, &error); }

static void make_directories(void) {
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0 && mkdir(DIR, 0755) == 0 && mkdir(DIR "/below", 0755) == 0);
}

/* ---- the list ---- */

static void nothing_is_looked_at_without_paths(void) {
    make(NULL, NULL, 0);
    CHECK(paths == NULL);
    drop();
}

static void a_bind_in_a_writable_one_is_looked_at_where_nobody_can_rename_it(void) {
    static const sp_bind binds[] = {
        {.path = "/a", .source = "/a", .flags = SP_BIND_WRITABLE},
        {.path = "/a/b", .source = "/a/b", .flags = SP_BIND_COVER}, /* in no list */
        {.path = "/a/direct", .source = "/a/direct"},
        {.path = "/a/direct/in", .source = "/a/direct/in"}, /* in one that is read-only */
        {.path = "/a/x/deep", .source = "/a/x/deep"},
        {.path = "/elsewhere", .source = "/a/moved"},
        {.path = "/scratch", .source = "/scratch", .flags = SP_BIND_SCRATCH}, /* in no list */
    };
    make("/root", binds, sizeof binds / sizeof binds[0]);
    CHECK(paths->n == 5 && strcmp(paths->rootfs, "/root") == 0);
    static const bool listed[] = {true, true, true, false, false};
    static const int64_t parents[] = {-1, 0, 1, 0, -1};
    static const int64_t within[] = {-1, 0, 1, 0, 0};
    for (uint32_t i = 0; i < paths->n; i++) {
        CHECK(paths->paths[i].listed == listed[i] && paths->paths[i].parent == parents[i]);
        CHECK(paths->paths[i].within == within[i]);
    }
    CHECK(paths->paths[4].index == 5);
    drop();
}

/* ---- looks ---- */

static const sp_bind one[] = {{.path = DIR, .source = DIR}};

static void a_path_that_leads_elsewhere_changes_the_look(void) {
    make_directories();
    make(DIR, one, 1);
    const uint64_t first = look_once();
    CHECK(first != 0 && look_once() == first && look->total == first && look->rootfs != 0);
    CHECK(sp_paths_look(paths, NULL, &error) == first);
    CHECK(rename(DIR, "/tmp/away") == 0 && mkdir(DIR, 0755) == 0 && look_once() != first && look_once() != 0);
    CHECK(rmdir(DIR) == 0 && look_once() == 0);
    CHECK(error.stage == SP_STAGE_BIND && error.err == ENOENT && strcmp(error.detail, DIR) == 0);
    CHECK(rename("/tmp/away", DIR) == 0 && look_once() == first);
    drop();
}

static void what_is_missing_is_named(void) {
    make_directories();
    make("/tmp/none", NULL, 0);
    CHECK(look_once() == 0 && error.stage == SP_STAGE_ROOTFS && error.err == ENOENT);
    drop();
    static const sp_bind below_a_file[] = {{.path = "/x", .source = "/proc/self/stat/x"}};
    make(NULL, below_a_file, 1);
    CHECK(look_once() == 0 && error.stage == SP_STAGE_BIND && error.err == ENOTDIR);
    drop();
}

/* The zygote decides whether it can be bound. */
static void a_path_that_nobody_may_look_at_is_as_it_was(void) {
    make_directories();
    make(NULL, one, 1);
    const uint64_t first = look_once();
    refuse(SYS_statx, EACCES);
    const uint64_t refused = look_once();
    CHECK(first != 0 && refused != 0 && refused != first && look_once() == refused);
    drop();
}

static void a_path_is_looked_at(void) {
    CHECK(in_child(a_path_that_leads_elsewhere_changes_the_look, 20) == 0);
    CHECK(in_child(what_is_missing_is_named, 20) == 0);
    CHECK(in_child(a_path_that_nobody_may_look_at_is_as_it_was, 20) == 0);
}

/* ---- mounts ---- */

static void mount_below(void) { CHECK(mount("tmpfs", DIR "/below", "tmpfs", 0, NULL) == 0); }

static void mounts_that_come_and_go(void) {
    make_directories();
    make(NULL, one, 1);
    const uint64_t first = look_once();
    mount_below();
    const uint64_t mounted = look_once();
    CHECK(mounted != first && look_once() == mounted);
    CHECK(umount(DIR "/below") == 0 && look_once() == first);
    CHECK(mkdir("/tmp/elsewhere", 0755) == 0 && mount("tmpfs", "/tmp/elsewhere", "tmpfs", 0, NULL) == 0);
    CHECK(look_once() == first);
    drop();
}

/* As with several hundred containers: the text outgrows what is allocated first. */
static void many_mounts(void) {
    char name[64];
    make_directories();
    make(NULL, one, 1);
    const uint64_t first = look_once();
    for (int i = 0; i < 400; i++) {
        (void)snprintf(name, sizeof name, "/tmp/%040d", i);
        CHECK(mkdir(name, 0755) == 0 && mount(name, name, NULL, MS_BIND, NULL) == 0);
    }
    CHECK(look_once() == first);
    mount_below(); /* its line is the last one */
    CHECK(look_once() != first);
    drop();
}

static void another_file_has_its_number(void) {
    make_directories();
    make(NULL, one, 1);
    const uint64_t first = look_once();
    const int foreign = paths->mounts->fd;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(dup2(null, foreign) == foreign);
    mount_below();
    CHECK(look_once() != first && paths->mounts->fd != foreign);
    drop();
    CHECK(fcntl(foreign, F_GETFD) != -1);
}

static void a_look_without_the_file(void) {
    make_directories();
    make(NULL, one, 1);
    refuse(SYS_openat, EMFILE);
    const uint64_t first = look_once();
    CHECK(first != 0 && paths->mounts->fd == -1);
    mount_below();
    CHECK(look_once() == first);
    drop();
}

/* The kernel reports a change once, and the look that it is reported to fails: the next one sees the change. */
static void a_look_that_fails_is_made_again(long call) {
    make_directories();
    make(NULL, one, 1);
    const uint64_t first = look_once();
    mount_below();
    refuse_nth(call, EIO, 1);
    CHECK(look_once() == first && paths->mounts->fd == -1);
    CHECK(look_once() != first);
    drop();
}

static void a_failed_read(void) { a_look_that_fails_is_made_again(SYS_read); }

static void a_failed_seek(void) { a_look_that_fails_is_made_again(SYS_lseek); }

static void mounts_below_a_path_change_the_look(void) {
    CHECK(in_child(mounts_that_come_and_go, 20) == 0);
    CHECK(in_child(many_mounts, 20) == 0);
    CHECK(in_child(another_file_has_its_number, 20) == 0);
}

static void mounts_that_cannot_be_read_are_as_they_were(void) {
    CHECK(in_child(a_look_without_the_file, 20) == 0);
    CHECK(in_child(a_failed_read, 20) == 0);
    CHECK(in_child(a_failed_seek, 20) == 0);
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(60);
    RUN(nothing_is_looked_at_without_paths);
    RUN(a_bind_in_a_writable_one_is_looked_at_where_nobody_can_rename_it);
    RUN_WITHOUT(lack, a_path_is_looked_at);
    RUN_WITHOUT(lack, mounts_below_a_path_change_the_look);
    RUN_WITHOUT(lack, mounts_that_cannot_be_read_are_as_they_were);
    return check_report();
}
