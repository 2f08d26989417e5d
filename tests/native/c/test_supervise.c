/* sources: csrc/init/landlock.c csrc/init/supervise.c csrc/init/supervise_call_linux.c csrc/init/supervise_change.c
 * csrc/init/supervise_filter.c csrc/init/supervise_find.c csrc/init/supervise_signal.c csrc/common/fd.c
 * csrc/common/text.c */
/*
 * What the supervisor does for a tenant, what it answers otherwise, and what it refuses. Each attack runs first where
 * only Landlock holds, where it must work; then with the supervisor.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

#include "supervised.h"

#define NR_FCHMODAT2 452

static struct stat now_of(const char *name) {
    struct stat st = {0};
    CHECK(lstat(at(name), &st) == 0);
    return st;
}

static mode_t mode_of(const char *name) { return now_of(name).st_mode & 07777; }

/* ---- calls that work ---- */

static int sum_of(const int *results, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++) {
        bad += results[i] != 0;
        if (results[i] != 0) {
            (void)fprintf(stderr, "call %d: %s\n", i, strerror(results[i]));
        }
    }
    return bad;
}

static int change_modes(void) {
    int dir = open(".", O_PATH);
    int fd = open("c", O_RDWR);
    int sub = open("sub", O_PATH);
    char by_fd[64];
    (void)snprintf(by_fd, sizeof by_fd, "/proc/self/fd/%d", open("by-fd", O_PATH));
    const int results[] = {
        result(syscall(SYS_fchmodat, AT_FDCWD, "a", 0701)),
        result(chmod(at("lease/b"), 0702)),
        result(fchmod(fd, 0703)),
        result(fchmodat(dir, "d", 0704, 0)),
        result(syscall(NR_FCHMODAT2, sub, "../e", 0705, 0)),
        result(syscall(NR_FCHMODAT2, open("f", O_RDONLY), "", 0706, AT_EMPTY_PATH)),
        result(chmod("./sub/../link", 0707)),
        result(chmod(by_fd, 0710)),
        result(chmod("fifo", 0711)),
        result(chmod("sub", 0712)),
        result(chmod(".", 0700)),
        result(chmod(at(LEASE), 0700)),
        result(chmod(at("bind/g"), 0713)),
        result(chmod(at("single"), 0714)),
        result(chmod("sub/", 0712)),
    };
    return sum_of(results, sizeof results / sizeof results[0]);
}

static void make_files(void) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "by-fd", "target"};
    char name[64];
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(name, sizeof name, "lease/%s", names[i]);
        make_file(name, 0600);
    }
    make_file("bind/g", 0600);
    (void)mkdir(at("lease/sub"), 0700);
    (void)mkfifo(at("lease/fifo"), 0600);
    (void)symlink("target", at("lease/link"));
    (void)symlink(at(VICTIM), at("lease/out"));
    (void)symlink("../host", at("lease/up"));
    (void)symlink("loop", at("lease/loop"));
}

static void test_modes(void) {
    make_files();
    CHECK(as_tenant(SETTING_SUPERVISED, change_modes) == 0);
    CHECK(mode_of("lease/a") == 0701);
    CHECK(mode_of("lease/b") == 0702);
    CHECK(mode_of("lease/c") == 0703);
    CHECK(mode_of("lease/d") == 0704);
    CHECK(mode_of("lease/e") == 0705);
    CHECK(mode_of("lease/f") == 0706);
    CHECK(mode_of("lease/target") == 0707);
    CHECK(mode_of("lease/by-fd") == 0710);
    CHECK(mode_of("lease/fifo") == 0711);
    CHECK(mode_of("lease/sub") == 0712);
    CHECK(mode_of("bind/g") == 0713);
    CHECK(mode_of("single") == 0714);
}

static int change_times(void) {
    const struct timespec nano[2] = {{.tv_sec = 11, .tv_nsec = 5}, {.tv_sec = 12, .tv_nsec = 6}};
    const struct timespec part[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 13}};
    const struct timeval micro[2] = {{.tv_sec = 21, .tv_usec = 7}, {.tv_sec = 22, .tv_usec = 8}};
    int dir = open(".", O_PATH);
    const int results[] = {
        result(utimensat(AT_FDCWD, "a", nano, 0)),
        result(utimensat(AT_FDCWD, "link", nano, AT_SYMLINK_NOFOLLOW)),
        result(utimensat(AT_FDCWD, "b", part, 0)),
        result(futimens(open("c", O_RDWR), nano)),
        result(futimens(open("f", O_RDWR), NULL)),
#ifdef SYS_utimes
        result(syscall(SYS_utimes, "d", micro)),
        result(syscall(SYS_futimesat, dir, "e", micro)),
        result(syscall(SYS_futimesat, open("by-fd", O_RDWR), NULL, micro)),
        result(syscall(SYS_utime, "sub", &(struct utimbuf){31, 32})),
        result(syscall(SYS_utime, at("bind/g"), NULL)),
#else
        result(utimes("d", micro)),
        result(futimesat(dir, "e", micro)),
#endif
    };
    return sum_of(results, sizeof results / sizeof results[0]);
}

static void test_times(void) {
    make_files();
    const time_t before = time(NULL);
    const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    CHECK(utimensat(AT_FDCWD, at("lease/b"), old, 0) == 0);
    CHECK(utimensat(AT_FDCWD, at("lease/f"), old, 0) == 0);
    CHECK(utimensat(AT_FDCWD, at("bind/g"), old, 0) == 0);
    CHECK(as_tenant(SETTING_SUPERVISED, change_times) == 0);
    CHECK(now_of("lease/a").st_atim.tv_sec == 11 && now_of("lease/a").st_mtim.tv_nsec == 6);
    CHECK(now_of("lease/link").st_mtime == 12 && now_of("lease/target").st_mtime != 12);
    CHECK(now_of("lease/b").st_atime == 1 && now_of("lease/b").st_mtime == 13);
    CHECK(now_of("lease/c").st_mtime == 12);
    CHECK(now_of("lease/d").st_mtim.tv_sec == 22 && now_of("lease/d").st_mtim.tv_nsec == 8000);
    CHECK(now_of("lease/e").st_atim.tv_sec == 21);
    CHECK(now_of("lease/f").st_mtime >= before - 1);
#ifdef SYS_utimes
    CHECK(now_of("lease/by-fd").st_mtime == 22);
    CHECK(now_of("lease/sub").st_mtime == 32);
    CHECK(now_of("bind/g").st_mtime >= before - 1);
#endif
}

static int change_owners(void) {
    const uid_t uid = getuid();
    const gid_t gid = getgid();
    const int results[] = {
        result(chown("a", uid, gid)),
        result(chown("a", (uid_t)-1, gid)),
        result(lchown("out", uid, (gid_t)-1)),
        result(fchown(open("c", O_RDONLY), uid, gid)),
        result(fchownat(open(".", O_PATH), "d", uid, gid, AT_SYMLINK_NOFOLLOW)),
        result(fchownat(AT_FDCWD, "", (uid_t)-1, gid, AT_EMPTY_PATH)),
        chown("a", uid + 1, gid) == -1 && errno == EPERM ? 0 : EINVAL,
        chown("a", uid, gid + 1) == -1 && errno == EPERM ? 0 : EINVAL,
        chown("a", 0, 0) == -1 && errno == EPERM ? 0 : EINVAL,
    };
    return sum_of(results, sizeof results / sizeof results[0]);
}

static void test_owners(void) {
    make_files();
    CHECK(as_tenant(SETTING_SUPERVISED, change_owners) == 0);
    CHECK(is_untouched());
}

/* A file without a name has none outside either. */
static int change_unnamed(void) {
    int fd = open("gone", O_RDWR | O_CREAT | O_EXCL, 0600);
    struct stat st;
    if (unlink("gone") != 0 || fchmod(fd, 0640) != 0 || fstat(fd, &st) != 0) {
        return errno;
    }
    if ((st.st_mode & 07777) != 0640) {
        return EINVAL;
    }
    int renamed = open("before", O_RDWR | O_CREAT, 0600);
    return rename("before", "after") == 0 && fchmod(renamed, 0604) == 0 ? 0 : errno;
}

static void test_unnamed(void) {
    CHECK(as_tenant(SETTING_SUPERVISED, change_unnamed) == 0);
    CHECK(mode_of("lease/after") == 0604);
}

/* ---- answers ---- */

static char *before_a_hole(const char *text) {
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)munmap(pages + 4096, 4096);
    return memcpy(pages + 4096 - strlen(text) - 1, text, strlen(text) + 1);
}

static int get_answers(void) {
    static char too_long[PATH_MAX + 16];
    static char deep[PATH_MAX];
    char *unended = before_a_hole("xxxx");
    unended[4] = 'x';
    memset(too_long, 'a', sizeof too_long - 1);
    for (size_t i = 0; i + 3 < sizeof deep; i += 2) { /* short enough as it stands, too long behind its directory */
        memcpy(deep + i, "a/", 3);
    }
    const struct timeval wrong[2] = {{.tv_usec = 1000000}, {.tv_usec = 0}};
    const struct timespec invalid[2] = {{.tv_nsec = 1999999999}, {.tv_nsec = 0}};
    const struct {
        int got, wanted;
    } answers[] = {
        {result(chmod(before_a_hole("a"), 0600)), 0},
        {result(chmod(unended, 0600)), EFAULT},
        {result(syscall(SYS_fchmodat, AT_FDCWD, NULL, 0600)), EFAULT},
        {result(syscall(SYS_fchmodat, AT_FDCWD, UINT64_MAX - 8, 0600)), EFAULT},
        {result(chmod(too_long, 0600)), ENAMETOOLONG},
        {result(fchmodat(open("sub", O_PATH), deep, 0600, 0)), ENAMETOOLONG},
        {result(chmod("", 0600)), ENOENT},
        {result(chmod("missing", 0600)), ENOENT},
        {result(chmod("a/b", 0600)), ENOTDIR},
        {result(chmod("a/", 0600)), ENOTDIR},
        {result(chmod("loop", 0600)), ELOOP},
        {result(fchmod(-1, 0600)), EBADF},
        {result(fchmod(999, 0600)), EBADF},
        {result(fchmod(AT_FDCWD, 0600)), EBADF},
        {result(fchmodat(999, "a", 0600, 0)), EBADF},
        {result(fchmodat(-7, "a", 0600, 0)), EBADF},
        {result(fchmodat(open("a", O_RDONLY), "a", 0600, 0)), ENOTDIR},
        {result(syscall(NR_FCHMODAT2, AT_FDCWD, "a", 0600, 0x4000)), EINVAL},
        {result(syscall(NR_FCHMODAT2, AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW)), EOPNOTSUPP},
        {result(syscall(NR_FCHMODAT2, -7, "", 0600, AT_EMPTY_PATH)), EBADF},
        {result(fchownat(AT_FDCWD, "a", getuid(), getgid(), 1)), EINVAL},
        {result(syscall(SYS_utimensat, AT_FDCWD, NULL, NULL, 0)), EFAULT},
        {result(syscall(SYS_utimensat, AT_FDCWD, "a", 8, 0)), EFAULT},
        {result(utimensat(AT_FDCWD, "a", invalid, 0)), EINVAL},
#ifdef SYS_utimes
        {result(syscall(SYS_utimes, "a", wrong)), EINVAL},
        {result(syscall(SYS_utimes, "a", 8)), EFAULT},
        {result(syscall(SYS_utime, "a", 8)), EFAULT},
        {result(syscall(SYS_chmod, NULL, 0600)), EFAULT},
#endif
        {result(chmod("a", 04755)), EPERM},
        {result(chmod("sub", 02755)), EPERM},
        {result(chmod("/proc/self/fd/x", 0600)), EPERM},
        {result(setxattr("a", "user.x", "1", 1, 0)), EOPNOTSUPP},
        {result(removexattr("a", "user.x")), EOPNOTSUPP},
        {result(syscall(463, AT_FDCWD, "a", 0, "user.x", NULL, 0)), ENOSYS},
    };
    (void)wrong;
    for (unsigned i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        if (answers[i].got != answers[i].wanted) {
            (void)fprintf(stderr, "answer %u: %d, not %d\n", i, answers[i].got, answers[i].wanted);
            return 1;
        }
    }
    return 0;
}

static void test_answers(void) {
    make_files();
    CHECK(as_tenant(SETTING_SUPERVISED, get_answers) == 0);
    CHECK(mode_of("lease/a") == 0600);
}

static int get_refusals(void) {
    bool refused = chmod("a", 0700) == -1 && errno == EPERM && fchmod(open("a", O_RDWR), 0700) == -1 &&
                   errno == EPERM && utimensat(AT_FDCWD, "a", NULL, 0) == -1 && errno == EPERM &&
                   setxattr("a", "user.x", "1", 1, 0) == -1 && errno == EOPNOTSUPP;
    return refused ? 0 : 1;
}

static void test_without_supervisor(void) {
    make_files();
    CHECK(as_tenant(SETTING_REFUSED, get_refusals) == 0);
}

/* ---- attacks ---- */

static int by_name(void) { return result(chmod(at(VICTIM), 0777)); }
static int by_dots(void) { return result(chmod("../host/victim", 0777)); }
static int by_link(void) { return result(chmod("out", 0777)); }
static int by_linked_dir(void) { return result(chmod("up/victim", 0777)); }
static int by_times(void) { return result(utimensat(AT_FDCWD, at(VICTIM), NULL, 0)); }
static int by_owner(void) { return result(chown(at(VICTIM), getuid(), getgid())); }
static int by_dir(void) { return result(chmod(at("host"), 0777)); }

static int by_cwd(void) { return chdir(at("host")) == 0 ? result(chmod("victim", 0777)) : errno; }

static int by_dirfd(void) {
    int dir = open(at("host"), O_PATH | O_DIRECTORY);
    return result(fchmodat(dir, "victim", 0777, 0));
}

static int by_path_fd(void) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", open(at(VICTIM), O_PATH));
    return result(chmod(path, 0777));
}

static int by_empty_path(void) {
    return result(fchownat(open(at(VICTIM), O_PATH), "", getuid(), getgid(), AT_EMPTY_PATH));
}

static int by_magic_link(void) {
    char link[PATH_MAX + 64];
    (void)snprintf(link, sizeof link, "/proc/self/root%s", at(VICTIM));
    (void)unlink("magic");
    return symlink(link, "magic") == 0 ? result(chmod("magic", 0777)) : errno;
}

static int inherited = -1;
static int by_inherited(void) { return result(fchmod(inherited, 0777)); }

/* With a second name inside, the file would be inside. */
static int by_hard_link(void) {
    char path[64];
    (void)unlink("hard");
    if (link(at(VICTIM), "hard") == 0) {
        return result(chmod("hard", 0777));
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", open(at(VICTIM), O_PATH));
    if (linkat(AT_FDCWD, path, AT_FDCWD, "hard", AT_SYMLINK_FOLLOW) == 0 || rename(at(VICTIM), "hard") == 0) {
        return result(chmod("hard", 0777));
    }
    return chmod("hard", 0777) == -1 && errno == ENOENT ? EPERM : EINVAL;
}

static int tenant_of_nobody(void) { return the_act(); }

static int without_landlock(act_t *act) {
    pid_t pid = fork();
    if (pid == 0) {
        the_act = act;
        _exit(chdir(at(LEASE)) == 0 ? tenant_of_nobody() : NOT_STARTED);
    }
    return exit_of(pid);
}

static void test_outside(void) {
    static act_t *const attacks[] = {by_name, by_dots,  by_link,    by_linked_dir, by_times,      by_owner,    by_dir,
                                     by_cwd,  by_dirfd, by_path_fd, by_empty_path, by_magic_link, by_inherited};
    make_files();
    inherited = open(at(VICTIM), O_RDWR | O_CLOEXEC);
    for (unsigned i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        struct stat before;
        struct stat after;
        CHECK(stat(at(attacks[i] == by_dir ? "host" : VICTIM), &before) == 0);
        CHECK(as_tenant(SETTING_LANDLOCK, attacks[i]) == 0);
        CHECK(stat(at(attacks[i] == by_dir ? "host" : VICTIM), &after) == 0);
        CHECK(memcmp(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim) != 0);
        CHECK(chmod(at("host"), 0700) == 0);
        make_victim();
        CHECK(as_tenant(SETTING_SUPERVISED, attacks[i]) == EPERM);
        CHECK(is_untouched());
    }
    (void)close(inherited);
    CHECK(without_landlock(by_hard_link) == 0); /* only Landlock keeps foreign files out of its directories */
    CHECK(unlink(at("lease/hard")) == 0);
    make_victim();
    CHECK(as_tenant(SETTING_SUPERVISED, by_hard_link) == EPERM);
    CHECK(is_untouched());
}

/* A tenant that has a listener of its own would answer its own calls, "go on" included. */
static int listen_too(void) {
    struct sock_filter insns[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const struct sock_fprog program = {1, insns};
    return result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

/* It can refuse itself more, which is its own affair. */
static int filter_more(void) {
    struct sock_filter insns[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fchmodat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {4, insns};
    int rc = result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    return rc != 0 ? rc : result(syscall(SYS_fchmodat, AT_FDCWD, at(VICTIM), 0777));
}

static void test_own_filters(void) {
    CHECK(as_tenant(SETTING_LANDLOCK, listen_too) == 0);
    CHECK(as_tenant(SETTING_SUPERVISED, listen_too) == EBUSY);
    CHECK(as_tenant(SETTING_SUPERVISED, filter_more) == EPERM);
    CHECK(is_untouched());
}

/* ---- init ---- */

static int wait_as_init(void) {
    sigset_t mask;
    siginfo_t info;
    const struct timespec soon = {.tv_sec = 10};
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        return 1; /* the thread looks like a child */
    }
    pid_t pid = fork_tenant(change_modes);
    if (sigtimedwait(&mask, &info, &soon) != SIGCHLD || info.si_pid != pid || exit_of(pid) != 0) {
        return 2;
    }
    /* A file call of the host's that init performs itself. */
    return fchmod(open(at("lease/a"), O_RDWR), 0604) == 0 ? 0 : 3;
}

static void test_waits_of_init(void) {
    make_files();
    CHECK(as_init(SETTING_SUPERVISED, wait_as_init) == 0);
    CHECK(mode_of("lease/a") == 0604);
}

static int start_wrongly(void) {
    const struct sp_supervised missing = {-1, "/missing"};
    struct sp_supervised many[SP_SUPERVISED_MAX + 8];
    for (unsigned i = 0; i < SP_SUPERVISED_MAX + 8; i++) {
        many[i] = supervised_at(LEASE);
    }
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (sp_supervise_start(&missing, 1) != -EBADF) {
        return 1;
    }
    if (sp_supervise_start(many, SP_SUPERVISED_MAX + 8) != 0 || listen_too() != 0) {
        return 2;
    }
    return sp_supervise_listen(false) == -EBUSY && sp_supervise_refuse(false) == 0 && get_refusals() == 0 ? 0 : 3;
}

static void test_failures(void) { CHECK(as_init(SETTING_LANDLOCK, start_wrongly) == 0); }

/* The calls of a tenant that init cannot read are refused: it may have made itself undumpable. */
static int hide(void) {
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return chmod("a", 0700) == -1 ? errno : 0;
}

static void test_unreadable(void) {
    make_files();
    CHECK(as_tenant(SETTING_SUPERVISED, hide) == EPERM);
}

static int time_calls(void) {
    enum { N = 2000 };
    struct timespec from;
    struct timespec to;
    (void)clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < N; i++) {
        (void)chmod("a", 0600);
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &to);
    const double us = (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
    (void)printf("(%.1f us a chmod) ", us / N);
    (void)fflush(stdout);
    return 0;
}

static void test_cost(void) {
    make_files();
    CHECK(as_tenant(SETTING_LANDLOCK, time_calls) == 0);
    CHECK(as_tenant(SETTING_SUPERVISED, time_calls) == 0);
}

int main(void) {
    check_deadline(120);
    set_the_stage();
    RUN(test_modes);
    RUN(test_times);
    RUN(test_owners);
    RUN(test_unnamed);
    RUN(test_answers);
    RUN(test_without_supervisor);
    RUN(test_outside);
    RUN(test_own_filters);
    RUN(test_waits_of_init);
    RUN(test_failures);
    RUN(test_unreadable);
    RUN(test_cost);
    remove_all();
    return check_report();
}
