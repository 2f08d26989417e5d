/*
 * Plays the kernel for linux/cgroup.c and cgroup_dir.c. Each directory that they create below a plain directory gets
 * plain files, which answer a write as those of a cgroup do, and each system call can be refused. The two files are
 * included with other names for their functions. For one translation unit.
 */
#ifndef SANDPOOL_TESTS_CGROUP_KERNEL_H
#define SANDPOOL_TESTS_CGROUP_KERNEL_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "check.h"
#include "host/linux/cgroup.h"

static enum call {
    NO_CALL,
    CALLOC,
    STRNDUP,
    STATFS,
    MKDIR,
    OPEN,
    OPENAT,
    WRITE,
    SHORT_WRITE,
    READ,
    CHOWN,
    RMDIR,
    LIST
} refused;
static const char *refused_name = ""; /* the call is refused for names that end so */
static int refused_errno;
static const char *answer;     /* what a read returns instead of what was written, or NULL */
static uid_t as_user = 1000;   /* what getuid() and geteuid() return */
static unsigned given, killed; /* files that were given to the zygote's user; writes to cgroup.kill */
static void (*on_mkdir)(void); /* runs once, in the middle of the next mkdir */
static char last_opened[128];  /* by openat(): the file that a write is for */

static bool ends_with(const char *name, const char *end) {
    size_t len = strlen(name);
    size_t end_len = strlen(end);
    return len >= end_len && strcmp(name + len - end_len, end) == 0;
}

static bool refuses(enum call call, const char *name) {
    if (refused != call || !ends_with(name, refused_name)) {
        return false;
    }
    errno = refused_errno;
    return true;
}

static void refuse(enum call call, const char *name, int err) {
    refused = call;
    refused_name = name;
    refused_errno = err;
}

/* ---- the kernel's side ---- */

static const char *const knobs[] = {
    "cgroup.procs", "cgroup.kill",      "cgroup.subtree_control",
    "memory.max",   "memory.oom.group", "memory.swap.max",
    "pids.max",     "cpu.max",          "cpu.stat",
    "memory.peak",  "memory.events",
};
#define KNOBS (sizeof knobs / sizeof knobs[0])

static void fill(int dir) {
    for (size_t i = 0; i < KNOBS; i++) {
        int fd = openat(dir, knobs[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        CHECK(fd != -1);
        (void)close(fd);
    }
}

static int kernel_mkdirat(int dir, const char *name, mode_t mode) {
    void (*between)(void) = on_mkdir;
    on_mkdir = NULL;
    if (between != NULL) {
        between();
    }
    if (refuses(MKDIR, name)) {
        return -1;
    }
    int rc = mkdirat(dir, name, mode);
    int made = rc == 0 ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (made != -1) {
        fill(made);
        (void)close(made);
    }
    return rc;
}

static int kernel_mkdir(const char *path, mode_t mode) { return kernel_mkdirat(AT_FDCWD, path, mode); }

static int kernel_unlinkat(int dir, const char *name, int flags) {
    if (refuses(RMDIR, name)) {
        return -1;
    }
    int inside = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < KNOBS && inside != -1; i++) {
        (void)unlinkat(inside, knobs[i], 0);
    }
    (void)close(inside);
    return unlinkat(dir, name, flags);
}

static int kernel_rmdir(const char *path) { return kernel_unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

static int kernel_openat(int dir, const char *name, int flags) {
    if (refuses(OPENAT, name)) {
        return -1;
    }
    (void)snprintf(last_opened, sizeof last_opened, "%s", name);
    return openat(dir, name, flags | (strcmp(name, "zygote/cgroup.procs") == 0 ? O_CREAT : 0), 0600);
}

static int kernel_open(const char *path, int flags) { return refuses(OPEN, path) ? -1 : open(path, flags); }

/* After a write of "+memory" a read returns "memory". A number is stored with a newline. */
static ssize_t kernel_write(int fd, const char *text, size_t len) {
    char line[128];
    killed += ends_with(last_opened, "cgroup.kill");
    if (refuses(WRITE, last_opened)) {
        return -1;
    }
    if (refuses(SHORT_WRITE, last_opened)) { /* errno keeps the value that an earlier call has set */
        return (ssize_t)len - 1;
    }
    bool named = refused_name[0] != '\0' && ends_with(last_opened, refused_name);
    const char *said = answer != NULL && named ? answer : text[0] == '+' ? text + 1 : text;
    int n = snprintf(line, sizeof line, "%s\n", said);
    CHECK(lseek(fd, 0, text[0] == '+' ? SEEK_END : SEEK_SET) >= 0 && write(fd, line, (size_t)n) == n);
    return (ssize_t)len;
}

static ssize_t kernel_read(int fd, char *text, size_t size) {
    return refuses(READ, last_opened) ? -1 : read(fd, text, size);
}

static int kernel_fstatfs(int fd, struct statfs *fs) {
    memset(fs, 0, sizeof *fs);
    fs->f_type = CGROUP2_SUPER_MAGIC;
    return refuses(STATFS, "") ? -1 : fcntl(fd, F_GETFD) == -1 ? -1 : 0;
}

static int kernel_fchownat(int dir, const char *name, uid_t uid, gid_t gid, int flags) {
    CHECK(uid == 65534 && gid == 65534 && flags == 0 && faccessat(dir, name, F_OK, 0) == 0);
    given++;
    return refuses(CHOWN, name) ? -1 : 0;
}

static void *kernel_calloc(size_t n, size_t size) { return refuses(CALLOC, "") ? NULL : calloc(n, size); }

static char *kernel_strndup(const char *text, size_t len) { return refuses(STRNDUP, "") ? NULL : strndup(text, len); }

static DIR *kernel_fdopendir(int fd) { return refuses(LIST, "") ? NULL : fdopendir(fd); }

static uid_t kernel_uid(void) { return as_user; }

#define sp_cgroups_open files_cgroups_open
#define sp_cgroups_enforced files_cgroups_enforced
#define sp_cgroups_add_zygote files_cgroups_add_zygote
#define sp_cgroups_close files_cgroups_close
#define sp_cgroups_free files_cgroups_free
#define sp_cgroups_tend files_cgroups_tend
#define sp_cgroups_enter files_cgroups_enter
#define sp_cgroups_leave files_cgroups_leave
#define sp_cgroup_take files_cgroup_take
#define sp_cgroup_kill files_cgroup_kill
#define sp_cgroup_discard files_cgroup_discard
#define sp_cgroup_contains files_cgroup_contains
#define sp_cgroup_usage files_cgroup_usage
#define sp_cgroup_name files_cgroup_name
#define sp_cgroup_write files_cgroup_write
#define sp_cgroup_read files_cgroup_read
#define sp_cgroup_has_word files_cgroup_has_word
#define sp_cgroup_give_to_zygote files_cgroup_give_to_zygote
#define sp_cgroup_make files_cgroup_make
struct sp_cgroups *sp_cgroups_open(const sp_sandbox_options *options, sp_error *error);
uint32_t sp_cgroups_enforced(const struct sp_cgroups *cgroups);
int sp_cgroups_add_zygote(struct sp_cgroups *cgroups, pid_t pid);
void sp_cgroups_close(struct sp_cgroups *cgroups, int64_t deadline);
void sp_cgroups_free(struct sp_cgroups *cgroups);
bool sp_cgroups_tend(struct sp_cgroups *cgroups);
int64_t sp_cgroup_take(struct sp_cgroups *cgroups, int *fd);
void sp_cgroup_kill(struct sp_cgroups *cgroups, uint32_t number);
void sp_cgroup_discard(struct sp_cgroups *cgroups, uint32_t number);
bool sp_cgroup_contains(struct sp_cgroups *cgroups, uint32_t number, pid_t pid);
int sp_cgroup_usage(struct sp_cgroups *cgroups, uint32_t number, struct sp_usage *usage);
#define mkdirat kernel_mkdirat
#define mkdir kernel_mkdir
#define unlinkat kernel_unlinkat
#define rmdir kernel_rmdir
#define openat kernel_openat
#define open kernel_open
#define write kernel_write
#define read kernel_read
#define fstatfs kernel_fstatfs
#define fchownat kernel_fchownat
#define calloc kernel_calloc
#define strndup kernel_strndup
#define fdopendir kernel_fdopendir
#define geteuid kernel_uid
#define getuid kernel_uid
/* NOLINTBEGIN(bugprone-suspicious-include): renamed symbols, see above */
#include "host/linux/cgroup.c"
#include "host/linux/cgroup_dir.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef mkdirat
#undef mkdir
#undef unlinkat
#undef rmdir
#undef openat
#undef open
#undef write
#undef read
#undef fstatfs
#undef fchownat
#undef calloc
#undef strndup
#undef fdopendir
#undef geteuid
#undef getuid

#endif
