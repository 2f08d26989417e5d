/* sources: csrc/init/supervise.c csrc/init/supervise_call_linux.c csrc/init/supervise_change.c
 * csrc/init/supervise_filter.c csrc/init/supervise_find.c csrc/init/supervise_signal.c csrc/common/fd.c
 * csrc/common/text.c */
/* What the supervisor answers where a call of its own is refused, or says what it never should. Here the test itself is
 * the supervisor and the tenant: the parts are called, and not by way of a filter. */
#include <sys/stat.h>

#include "init/supervise.h"
#include "init/supervise_call.h"
#include "init/supervise_filter.h"
#include "nth.h"
#include "refused.h"

static char top[] = "/tmp/sandpool-supervise-XXXXXX";
static struct sp_places places;
static int task = -1;
static struct sp_call call;

static int open_dir(const char *path) { return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC); }

static void prepare(void) {
    places.proc = open_dir("/proc");
    task = openat(places.proc, "self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    places.n = 0;
    CHECK(chdir(top) == 0 && sp_places_add(&places, open_dir(top), top) == 0 && places.n == 1);
    const int file = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(file != -1 && task != -1);
    (void)close(file);
}

/* ---- the file of a call ---- */

static int find(void) {
    int found = sp_places_find(&places, task, &call);
    int rc = found < 0 ? found : 0;
    (void)(found >= 0 ? close(found) : 0);
    return rc;
}

static void prepare_path(void) {
    prepare();
    call = (struct sp_call){.dir = AT_FDCWD, .path = "file", .follow = true};
}

static void prepare_dir(void) {
    prepare();
    call = (struct sp_call){.dir = open_dir("."), .path = "file", .follow = true};
}

static void prepare_fd(void) {
    prepare();
    call = (struct sp_call){.dir = open("file", O_RDONLY | O_CLOEXEC), .is_file = true};
}

static void prepare_place(void) {
    prepare();
    call = (struct sp_call){.dir = AT_FDCWD, .follow = true};
    (void)snprintf(call.path, sizeof call.path, "%s/", top);
}

static void each_refused_call_is_answered(void) {
    const struct sweep path = {.prepare = prepare_path, .act = find, .err = EPERM};
    const struct sweep dir = {.prepare = prepare_dir, .act = find, .err = EPERM};
    const struct sweep fd = {.prepare = prepare_fd, .act = find, .err = EPERM};
    const struct sweep gone = {.prepare = prepare_fd, .act = find, .err = ENOENT, .other = {EBADF, EPERM}};
    const struct sweep path_gone = {.prepare = prepare_path, .act = find, .err = ENOENT, .other = {EPERM}};
    const struct sweep dir_gone = {.prepare = prepare_dir, .act = find, .err = ENOENT, .other = {EBADF}};
    const struct sweep place = {.prepare = prepare_place, .act = find, .err = EMFILE};
    CHECK(count_fatal(&path, SYS_readlinkat) == 1 && count_fatal(&path, SYS_openat2) == 1);
    CHECK(count_fatal(&dir, SYS_readlinkat) == 1 && count_fatal(&dir, SYS_openat2) == 1);
    CHECK(count_fatal(&fd, SYS_openat) == 1 && count_fatal(&fd, SYS_readlinkat) == 1);
    CHECK(count_fatal(&fd, SYS_newfstatat) == 1 && count_fatal(&fd, SYS_openat2) == 0); /* it tries again */
    CHECK(count_fatal(&gone, SYS_openat) == 1 && count_fatal(&place, SYS_openat) == 1);
    CHECK(count_fatal(&path_gone, SYS_readlinkat) == 1 && count_fatal(&dir_gone, SYS_readlinkat) == 1);
}

static void without_walks(void) {
    prepare_fd();
    refuse(SYS_openat2, EACCES);
    CHECK(find() == -EPERM);
}

/* As if all names on the machine were changed all the time. */
static void with_renames_without_end(void) {
    prepare_path();
    refuse(SYS_openat2, EAGAIN);
    CHECK(find() == -EAGAIN);
}

static void without_descriptors(void) {
    prepare_place();
    call.path[strlen(call.path) - 1] = '\0';
    CHECK(find() == 0);
    refuse(SYS_fcntl, EMFILE);
    CHECK(find() == -EMFILE);
}

/* The kernel's name of the directory leaves no room for the end of the text. */
static void in_a_deep_directory(void) {
    char name[NAME_MAX + 1];
    char where[PATH_MAX];
    prepare_path();
    size_t left = PATH_MAX - 1 - strlen(top);
    memset(name, 'x', sizeof name - 1);
    while (left > 0) { /* a slash and a name */
        size_t len = left - 1 > 200 ? (left - 201 == 1 ? 199 : 200) : left - 1;
        name[len] = '\0';
        CHECK(mkdir(name, 0700) == 0 && chdir(name) == 0);
        name[len] = 'x';
        left -= len + 1;
    }
    CHECK(readlinkat(task, "cwd", where, sizeof where) == PATH_MAX - 1);
    CHECK(find() == -EPERM);
    while (chdir("..") == 0 && getcwd(where, sizeof where) != NULL && strcmp(where, top) != 0) {
        memset(name, 'x', sizeof name - 1);
        for (size_t len = 200; len > 0 && rmdir(name) != 0; len--) {
            name[len] = '\0';
        }
    }
    for (size_t len = 200; len > 0; len--) {
        name[len] = '\0';
        (void)rmdir(name);
    }
}

static void a_file_that_cannot_be_found_is_not_changed(void) {
    CHECK(in_child(without_walks, 10) == 0 && in_child(with_renames_without_end, 10) == 0);
    CHECK(in_child(without_descriptors, 10) == 0 && in_child(in_a_deep_directory, 10) == 0);
}

/* ---- places ---- */

static int add_place(void) {
    const unsigned n = places.n;
    int rc = sp_places_add(&places, 3, "/elsewhere");
    CHECK(rc == 0 ? places.n == n + 2 : places.n == n);
    return rc;
}

static void more_than_there_is_room_for(void) {
    prepare();
    CHECK(sp_places_add(&places, -1, top) == -EBADF && add_place() == 0);
    CHECK(strcmp(places.at[2].name, "/elsewhere") == 0 && places.at[1].name[0] == '/');
    int rc = 0;
    while ((rc = sp_places_add(&places, 3, "/elsewhere")) == 0) {
    }
    CHECK(rc == -ENOSPC && places.n == sizeof places.at / sizeof places.at[0] - 1);
}

static void what_is_no_place_is_told(void) {
    const struct sweep sweep = {.prepare = prepare, .act = add_place, .err = EACCES};
    CHECK(count_fatal(&sweep, SYS_readlinkat) == 1);
    CHECK(in_child(more_than_there_is_room_for, 10) == 0);
}

/* ---- the change ---- */

static int perform(const char *name, mode_t mode) {
    call = (struct sp_call){.change = SP_CHANGE_MODE, .mode = mode};
    int file = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int rc = sp_call_perform(&call, file, places.proc);
    (void)close(file);
    return rc;
}

static void what_gets_no_mode(void) {
    prepare();
    CHECK(symlink("file", "link") == 0 && perform("link", 0600) == -EOPNOTSUPP && unlink("link") == 0);
    CHECK(perform("file", 0640) == 0 && perform("/dev/null", 0666) == -EPERM);
    CHECK(perform("file", S_ISUID | 0700) == -EPERM && perform("file", S_ISGID | 0700) == -EPERM);
    refuse(SYS_newfstatat, EACCES);
    CHECK(perform("file", 0600) == -EPERM);
}

static int read_call(int nr, uint64_t a, uint64_t b, uint64_t c) {
    const struct seccomp_data data = {.nr = nr, .args = {a, b, c}};
    return sp_call_read(&data, task, &call);
}

static void what_names_no_file(void) {
    prepare();
    CHECK(read_call(SYS_fchmod, (uint64_t)-1, 0600, 0) == -EBADF);
    CHECK(read_call(SYS_utimensat, (uint64_t)AT_FDCWD, 0, 0) == -EFAULT);
    CHECK(read_call(SYS_utimensat, (uint64_t)-5, 0, 0) == -EBADF);
    refuse(SYS_openat, EACCES);
    CHECK(read_call(SYS_fchmodat, (uint64_t)AT_FDCWD, (uintptr_t)top, 0600) == -EPERM);
}

static void what_is_no_change_is_answered(void) {
    CHECK(in_child(what_gets_no_mode, 10) == 0 && in_child(what_names_no_file, 10) == 0);
}

/* ---- signals ---- */

static int signal_by(int nr, uint64_t a, uint64_t b, uint64_t c) {
    const struct seccomp_data data = {.nr = nr, .args = {a, b, c}};
    return sp_call_signal(&places, getpid(), task, &data);
}

static void signals(void) {
    siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_QUEUE};
    int status = 0;
    prepare();
    CHECK(setpgid(0, 0) == 0);
    pid_t other = fork();
    if (other == 0) {
        (void)alarm(10);
        (void)pause();
        _exit(0);
    }
    CHECK(signal_by(SYS_kill, (uint64_t)other, 0, 0) == 0 && signal_by(SYS_kill, (uint64_t)INT_MIN, 0, 0) == -EPERM);
    CHECK(signal_by(SYS_kill, (uint64_t)-1, 0, 0) == -EPERM && signal_by(SYS_kill, 1, 0, 0) == -EPERM);
    CHECK(signal_by(SYS_kill, (uint64_t)-getpid(), 0, 0) == SP_CALL_CONTINUE);
    CHECK(signal_by(SYS_kill, (uint64_t)-other, 0, 0) == 0 && signal_by(SYS_kill, (uint64_t)other, 65, 0) == -EINVAL);
    CHECK(signal_by(SYS_rt_sigqueueinfo, (uint64_t)other, SIGINT, (uintptr_t)&info) == -EPERM);
    CHECK(signal_by(SYS_rt_sigqueueinfo, (uint64_t)other, SIGTERM, 16) == -EFAULT);
    CHECK(signal_by(SYS_rt_sigqueueinfo, (uint64_t)other, SIGTERM, UINT64_MAX) == -EFAULT);
    info.si_code = SI_KERNEL; /* only the kernel says so */
    CHECK(signal_by(SYS_rt_sigqueueinfo, (uint64_t)other, SIGTERM, (uintptr_t)&info) == -EPERM);
    info.si_code = SI_TKILL;
    CHECK(signal_by(SYS_rt_sigqueueinfo, (uint64_t)other, SIGTERM, (uintptr_t)&info) == -EPERM);
    info.si_code = SI_QUEUE;
    CHECK(signal_by(SYS_rt_sigqueueinfo, (uint64_t)other, SIGTERM, (uintptr_t)&info) == 0);
    CHECK(waitpid(other, &status, 0) == other && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    CHECK(signal_by(SYS_kill, (uint64_t)other, 0, 0) == -ESRCH);
}

static void without_a_look_at_memory(void) {
    prepare();
    refuse(SYS_openat, EMFILE);
    CHECK(signal_by(SYS_rt_sigqueueinfo, 1, SIGTERM, 16) == -EPERM);
}

/* The number is that of a thread. */
static void without_a_process(void) {
    prepare();
    refuse(SYS_pidfd_open, EINVAL);
    CHECK(signal_by(SYS_kill, 1, 0, 0) == -EPERM);
}

static void a_signal_that_cannot_be_judged_is_not_sent(void) {
    CHECK(in_child(signals, 10) == 0 && in_child(without_a_look_at_memory, 10) == 0);
    CHECK(in_child(without_a_process, 10) == 0);
}

/* ---- the thread ---- */

static int start(void) {
    const struct sp_supervised own = {3, top};
    return sp_supervise_start(&own, 1);
}

static void without_sizes(void) {
    prepare();
    refuse(SYS_seccomp, EACCES);
    CHECK(start() == -EACCES);
}

static void each_refused_call_of_the_start_is_reported(void) {
    static const long calls[] = {SYS_openat, SYS_readlinkat};
    const struct sweep sweep = {.prepare = prepare, .act = start, .err = EMFILE, .keeps = 1};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) == 1);
    }
    CHECK(in_child(without_sizes, 10) == 0);
}

static void with_calls_that_cannot_be_received(void) {
    struct stat tasks;
    prepare();
    refuse(SYS_ioctl, EFAULT);
    CHECK(start() == 0 && sp_supervise_listen(false) == 0);
    CHECK(chmod("file", 0600) == -1 && errno == ENOSYS);
    while (stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 3) { /* the thread ends */
        sleep_ns(MS);
    }
}

/* Of a caller that was killed before its call was received: the next call may be received. */
static void with_callers_that_are_gone(void) {
    prepare();
    refuse(SYS_ioctl, ENOENT);
    CHECK(start() == 0 && sp_supervise_listen(false) == 0);
    sleep_ns(50 * MS);
}

static void no_call_waits_for_a_supervisor_that_has_ended(void) {
    /* The end of a thread takes more calls there than the filter of the supervisor allows. */
    CHECK(UNDER_ASAN || in_child(with_calls_that_cannot_be_received, 10) == 0);
    CHECK(in_child(with_callers_that_are_gone, 10) == 0);
}

int main(void) {
    check_deadline(100);
    if (mkdtemp(top) == NULL) {
        return EXIT_FAILURE;
    }
    RUN(each_refused_call_is_answered);
    RUN(a_file_that_cannot_be_found_is_not_changed);
    RUN(what_is_no_place_is_told);
    RUN(what_is_no_change_is_answered);
    RUN(a_signal_that_cannot_be_judged_is_not_sent);
    RUN(each_refused_call_of_the_start_is_reported);
    RUN(no_call_waits_for_a_supervisor_that_has_ended);
    char file[64];
    (void)snprintf(file, sizeof file, "%s/file", top);
    CHECK(unlink(file) == 0 && rmdir(top) == 0);
    return check_report();
}
