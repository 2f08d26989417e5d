/* sources: csrc/zygote/copy.c csrc/init/files.c csrc/init/mount_flags.c csrc/init/lines.c
 * csrc/init/proc.c csrc/common/mountinfo_linux.c csrc/common/text.c csrc/common/fd.c csrc/common/wire.c */
/* What is copied from the host, what is left out, and what is reported when a call is refused. */
#include <limits.h>
#include <sys/stat.h>

#include "check.h"
#include "common/stage.h"
#include "init/plan.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"
#include "zygote/zygote.h"

#define BIG ((off_t)9 << 20)
#define MANY 2100 /* more entries than a copy may have */

#define sp_next_name next_name
#include "zygote/listing.c" /* NOLINT(bugprone-suspicious-include): what it finds is changed */
#undef sp_next_name

static bool hides_types; /* as file systems do that tell no types in their listings */

const char *sp_next_name(int dir, struct sp_listing *list) {
    const char *name = next_name(dir, list);
    list->type = hides_types ? DT_UNKNOWN : list->type;
    return name;
}

/* Of the system view; see view.c. */
bool sp_zygote_shows(const char *path) { return sp_path_is_below(path, "/usr"); }

static void make(const char *path, off_t size, mode_t mode) {
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd != -1 && ftruncate(fd, size) == 0 && fchmod(fd, mode) == 0);
    (void)close(fd);
}

static void make_dirs(void) {
    static const char *const dirs[] = {
        "old",     "new",      "old/etc", "old/etc/d",     "old/etc/d/sub", "old/opt",       "old/opt/big",
        "old/usr", "old/proc", "old/srv", "old/etc/d/fpm", "old/opt/empty", "old/srv/whole", "old/etc/closed"};
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        CHECK(mkdir(dirs[i], 0755) == 0);
    }
    CHECK(chmod("old/etc/closed", 0700) == 0);
}

static void make_files(void) {
    make("old/etc/plain", 100, 0644);
    make("old/etc/pattern-1", 1, 0644);
    make("old/etc/pattern-2", 2, 0644);
    make("old/etc/secret", 1, 0600);
    make("old/etc/big", BIG, 0644);
    make("old/etc/d/file", 5000, 0644);
    make("old/etc/d/sub/file", 1, 0644);
    make("old/etc/d/fpm/password", 1, 0644);
    make("old/opt/big/file", BIG, 0644);
    make("old/opt/large", BIG, 0644);
    make("old/srv/elsewhere", 7, 0644);
    make("old/srv/whole/file", 7, 0644);
    make("old/usr/program", 1, 0755);
    CHECK(mkfifo("old/etc/fifo", 0644) == 0 && mkfifo("old/srv/fifo", 0644) == 0);
}

static void make_links(void) {
    CHECK(symlink("file", "old/etc/d/inside") == 0);
    CHECK(symlink("../../usr/program", "old/etc/d/program") == 0);
    CHECK(symlink("/srv/../usr/program", "old/etc/d/detour") == 0);
    CHECK(symlink("/srv/elsewhere", "old/etc/d/outside") == 0);
    CHECK(symlink("/srv/whole", "old/etc/d/directory") == 0);
    CHECK(symlink("/srv/fifo", "old/etc/d/fifo") == 0);
    CHECK(symlink("/proc/self/status", "old/etc/d/process") == 0);
    CHECK(symlink("/nowhere", "old/etc/d/dangling") == 0);
    CHECK(symlink("/opt/large", "old/opt/link") == 0);
}

/* Its root is a tmpfs with a host in /old and a template in /new. */
static void make_host(void) {
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755") == 0 && chdir("/tmp") == 0);
    umask(0);
    make_dirs();
    make_files();
    make_links();
    CHECK(mount("/proc", "old/proc", NULL, MS_BIND | MS_REC, NULL) == 0 && chroot("/tmp") == 0 && chdir("/") == 0);
    (void)dup2(open("/old/proc", O_PATH | O_DIRECTORY), SP_PROC_FD);
}

static bool is_there(const char *path, off_t size) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == size;
}

static bool leads_to(const char *path, const char *text) {
    char found[PATH_MAX] = "";
    return readlink(path, found, sizeof found - 1) != -1 && strcmp(found, text) == 0;
}

static bool is_missing(const char *path) {
    struct stat st;
    return lstat(path, &st) == -1 && errno == ENOENT;
}

/* ---- what is copied ---- */

static struct sp_rec_failed why;

static int copy_all(void) {
    static const char *const paths[] = {"/etc/none",   "/etc/plain", "/etc/pattern-*", "/etc/secret", "/etc/fifo",
                                        "/etc/closed", "/etc/d",     "/etc/big",       "/none/none",  "/opt/big",
                                        "/opt/large",  "/opt/link",  "/srv/whole",     "/opt/empty",  "/opt/empty"};
    return sp_zygote_copy(paths, sizeof paths / sizeof paths[0], &why);
}

static void everything(void) {
    make_host();
    CHECK(copy_all() == 0);
    CHECK(is_there("/new/etc/plain", 100) && is_there("/new/etc/pattern-1", 1) && is_there("/new/etc/pattern-2", 2));
    CHECK(is_there("/new/etc/d/file", 5000) && is_there("/new/etc/d/sub/file", 1));
    CHECK(leads_to("/new/etc/d/inside", "file") && leads_to("/new/etc/d/program", "../../usr/program"));
    CHECK(leads_to("/new/etc/d/detour", "/usr/program"));
    CHECK(is_there("/new/etc/d/outside", 7)); /* followed: a sandbox has no /srv */
    CHECK(is_there("/new/srv/whole/file", 7));
    CHECK(is_there("/new/opt/big/file", BIG) && is_there("/new/opt/large", BIG)); /* mounted */
    CHECK(unlink("/new/opt/large") == -1 && errno == EBUSY);
}

static void the_rest(void) {
    static const char *const missing[] = {"/new/etc/none",   "/new/etc/secret",     "/new/etc/fifo",
                                          "/new/etc/closed", "/new/etc/d/fpm",      "/new/etc/d/directory",
                                          "/new/etc/d/fifo", "/new/etc/d/dangling", "/new/etc/d/process",
                                          "/new/etc/big",    "/new/opt/link"};
    make_host();
    CHECK(copy_all() == 0);
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        CHECK(is_missing(missing[i]));
    }
}

static void both_ways(void (*test)(void)) {
    for (int hidden = 0; hidden < 2; hidden++) {
        hides_types = hidden == 1;
        CHECK(in_child(test, 20) == 0);
    }
    hides_types = false;
}

static void what_programs_need_is_copied_or_mounted(void) { both_ways(everything); }
static void what_nobody_may_see_is_left_out(void) { both_ways(the_rest); }

/* ---- trees that are too large ---- */

static void make_deep(void) {
    make_host();
    CHECK(mkdir("/old/opt/deep", 0755) == 0 && chdir("/old/opt/deep") == 0);
    for (int i = 0; i < 20; i++) {
        CHECK(mkdir("d", 0755) == 0 && chdir("d") == 0);
    }
    make("file", 1, 0644);
    CHECK(chdir("/") == 0);
}

static void copy_deep(void) {
    static const char *const paths[] = {"/opt/deep"};
    make_deep();
    CHECK(sp_zygote_copy(paths, 1, &why) == 0);
    CHECK(is_there("/new/opt/deep/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/file", 1));
}

static void copy_many(void) {
    static const char *const paths[] = {"/opt/many"};
    char name[64];
    make_host();
    CHECK(mkdir("/old/opt/many", 0755) == 0);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof name, "/old/opt/many/%d", i);
        make(name, 1, 0644);
    }
    CHECK(sp_zygote_copy(paths, 1, &why) == 0);
    CHECK(is_there("/new/opt/many/0", 1) && is_there("/new/opt/many/2099", 1));
}

static void what_is_too_deep_or_too_many_is_mounted(void) {
    CHECK(in_child(copy_deep, 20) == 0 && in_child(copy_many, 60) == 0);
}

static void copy_long(void) {
    static char path[200];
    const char *const paths[] = {path};
    make_host();
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 3] = '/';
    CHECK(sp_zygote_copy(paths, 1, &why) == -ENAMETOOLONG && why.err == ENAMETOOLONG && why.stage == SP_STAGE_ROOT);
}

static void a_path_that_does_not_fit_is_reported(void) {
    char text[4];
    CHECK(in_child(copy_long, 20) == 0);
    CHECK(sp_append(text, text + sizeof text, "abc") == text + 3 &&
          sp_append(text, text + sizeof text, "abcd") == NULL);
    CHECK(sp_append(NULL, text, "") == NULL && sp_append_number(text, text + sizeof text, 1234) == NULL);
}

/* ---- calls that are refused ---- */

static int copy_and_check(void) {
    int rc = copy_all();
    CHECK(rc == 0 || (why.err == (uint32_t)-rc && why.stage == SP_STAGE_ROOT && why.detail[0] == '/'));
    return rc;
}

struct refusal {
    long call;
    bool fatal; /* the copy fails, at least where some of these calls are refused */
};

static const struct refusal refusals[] = {
    {SYS_openat, true},     {SYS_openat2, false},  {SYS_mkdirat, true},       {SYS_sendfile, true},
    {SYS_utimensat, true},  {SYS_symlinkat, true}, {SYS_readlinkat, false},   {SYS_lseek, true},
    {SYS_newfstatat, true}, {SYS_mount, true},     {SYS_mount_setattr, true},
};

static void every_refused_call_is_reported_or_leaves_something_out(void) {
    const struct sweep sweep = {.prepare = make_host, .act = copy_and_check, .err = ENOMEM};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        CHECK((count_fatal(&sweep, refusals[i].call) != 0) == refusals[i].fatal);
    }
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(200);
    RUN_WITHOUT(lack, what_programs_need_is_copied_or_mounted);
    RUN_WITHOUT(lack, what_nobody_may_see_is_left_out);
    RUN_WITHOUT(lack, what_is_too_deep_or_too_many_is_mounted);
    RUN_WITHOUT(lack, a_path_that_does_not_fit_is_reported);
    RUN_WITHOUT(lack, every_refused_call_is_reported_or_leaves_something_out);
    return check_report();
}
