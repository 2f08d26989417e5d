/* sources: csrc/init/landlock.c csrc/common/fd.c */
/*
 * Landlock on this machine's kernel. Each attack runs in a child: first without the ruleset, where it must work because
 * the file modes allow it; then with the ruleset, at the kernel's ABI and at each older one.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "check.h"
#include "init/landlock.h"
#include "nth.h"
#include "refused.h"

#define NOT_APPLIED 255
#define NO_LANDLOCK UINT32_MAX /* for abi_max of try(): the control, without a ruleset */
#define NEWEST (UINT32_MAX - 1)

static char top[64], closed[PATH_MAX], writable[PATH_MAX], writable_file[PATH_MAX];
static int abi; /* of this kernel, or the newest that sp_landlock_restrict() knows */
static struct sockaddr_un door = {.sun_family = AF_UNIX};
static socklen_t door_len;
static struct sockaddr_in listener = {.sin_family = AF_INET};

typedef int attack_t(void);

static int result(long rc) { return rc == -1 ? errno : 0; }

static int within(const char *dir, const char *name, int (*act)(const char *path)) {
    char path[PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return act(path);
}

static int write_to(const char *path) {
    int fd = open(path, O_WRONLY);
    return fd == -1 ? errno : result(write(fd, "x", 1));
}
static int create(const char *path) {
    int rc = result(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
    (void)unlink(path);
    return rc;
}
static int make_dir(const char *path) {
    int rc = result(mkdir(path, 0700));
    (void)rmdir(path);
    return rc;
}
static int cut(const char *path) { return result(truncate(path, 0)); }
static int read_from(const char *path) { return result(open(path, O_RDONLY)); }

static int write_closed(void) { return within(closed, "file", write_to); }
static int read_closed(void) { return within(closed, "file", read_from); }
static int create_closed(void) { return within(closed, "new", create); }
static int make_closed(void) { return within(closed, "dir", make_dir); }
static int cut_closed(void) { return within(closed, "file", cut); }
static int write_open(void) { return within(writable, "file", write_to); }
static int create_open(void) { return within(writable, "new", create); }
static int make_open(void) { return within(writable, "dir", make_dir); }
static int cut_open(void) { return within(writable, "file", cut); }
static int write_single(void) { return write_to(writable_file); }

static int move(const char *from, const char *to) {
    char a[PATH_MAX + 64], b[PATH_MAX + 64];
    (void)snprintf(a, sizeof a, "%s/moving", from);
    (void)snprintf(b, sizeof b, "%s/moved", to);
    (void)close(open(a, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    int rc = result(rename(a, b));
    (void)unlink(a);
    (void)unlink(b);
    return rc;
}

static int move_inside(void) {
    char below[PATH_MAX + 8];
    (void)snprintf(below, sizeof below, "%s/below", writable);
    return move(writable, below);
}

static int move_out(void) { return move(writable, closed); }

/* A device answers ENOTTY, but Landlock refuses the call before the device sees it. */
static int device_ioctl(void) {
    struct termios t;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd != -1 && ioctl(fd, TCGETS, &t) == -1 && errno == ENOTTY ? 0 : errno;
}

static int knock(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return result(connect(fd, (struct sockaddr *)&door, door_len));
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return result(connect(fd, (struct sockaddr *)&listener, sizeof listener));
}

static int serve(void) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return result(bind(fd, (struct sockaddr *)&any, sizeof any));
}

static int signal_outside(void) { return result(kill(getppid(), 0)); }

/* As init kills its tenant: both processes are in one Landlock domain. */
static int kill_own_child(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        (void)pause();
    }
    int rc = result(kill(child, SIGKILL));
    return rc != 0 ? rc : waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL ? 0 : ECHILD;
}

/* Runs the attack in a child that is confined up to abi_max. 0 if the attack worked, else its errno. */
static int try(attack_t *attack, uint32_t abi_max) {
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        const struct sp_landlock_rule rules[] = {{"/", false, false, NULL, NULL},
                                                 {writable, true, false, NULL, NULL},
                                                 {writable_file, true, false, NULL, NULL},
                                                 {"/dev/zero", true, false, NULL, NULL}};
        const char *failed;
        uint32_t wanted = abi_max == NEWEST || abi_max > (uint32_t)abi ? (uint32_t)abi : abi_max;
        if (abi_max != NO_LANDLOCK && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                                       sp_landlock_restrict(rules, 4, abi_max, true, &failed) != (int)wanted)) {
            _exit(NOT_APPLIED);
        }
        _exit(attack());
    }
    int status = 0;
    CHECK(pid != -1 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static const struct {
    const char *name;
    attack_t *attack;
    uint32_t since; /* with this ABI and newer ones the attack fails with err */
    int err;
    int before; /* the result with older ABIs */
} cases[] = {
    {"write to a read-only file", write_closed, 1, EACCES, 0},
    {"create in a read-only directory", create_closed, 1, EACCES, 0},
    {"mkdir in a read-only directory", make_closed, 1, EACCES, 0},
    {"read a read-only file", read_closed, UINT32_MAX, 0, 0},
    {"write to a writable file", write_open, UINT32_MAX, 0, 0},
    {"create in a writable directory", create_open, UINT32_MAX, 0, 0},
    {"mkdir in a writable directory", make_open, UINT32_MAX, 0, 0},
    {"truncate a writable file", cut_open, UINT32_MAX, 0, 0},
    {"write to a file that is a rule of its own", write_single, UINT32_MAX, 0, 0},
    {"rename out of a writable directory", move_out, 1, EACCES, 0},
    {"rename between writable directories", move_inside, 2, 0, EXDEV},
    {"truncate a read-only file", cut_closed, 3, EACCES, 0},
    {"connect by TCP", dial, 4, EACCES, 0},
    {"bind a TCP port", serve, 4, EACCES, 0},
    {"ioctl of a read-only device", device_ioctl, 5, EACCES, 0},
    {"connect to an abstract socket outside", knock, 6, EPERM, 0},
    {"signal a process outside", signal_outside, 6, EPERM, 0},
    {"kill a child of one's own", kill_own_child, UINT32_MAX, 0, 0},
};

static void test_attacks(void) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int control = try(cases[i].attack, NO_LANDLOCK);
        CHECK(control == 0);
        for (uint32_t level = 1; level <= (uint32_t)abi; level++) {
            int want = level >= cases[i].since ? cases[i].err : cases[i].before;
            int got = try(cases[i].attack, level);
            /* ABI 1 has no right for moves, and the kernel refuses each move between directories with EXDEV. */
            bool same = got == want || (level == 1 && cases[i].attack == move_out && got == EXDEV);
            if (!same) {
                printf("%s: %d without, %d at ABI %u, expected %d\n", cases[i].name, control, got, level, want);
            }
            CHECK(same);
        }
    }
}

static int apply_nothing(void) { return within(closed, "file", write_to); }

static void test_levels(void) {
    CHECK(try(apply_nothing, 0) == 0); /* forced off: reported as 0, and nothing is enforced */
    CHECK(try(write_closed, NEWEST) == EACCES);
    CHECK(try(write_closed, 1000) == EACCES);
}

static int err_of_question;

static void ask_in_vain(void) {
    const int wanted = err_of_question == ENOSYS || err_of_question == EOPNOTSUPP ? 0 : -err_of_question;
    refuse(SYS_landlock_create_ruleset, err_of_question);
    CHECK(sp_landlock_abi(NEWEST) == wanted);
}

/* A kernel without Landlock, one where it is off, and a filter around this process. */
static void test_question(void) {
    static const int errors[] = {ENOSYS, EOPNOTSUPP, EPERM};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        err_of_question = errors[i];
        CHECK(in_child(ask_in_vain, 10) == 0);
    }
}

static void test_errors(void) {
    const struct sp_landlock_rule missing[] = {{"/", false, false, NULL, NULL},
                                               {"/nonexistent/for/sure", true, false, NULL, NULL}};
    const char *failed = NULL;
    CHECK(sp_landlock_restrict(missing, 2, NEWEST, false, &failed) == -ENOENT);
    CHECK(failed == missing[1].path);
    CHECK(write_closed() == 0); /* after an error the process is not confined */
    if (geteuid() != 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0) {
        CHECK(sp_landlock_restrict(missing, 1, NEWEST, false, &failed) == -EPERM);
    }
}

/* ---- calls that are refused ---- */

static int refuse_path(int path, const struct sp_landlock_rule *rule) {
    return path >= 0 && rule->writable ? -EXDEV : 0;
}

static void nothing(void) { (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

static int restrict_all(void) {
    char below[PATH_MAX + 64];
    (void)snprintf(below, sizeof below, "%s/below", writable);
    const struct sp_landlock_rule rules[] = {
        {"/", false, false, NULL, NULL}, {writable, true, false, NULL, NULL}, {below, true, false, writable, NULL}};
    const char *failed = NULL;
    int rc = sp_landlock_restrict(rules, 3, NEWEST, false, &failed);
    CHECK(rc >= 0 || failed != NULL);
    return rc > 0 ? 0 : rc == 0 ? -EPROTO : rc;
}

static void test_refused_calls(void) {
    static const long calls[] = {SYS_openat, SYS_openat2, SYS_newfstatat, 444, 445, 446};
    const struct sweep sweep = {.prepare = nothing, .act = restrict_all, .err = ENOMEM, .other = {EOPNOTSUPP}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
}

/* A rule that is passed over if its path is missing or closed, and for no other reason. */
static int missing_by;

static int pass_over(void) {
    const struct sp_landlock_rule rule = {writable, true, true, NULL, NULL};
    const char *failed = NULL;
    refuse_nth(SYS_openat, missing_by, 1);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return -sp_landlock_restrict(&rule, 1, NEWEST, false, &failed);
}

static void pass_over_or_not(void) { CHECK(pass_over() == (missing_by == ENOMEM ? ENOMEM : -abi)); }

static void test_dispensable_rules(void) {
    static const int errors[] = {ENOENT, EACCES, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        missing_by = errors[i];
        CHECK(in_child(pass_over_or_not, 10) == 0);
    }
    const struct sp_landlock_rule refused = {writable, true, false, NULL, refuse_path};
    const char *failed = NULL;
    CHECK(sp_landlock_restrict(&refused, 1, NEWEST, false, &failed) == -EXDEV && failed == writable);
    CHECK(sp_landlock_scope(0) == -EOPNOTSUPP && sp_landlock_scope(1) == -EOPNOTSUPP);
}

/* Every descriptor that was opened meanwhile is closed. */
static int leaves_descriptors(void) {
    const struct sp_landlock_rule rules[] = {{"/", false, false, NULL, NULL}, {writable, true, false, NULL, NULL}};
    const char *failed;
    int before = dup(0);
    (void)close(before);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (sp_landlock_restrict(rules, 2, NEWEST, true, &failed) != abi) {
        return EPROTO;
    }
    return dup(0) == before ? 0 : EMFILE;
}

static void test_descriptors(void) { CHECK(try(leaves_descriptors, NO_LANDLOCK) == 0); }

static void make_file(const char *dir, const char *name) {
    char path[PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd != -1 && write(fd, "content", 7) == 7);
    (void)close(fd);
}

static void prepare(void) {
    (void)snprintf(top, sizeof top, "/tmp/sandpool-landlock-XXXXXX");
    CHECK(mkdtemp(top) != NULL);
    (void)snprintf(closed, sizeof closed, "%s/closed", top);
    (void)snprintf(writable, sizeof writable, "%s/writable", top);
    (void)snprintf(writable_file, sizeof writable_file, "%s/single", top);
    CHECK(mkdir(closed, 0700) == 0 && mkdir(writable, 0700) == 0);
    make_file(closed, "file");
    make_file(writable, "file");
    make_file(top, "single");
    CHECK(within(writable, "below", make_dir) == 0);
    char below[PATH_MAX + 64];
    (void)snprintf(below, sizeof below, "%s/below", writable);
    CHECK(mkdir(below, 0700) == 0);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int len = snprintf(door.sun_path + 1, sizeof door.sun_path - 1, "sandpool-test-%d", (int)getpid());
    door_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    CHECK(bind(fd, (struct sockaddr *)&door, door_len) == 0 && listen(fd, 128) == 0);
    socklen_t size = sizeof listener;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listener.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)&listener, size) == 0 && listen(fd, 128) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&listener, &size) == 0);
}

static void clean_up(void) {
    static const char *const files[] = {"closed/file", "writable/file", "single", NULL};
    static const char *const dirs[] = {"closed", "writable/below", "writable", ".", NULL};
    for (int i = 0; files[i] != NULL; i++) {
        (void)within(top, files[i], unlink);
    }
    for (int i = 0; dirs[i] != NULL; i++) {
        (void)within(top, dirs[i], rmdir);
    }
    (void)rmdir(top);
}

int main(void) {
    check_deadline(120);
    long of_kernel = syscall(444, NULL, 0, 1);
    if (of_kernel < 1) {
        printf("skipped: this kernel has no Landlock (%s)\n", strerror(errno));
        return 0;
    }
    abi = of_kernel < 7 ? (int)of_kernel : 7;
    printf("ABI %ld, tested up to %d\n", of_kernel, abi);
    prepare();
    RUN(test_attacks);
    RUN(test_levels);
    RUN(test_question);
    RUN(test_errors);
    RUN(test_descriptors);
    RUN(test_refused_calls);
    RUN(test_dispensable_rules);
    clean_up();
    return check_report();
}
