/* The system as a tenant sees it: programs and libraries of the host, what belongs to them in /etc and /var, and a
 * minimal /dev. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/stage.h"
#include "init/files.h"
#include "zygote/helpers.h"
#include "zygote/installed.h"
#include "zygote/listing.h"
#include "zygote/zygote.h"

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define DEVICE (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)

struct text_file {
    const char *path;
    const char *text;
};

static const char *const system_dirs[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
/* Directories of links and certificates, which a host may update while the zygote runs. */
static const char *const etc_dirs[] = {"/etc/alternatives", "/etc/ssl/certs", "/etc/pki/tls/certs",
                                       "/etc/pki/ca-trust/extracted", "/etc/ca-certificates"};
#define PATH_OF(path, what) path,
static const char *const mounted[] = {SP_MOUNTED(PATH_OF)};
static const char *const copied[] = {"/etc/ld.so.cache", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
                                     "/etc/localtime", SP_COPIED(PATH_OF)};
static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
static const struct text_file dev_links[] = {
    {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"},
    {"/dev/stderr", "/proc/self/fd/2"}, {"/dev/ptmx", "pts/ptmx"},
};

#define COPY_HELPERS 4 /* what a system has is not spread evenly over the table */

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* "/old" + path and "/new" + path. Only the short paths of the tables above are used here, none of a tenant or user. */
struct pair {
    char source[128];
    char target[128];
};

static struct pair pair_of(const char *path) {
    struct pair p = {{0}, {0}};
    (void)sp_append(sp_append(p.source, p.source + sizeof p.source, "/old"), p.source + sizeof p.source, path);
    (void)sp_append(sp_append(p.target, p.target + sizeof p.target, "/new"), p.target + sizeof p.target, path);
    return p;
}

static int show_dir(const char *path, struct sp_rec_failed *why) {
    struct pair p = pair_of(path);
    struct stat st;
    char link[PATH_MAX];
    if (lstat(p.source, &st) != 0) {
        return 0; /* not every system has all of these directories */
    }
    char *slash = strrchr(p.target, '/');
    *slash = '\0';
    int rc = slash == p.target + strlen("/new") ? 0 : sp_make_dirs(p.target, 0755);
    *slash = '/';
    if (rc == 0 && S_ISLNK(st.st_mode)) { /* merged /usr: /bin -> usr/bin */
        ssize_t n = readlink(p.source, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        return n > 0 && symlink(link, p.target) == 0 ? 0 : sp_failed(why, SP_STAGE_ROOT, errno, path);
    }
    rc = rc != 0 ? rc : sp_make_dirs(p.target, 0755);
    rc = rc != 0 ? rc : sp_bind(p.source, p.target, READ_ONLY);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_ROOT, -rc, path);
}

static int show_dirs(const char *const *paths, size_t n, struct sp_rec_failed *why) {
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = show_dir(paths[i], why);
    }
    return rc;
}

static bool is_in(const char *path, const char *const *dirs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (sp_path_is_below(path, dirs[i])) {
            return true;
        }
    }
    return false;
}

bool sp_zygote_shows(const char *path) {
    return is_in(path, system_dirs, COUNT(system_dirs)) || is_in(path, etc_dirs, COUNT(etc_dirs)) ||
           is_in(path, mounted, COUNT(mounted)) || is_in(path, devices, COUNT(devices));
}

/* Device nodes cannot be created in a user namespace, so each device of the host is bound. */
static int show_device(const char *path, struct sp_rec_failed *why) {
    struct pair p = pair_of(path);
    if (access(p.source, F_OK) != 0 && strcmp(path, "/dev/tty") == 0) {
        return 0;
    }
    int rc = sp_make_mount_point(p.target, 0);
    rc = rc != 0 ? rc : sp_bind(p.source, p.target, DEVICE);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_DEV, -rc, path);
}

int sp_zygote_show_dev(struct sp_rec_failed *why) {
    if (mkdir("/new/dev/shm", 01777) != 0 || mkdir("/new/dev/pts", 0755) != 0 ||
        mkdir("/new" SP_EMPTY_DIR, 0755) != 0) {
        return sp_failed(why, SP_STAGE_DEV, errno, "/dev");
    }
    sp_auto_fd int closed = open("/new" SP_CLOSED_FILE, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0);
    sp_auto_fd int empty = open("/new" SP_EMPTY_FILE, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444);
    int rc = closed != -1 && empty != -1 ? 0 : sp_failed(why, SP_STAGE_DEV, errno, "files that cover others");
    for (size_t i = 0; i < COUNT(devices) && rc == 0; i++) {
        rc = show_device(devices[i], why);
    }
    for (size_t i = 0; i < COUNT(dev_links) && rc == 0; i++) {
        struct pair p = pair_of(dev_links[i].path);
        rc = symlink(dev_links[i].text, p.target) == 0 ? 0 : sp_failed(why, SP_STAGE_DEV, errno, dev_links[i].path);
    }
    return rc;
}

/* A part of what is copied. Neighbours are in one directory, and so in one part. */
struct part {
    size_t first, n;
};

static int copy_part(const void *arg, struct sp_rec_failed *why) {
    const struct part *part = arg;
    return sp_zygote_copy(copied + part->first, part->n, why);
}

static int copy_data(struct sp_helpers *helpers, struct sp_rec_failed *why) {
    const size_t each = (COUNT(copied) + COPY_HELPERS - 1) / COPY_HELPERS;
    int rc = 0;
    for (size_t first = 0; first < COUNT(copied) && rc == 0; first += each) {
        const struct part part = {first, COUNT(copied) - first < each ? COUNT(copied) - first : each};
        rc = sp_helpers_begin(helpers, copy_part, &part, why);
    }
    return rc;
}

int sp_zygote_system_view(const struct sp_plan *plan, struct sp_helpers *helpers, struct sp_rec_failed *why) {
    int rc = show_dirs(system_dirs, COUNT(system_dirs), why);
    if (rc == 0 && mkdir("/new/etc", 0755) != 0) {
        rc = sp_failed(why, SP_STAGE_ROOT, errno, "/etc");
    }
    rc = rc != 0 ? rc : show_dirs(etc_dirs, COUNT(etc_dirs), why);
    rc = rc != 0 ? rc : show_dirs(mounted, COUNT(mounted), why);
    rc = rc != 0 ? rc : copy_data(helpers, why);
    return rc != 0 ? rc : sp_zygote_make_etc(plan, why);
}

/* Passes on all names that begin like the last part of `pattern`, which ends in '*'. The paths live as long as the
 * process. */
static void each_of_pattern(const char *pattern, void (*each)(const char *path, bool device, void *arg), void *arg) {
    static char kept[16 * 1024];
    static size_t used;
    const char *name = strrchr(pattern, '/') + 1;
    const size_t dir_len = (size_t)(name - pattern);
    const size_t len = strlen(name) - 1;
    struct sp_listing list = {0};
    char dir_path[128];
    (void)sp_append(dir_path, dir_path + sizeof dir_path, pattern);
    dir_path[dir_len] = '\0';
    sp_auto_fd int dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (const char *found; dir != -1 && (found = sp_next_name(dir, &list)) != NULL;) {
        char *path = kept + used;
        const char *end = kept + sizeof kept;
        char *at = strncmp(found, name, len) == 0 ? sp_append(sp_append(path, end, dir_path), end, found) : NULL;
        if (at != NULL) {
            used = (size_t)(at - kept) + 1;
            each(path, false, arg);
        }
    }
}

void sp_zygote_each_shown(void (*each)(const char *path, bool device, void *arg), void *arg) {
    const struct {
        const char *const *paths;
        size_t n;
        bool devices;
    } lists[] = {{system_dirs, COUNT(system_dirs), false},
                 {etc_dirs, COUNT(etc_dirs), false},
                 {mounted, COUNT(mounted), false},
                 {copied, COUNT(copied), false},
                 {devices, COUNT(devices), true}};
    for (size_t list = 0; list < COUNT(lists); list++) {
        for (size_t i = 0; i < lists[list].n; i++) {
            if (strchr(lists[list].paths[i], '*') != NULL) {
                each_of_pattern(lists[list].paths[i], each, arg);
            } else {
                each(lists[list].paths[i], lists[list].devices, arg);
            }
        }
    }
}
