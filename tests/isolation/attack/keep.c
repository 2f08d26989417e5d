/* Limits: what the kernel keeps for a process outside of its pages, so that no figure of it tells. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "hoard.h"

#define LOCKS_PER_FILE 100 /* more take the kernel long to look through */

static long lock_bytes(int fd, int command, short type) {
    long n = 0;
    for (; n < LOCKS_PER_FILE; n++) {
        struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 2 * n, .l_len = 1};
        if (fcntl(fd, command, &lock) != 0) {
            break;
        }
    }
    return n;
}

static int make_file(const char *dir, long number) {
    char name[4096];
    snprintf(name, sizeof name, "%s/keep-%ld", dir, number);
    int fd = open(name, O_CREAT | O_RDWR, 0600);
    (void)unlink(name);
    return fd;
}

/* Every other byte is a lock of its own, some 200 bytes of the kernel's memory. */
static void lock_files(char **args, int command) {
    long wanted = atol(args[1]);
    long n = 0;
    long got = LOCKS_PER_FILE;
    raise_descriptors();
    for (long file = 0; n < wanted && got == LOCKS_PER_FILE; file++) {
        int fd = make_file(args[0], file);
        got = fd == -1 ? 0 : lock_bytes(fd, command, F_WRLCK);
        n += got;
    }
    settle_with(n, args[2]);
    count("locks", n, wanted);
}

static void locks(char **args) { lock_files(args, F_SETLK); }

/* No process needs to have the file open any more: a mapping is enough. */
static void open_file_locks(char **args) { lock_files(args, F_OFD_SETLK); }

/* The group but for its leader, which has settled. */
static void end_group(void) {
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
}

static long read_lock_programs(void) {
    DIR *programs = opendir("/usr/bin");
    long n = 0;
    for (struct dirent *entry; n < 1000 && (entry = readdir(programs)) != NULL;) {
        int fd = openat(dirfd(programs), entry->d_name, O_RDONLY);
        n += fd == -1 ? 0 : lock_bytes(fd, F_SETLK, F_RDLCK);
    }
    return n;
}

/* Who may read a file may lock it: each of many processes the same ones, of the system's. */
static void read_locks(char **args) {
    long processes = atol(args[0]);
    long n = 0;
    long got;
    int done[2];
    setpgid(0, 0);
    if (pipe(done) != 0) {
        held("no pipe");
    }
    for (long i = 0; i < processes; i++) {
        if (fork() == 0) {
            got = read_lock_programs();
            (void)write(done[1], &got, sizeof got);
            pause();
        }
    }
    for (long i = 0; i < processes && read(done[0], &got, sizeof got) == sizeof got; i++) {
        n += got;
    }
    settle(args[1]);
    end_group();
    count("read locks", n, processes * 1000);
}

struct files {
    long n;
    int fds[1000];
};

/* Has the descriptors of its parent, which keeps the locks when it is gone. */
static int lock_for_parent(void *arg) {
    const struct files *files = arg;
    for (long i = 0; i < files->n; i++) {
        (void)lock_bytes(files->fds[i], F_SETLK, F_WRLCK);
    }
    return 0;
}

static void locks_of_the_dead(char **args) {
    static char stack[65536] __attribute__((aligned(16)));
    static struct files files;
    long wanted = atol(args[1]) / LOCKS_PER_FILE;
    raise_descriptors();
    while (files.n < wanted && (files.fds[files.n] = make_file(args[0], files.n)) != -1) {
        files.n++;
    }
    pid_t pid = clone(lock_for_parent, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD, &files);
    int status = -1;
    (void)waitpid(pid, &status, 0);
    settle(args[2]);
    count("locked files", status == 0 ? files.n : 0, wanted);
}

/* Pages that may not be touched cost nothing but their descriptions, if neighbours differ. */
static void mappings(char **args) {
    long wanted = atol(args[0]) / 10;
    long n = 0;
    bool leads = true;
    setpgid(0, 0);
    for (int i = 1; i < 10 && leads; i++) {
        leads = fork() != 0;
    }
    for (; n < wanted; n++) {
        int protection = n % 2 == 0 ? PROT_NONE : PROT_READ;
        if (mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) {
            break;
        }
    }
    while (!leads) {
        pause();
    }
    settle(args[1]);
    end_group();
    count("mappings in each of ten", n, wanted);
}

static void watches(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    int watched[1000];
    raise_descriptors();
    for (int i = 0; i < 1000; i++) {
        watched[i] = eventfd(0, 0);
    }
    for (int set; n < wanted && (set = epoll_create1(0)) != -1;) {
        struct epoll_event event = {.events = EPOLLIN};
        for (int i = 0; i < 1000 && epoll_ctl(set, EPOLL_CTL_ADD, watched[i], &event) == 0; i++) {
            n++;
        }
    }
    settle(args[1]);
    count("epoll watches", n, wanted);
}

/* The text of a /proc file is kept until it is closed, and how long it is is the reader's choice. */
static void texts(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    char name[64];
    char byte;
    raise_descriptors();
    int set = epoll_create1(0);
    for (int i = 0; i < 2000; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        (void)epoll_ctl(set, EPOLL_CTL_ADD, eventfd(0, 0), &event);
    }
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", set);
    for (int fd; n < wanted && (fd = open(name, O_RDONLY)) != -1 && read(fd, &byte, 1) == 1;) {
        n++;
    }
    settle(args[1]);
    count("texts of 128 KiB", n, wanted);
}

/* Each ruleset has a rule of its own for each of the same files. */
static void rules(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    long files = 0;
    int fds[500];
    struct landlock_ruleset_attr all = {.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE};
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE};
    DIR *programs = opendir("/usr/bin");
    raise_descriptors();
    for (struct dirent *entry; files < 500 && (entry = readdir(programs)) != NULL;) {
        fds[files] = openat(dirfd(programs), entry->d_name, O_PATH);
        files += fds[files] != -1;
    }
    for (long set = 0; n < wanted && set != -1;) {
        set = syscall(SYS_landlock_create_ruleset, &all, sizeof all.handled_access_fs, 0);
        for (long i = 0; i < files && set != -1; i++) {
            rule.parent_fd = fds[i];
            n += syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
        }
    }
    settle_with(n, args[1]);
    count("Landlock rules", n, wanted);
}

/* Each up to 64 KiB, none of which a figure of the file shows. */
static void attributes(char **args) {
    static char value[65536];
    long wanted = atol(args[0]);
    long n = 0;
    int fd = memfd_create("keep", 0);
    for (; fd != -1 && n < wanted; n++) {
        char name[32];
        snprintf(name, sizeof name, "user.%ld", n);
        if (fsetxattr(fd, name, value, sizeof value, 0) != 0) {
            break;
        }
    }
    settle_with(n, args[1]);
    count("attributes", n, wanted);
}

/* A table of 64 bytes a slot, of the process alone. */
static void futex_hash(char **args) {
    long rc = prctl(78 /* PR_FUTEX_HASH */, 1 /* SET_SLOTS */, strtoul(args[0], NULL, 0), 0, 0);
    int why = errno;
    settle_with(rc == 0, args[1]);
    errno = why;
    JUDGE("a hash table for futexes", rc);
}

/* What a pipe holds of a file keeps the whole folio, whatever becomes of the file. */
static void pinned_pages(char **args) {
    int file = make_file(args[1], 0);
    int ends[2];
    if (file == -1 || pipe(ends) == -1 || ftruncate(file, 4096) == -1) {
        held("no file or pipe: %s", strerror(errno));
    }
    bool spliced = strcmp(args[0], "splice") == 0;
    JUDGE(args[0], spliced ? splice(file, NULL, ends[1], NULL, 4096, 0) : sendfile(ends[1], file, NULL, 4096));
}

PROBES({"locks", locks}, {"open-file-locks", open_file_locks}, {"read-locks", read_locks},
       {"locks-of-the-dead", locks_of_the_dead}, {"mappings", mappings}, {"watches", watches}, {"texts", texts},
       {"rules", rules}, {"attributes", attributes}, {"futex-hash", futex_hash}, {"pinned-pages", pinned_pages})
