/*
 * Copies data of installed programs from the host ("/old") into the template ("/new"). A mount would cost each sandbox
 * some time, and a copy costs none; so only what is large is mounted.
 *
 * A copy contains only files that any user may read. Links to places that a sandbox does not have are followed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/stage.h"
#include "init/files.h"
#include "zygote/listing.h"
#include "zygote/zygote.h"

#define IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
#define MAX_DEPTH 12
#define MAX_ENTRIES 2048
#define MAX_BYTES (8L << 20)

/* Directories of servers, whose files may hold passwords that any user may read (PHP, for one). */
static const char *const never_copied[] = {"fpm", "apache2", "pool.d", "private"};

/* The files here describe the running host, and no link of a program may lead there. */
static const char *const never_followed[] = {"/proc", "/sys", "/dev", "/run"};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* One path of the table, while it is copied. */
struct copy {
    int root;        /* "/old" */
    const char *top; /* links that lead below it are kept */
    int depth;
    unsigned entries;
    long bytes;
};

struct place {
    int dir; /* of the host */
    int target;
};

static int open_in(int root, const char *path, uint64_t flags) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = IN_ROOT};
    long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    return fd != -1 ? (int)fd : -errno;
}

/* The path of an open file of the host; false when the kernel gives none. */
static bool find_path(int fd, char *path, size_t size) {
    char link[64];
    const char *end = link + sizeof link;
    (void)sp_append_number(sp_append(link, end, "/old/proc/self/fd/"), end, (uint64_t)fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n > 0 ? n : 0] = '\0';
    bool known = sp_path_is_below(path, "/old");
    if (known) {
        memmove(path, path + strlen("/old"), strlen(path) - strlen("/old") + 1);
    }
    return known;
}

static bool join(char *path, size_t size, const char *base, const char *dir, const char *name) {
    const char *end = path + size;
    return sp_append(sp_append(sp_append(sp_append(path, end, base), end, dir), end, "/"), end, name) != NULL;
}

/* Caches are compared with what they were made from by the times of files, for example by GHC and fontconfig. */
static int keep_time(int target, const struct stat *st) {
    const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, st->st_mtim};
    return futimens(target, times) == 0 ? 0 : -errno;
}

static int copy_file(int source, const struct stat *st, int dir, const char *name) {
    ssize_t n = 0;
    sp_auto_fd int out = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, st->st_mode & 0755);
    if (out == -1) {
        return -errno;
    }
    for (off_t left = st->st_size; left > 0 && (n = sendfile(out, source, NULL, 1 << 20)) > 0; left -= n) {
    }
    return n >= 0 ? keep_time(out, st) : -errno;
}

static int copy_entry(struct copy *copy, struct place place, const char *name, uint8_t type);

static int copy_dir(struct copy *copy, int source, const struct stat *st, struct place place, const char *name) {
    if (mkdirat(place.target, name, 0755) != 0 && errno != EEXIST) {
        return -errno;
    }
    sp_auto_fd int target = openat(place.target, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct sp_listing list = {0};
    const char *child;
    int rc = target == -1 ? -errno : ++copy->depth > MAX_DEPTH ? -EFBIG : 0;
    while (rc == 0 && (child = sp_next_name(source, &list)) != NULL) {
        rc = copy_entry(copy, (struct place){source, target}, child, list.type);
    }
    copy->depth--;
    return rc != 0 ? rc : keep_time(target, st);
}

/* Copies what the open `source` is, unless others than its owner and group may not read it. */
static int copy_opened(struct copy *copy, int source, struct place place, const char *name) {
    struct stat st;
    if (fstat(source, &st) != 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode) && (st.st_mode & (S_IROTH | S_IXOTH)) == (S_IROTH | S_IXOTH)) {
        return copy_dir(copy, source, &st, place, name);
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & S_IROTH) == 0) {
        return 0;
    }
    copy->bytes += st.st_size;
    return copy->bytes > MAX_BYTES ? -EFBIG : copy_file(source, &st, place.target, name);
}

static bool leads_to_usr(const char *text) {
    for (text += text[0] == '/'; strncmp(text, "../", 3) == 0; text += 3) {
    }
    return strncmp(text, "usr/", 4) == 0;
}

/* Links inside the directory of a program lead to files only: below another directory anything may begin. Opening a
 * device or fifo would have effects. */
static bool may_follow(const struct copy *copy, int found, const char *real) {
    struct stat st;
    for (size_t i = 0; i < COUNT(never_followed); i++) {
        if (sp_path_is_below(real, never_followed[i])) {
            return false;
        }
    }
    bool is_usable = fstat(found, &st) == 0 && (S_ISREG(st.st_mode) || (S_ISDIR(st.st_mode) && copy->depth == 0));
    return is_usable && strcmp(real, "/") != 0 && !sp_path_is_below(copy->top, real);
}

/* A link to what a sandbox has stays a link. Its text is kept if it works there, because programs take the name of the
 * time zone from that of /etc/localtime. */
static int copy_link(struct copy *copy, struct place place, const char *name) {
    char path[PATH_MAX];
    char real[PATH_MAX];
    char text[PATH_MAX];
    ssize_t n = readlinkat(place.dir, name, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    bool known = n > 0 && find_path(place.dir, real, sizeof real) && join(path, sizeof path, "", real, name);
    sp_auto_fd int found = known ? open_in(copy->root, path, O_PATH) : -1;
    if (found < 0 || !find_path(found, real, sizeof real)) {
        return 0; /* leads nowhere on the host either */
    }
    bool inside = sp_path_is_below(real, copy->top);
    if (inside || sp_zygote_shows(real)) {
        return symlinkat(inside || leads_to_usr(text) ? text : real, place.target, name) == 0 ? 0 : -errno;
    }
    if (!may_follow(copy, found, real)) {
        return 0;
    }
    sp_auto_fd int source = open_in(copy->root, path, O_RDONLY);
    return source < 0 ? 0 : copy_opened(copy, source, place, name);
}

static bool is_never_copied(const char *name) {
    for (size_t i = 0; i < COUNT(never_copied); i++) {
        if (strcmp(name, never_copied[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* `type`: DT_* of the listing, if it is known. */
static int copy_entry(struct copy *copy, struct place place, const char *name, uint8_t type) {
    struct stat st;
    if (is_never_copied(name)) {
        return 0;
    }
    if (type == DT_UNKNOWN) {
        type = fstatat(place.dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? IFTODT(st.st_mode) : DT_UNKNOWN;
    }
    if (type != DT_LNK && type != DT_REG && type != DT_DIR) {
        return 0;
    }
    if (++copy->entries > MAX_ENTRIES) {
        return -EFBIG;
    }
    if (type == DT_LNK) {
        return copy_link(copy, place, name);
    }
    /* By now it may be something else, a fifo for one. */
    sp_auto_fd int source = openat(place.dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return source == -1 ? 0 : copy_opened(copy, source, place, name); /* not readable: left out */
}

/* Splits "/etc/R" into the directory "/etc" and the name "R"; `dir` has room for any path of the tables. */
static const char *split(const char *path, char *dir, size_t size) {
    const char *slash = strrchr(path, '/');
    size_t len = (size_t)(slash - path);
    if (len >= size) {
        return NULL;
    }
    memcpy(dir, path, len);
    dir[len] = '\0';
    return slash + 1;
}

/* What is too large to be copied is mounted, over the part of it that was copied. In /etc that part has to do: a mount
 * would also show what a copy leaves out. */
static int mount_instead(const char *dir, const char *name) {
    char source[PATH_MAX];
    char target[PATH_MAX];
    struct stat st;
    if (!join(source, sizeof source, "/old", dir, name) || !join(target, sizeof target, "/new", dir, name)) {
        return -ENAMETOOLONG;
    }
    if (strcmp(dir, "/etc") == 0 || lstat(source, &st) != 0 || S_ISLNK(st.st_mode)) {
        return 0;
    }
    int rc = sp_make_mount_point(target, S_ISDIR(st.st_mode));
    return rc != 0 ? rc : sp_bind(source, target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

static int copy_name(int root, const char *dir, struct place place, const char *name, uint8_t type) {
    char top[PATH_MAX];
    if (!join(top, sizeof top, "", dir, name)) {
        return -ENAMETOOLONG;
    }
    struct copy copy = {.root = root, .top = top};
    int rc = copy_entry(&copy, place, name, type);
    return rc == -EFBIG ? mount_instead(dir, name) : rc;
}

/* All names that begin like the last part of the path, without its '*'. */
static int copy_matching(int root, const char *dir, struct place place, const char *pattern) {
    struct sp_listing list = {0};
    const char *name;
    int rc = lseek(place.dir, 0, SEEK_SET) == 0 ? 0 : -errno;
    while (rc == 0 && (name = sp_next_name(place.dir, &list)) != NULL) {
        rc = strncmp(name, pattern, strlen(pattern) - 1) == 0 ? copy_name(root, dir, place, name, list.type) : 0;
    }
    return rc;
}

static int copy_into(int root, const char *dir, int source, const char *name) {
    char made[128];
    struct stat st;
    bool is_pattern = strchr(name, '*') != NULL;
    if (!is_pattern && fstatat(source, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return 0;
    }
    if (sp_append(sp_append(made, made + sizeof made, "/new"), made + sizeof made, dir) == NULL) {
        return -ENAMETOOLONG;
    }
    int rc = sp_make_dirs(made, 0755);
    sp_auto_fd int target = rc == 0 ? open(made, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    struct place place = {source, target};
    rc = rc == 0 && target == -1 ? -errno : rc;
    return rc != 0      ? rc
           : is_pattern ? copy_matching(root, dir, place, name)
                        : copy_name(root, dir, place, name, IFTODT(st.st_mode));
}

/* Opens the directory of a path, unless `source` is it already. Its last part, or NULL. */
static const char *open_dir(int root, const char *path, char *dir, size_t size, int *source) {
    char before[64];
    (void)sp_append(before, before + sizeof before, dir);
    const char *name = split(path, dir, size);
    if (name != NULL && (*source == -1 || strcmp(before, dir) != 0)) {
        sp_fd_close(source);
        int opened = open_in(root, dir, O_RDONLY | O_DIRECTORY);
        *source = opened >= 0 ? opened : -1; /* not every system has each directory */
    }
    return name;
}

int sp_zygote_copy(const char *const *paths, size_t n, struct sp_rec_failed *why) {
    char dir[64] = "";
    sp_auto_fd int root = open("/old", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sp_auto_fd int source = -1;
    int rc = root == -1 ? sp_failed(why, SP_STAGE_ROOT, errno, "/old") : 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const char *name = open_dir(root, paths[i], dir, sizeof dir, &source);
        rc = name == NULL ? -ENAMETOOLONG : source == -1 ? 0 : copy_into(root, dir, source, name);
        rc = rc == 0 ? 0 : sp_failed(why, SP_STAGE_ROOT, -rc, paths[i]);
    }
    return rc;
}
