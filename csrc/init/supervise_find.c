/* Finds the file of a supervised call, inside the places where files may be changed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/text.h"
#include "init/supervise_call.h"

/* Room for the path of a directory of the tenant, and for a relative path after it. */
#define TEXT_MAX (2 * PATH_MAX)
/* The kernel answers EAGAIN to a walk with ".." during which anything on the machine was renamed. */
#define TRIES 16

#define DOWNWARDS (RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)

static int link_text(int dir, const char *name, char *text, size_t size) {
    ssize_t n = readlinkat(dir, name, text, size - 1);
    if (n < 0) {
        return -errno;
    }
    text[n] = '\0';
    return (size_t)n < size - 1 ? 0 : -ENAMETOOLONG;
}

static void name_of_fd(char name[32], const char *dir, int fd) {
    (void)sp_append_number(sp_append(name, name + 32, dir), name + 32, (uint64_t)fd);
}

/* ---- places ---- */

int sp_places_add(struct sp_places *places, int fd, const char *name) {
    static char names[32 * 1024];
    static char *end = names;
    char link[32];
    char shown[PATH_MAX];
    const unsigned room = sizeof places->at / sizeof places->at[0];
    if (fd == -1) {
        return -EBADF;
    }
    name_of_fd(link, "self/fd/", fd);
    int rc = link_text(places->proc, link, shown, sizeof shown);
    if (rc != 0) {
        return rc;
    }
    const bool same = strcmp(name, shown) == 0;
    char *next = same ? end : sp_append(end, names + sizeof names, shown);
    if (places->n + 2 > room || next == NULL) {
        return -ENOSPC;
    }
    if (!same) {
        places->at[places->n++] = (struct sp_place){fd, end};
        end = next + 1;
    }
    places->at[places->n++] = (struct sp_place){fd, name};
    return 0;
}

/* The outermost place whose name begins this path, so that ".." in it is followed as far as it may lead. NULL: none. */
static const struct sp_place *place_of(const struct sp_places *places, const char *path) {
    const struct sp_place *found = NULL;
    for (unsigned i = 0; i < places->n; i++) {
        const struct sp_place *place = &places->at[i];
        if (sp_path_is_below(path, place->name) && (found == NULL || strlen(place->name) < strlen(found->name))) {
            found = place;
        }
    }
    return found;
}

/* Walks from a place downwards along the rest of a path that begins with its name. */
static int walk(const struct sp_place *place, const char *path, int flags, uint64_t resolve) {
    const struct open_how how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags), .resolve = resolve};
    const char *rest = path + strlen(place->name);
    bool slash = *rest == '/';
    rest += strspn(rest, "/");
    if (*rest == '\0') { /* the place itself, which may be a file */
        int fd = !slash ? fcntl(place->fd, F_DUPFD_CLOEXEC, 0) : openat(place->fd, ".", O_PATH | O_CLOEXEC);
        return fd != -1 ? fd : -errno;
    }
    long fd = -1;
    for (int i = 0; i < TRIES; i++) {
        fd = syscall(SYS_openat2, place->fd, rest, &how, sizeof how);
        if (fd != -1 || errno != EAGAIN) {
            break;
        }
    }
    return fd != -1 ? (int)fd : errno == EXDEV ? -EPERM : -errno;
}

/* ---- a descriptor of the tenant ---- */

static int stat_fd(int fd, struct stat *st) { return fstatat(fd, "", st, AT_EMPTY_PATH) == 0 ? 0 : -errno; }

/* A file that has no name any more, but had one inside. Nobody can give it another one outside. */
static bool was_inside(const char *path, const struct stat *st) {
    static const char mark[] = " (deleted)";
    const size_t len = strlen(path);
    return S_ISREG(st->st_mode) && st->st_nlink == 0 && len >= sizeof mark &&
           strcmp(path + len - (sizeof mark - 1), mark) == 0;
}

/*
 * The descriptor says which file is meant. The kernel's path of this file says in which place it is. The walk along
 * that path, from the place downwards, has to arrive at the same file, so that a tenant gains nothing by renaming
 * meanwhile.
 */
static int find_fd(const struct sp_places *places, int task, int number) {
    char name[32];
    char path[PATH_MAX];
    struct stat wanted;
    struct stat found;
    name_of_fd(name, "fd/", number);
    sp_auto_fd int file = openat(task, name, O_PATH | O_CLOEXEC);
    if (file == -1) {
        return errno == ENOENT ? -EBADF : -EPERM;
    }
    name_of_fd(name, "self/fd/", file);
    if (stat_fd(file, &wanted) != 0) {
        return -EPERM;
    }
    for (int i = 0; i < TRIES; i++) {
        const struct sp_place *place = NULL;
        if (link_text(places->proc, name, path, sizeof path) == 0) {
            place = place_of(places, path);
        }
        if (place == NULL) {
            return -EPERM;
        }
        if (was_inside(path, &wanted)) {
            return sp_fd_steal(&file);
        }
        sp_auto_fd int again = walk(place, path, O_NOFOLLOW, DOWNWARDS | RESOLVE_NO_SYMLINKS);
        if (again >= 0 && stat_fd(again, &found) == 0 && found.st_dev == wanted.st_dev &&
            found.st_ino == wanted.st_ino) {
            return sp_fd_steal(&again);
        }
        (void)stat_fd(file, &wanted); /* it may have been removed */
    }
    return -EPERM;
}

/* ---- a path of the tenant ---- */

/* C libraries write a descriptor so where a call takes only a path. -1: it is another path. */
static int fd_of_path(const char *path) {
    static const char prefix[] = "/proc/self/fd/";
    int number = 0;
    if (strncmp(path, prefix, sizeof prefix - 1) != 0) {
        return -1;
    }
    path += sizeof prefix - 1;
    const size_t digits = strspn(path, "0123456789");
    if (digits == 0 || digits > 6 || path[digits] != '\0') {
        return -1;
    }
    for (; *path != '\0'; path++) {
        number = 10 * number + (*path - '0');
    }
    return number;
}

/* The path from the root: the kernel's name of the directory that it is relative to, and the path. */
static int whole_path(int task, const struct sp_call *call, char text[TEXT_MAX]) {
    char name[32] = "cwd";
    text[0] = '\0';
    if (call->path[0] != '/') {
        if (call->dir != AT_FDCWD && call->dir < 0) {
            return -EBADF;
        }
        if (call->dir != AT_FDCWD) {
            name_of_fd(name, "fd/", call->dir);
        }
        int rc = link_text(task, name, text, PATH_MAX);
        if (rc != 0) {
            return rc == -ENOENT && call->dir != AT_FDCWD ? -EBADF : -EPERM;
        }
    }
    char *at = sp_append(text + strlen(text), text + TEXT_MAX, call->path[0] != '/' ? "/" : "");
    return sp_append(at, text + TEXT_MAX, call->path) != NULL ? 0 : -ENAMETOOLONG;
}

int sp_places_find(const struct sp_places *places, int task, const struct sp_call *call) {
    char text[TEXT_MAX];
    int number = call->is_file ? call->dir : call->follow ? fd_of_path(call->path) : -1;
    if (number >= 0) {
        return find_fd(places, task, number);
    }
    int rc = call->is_file ? 0 : whole_path(task, call, text);
    if (call->is_file) { /* AT_EMPTY_PATH with AT_FDCWD: the working directory */
        rc = call->dir == AT_FDCWD ? link_text(task, "cwd", text, sizeof text) : -EBADF;
    }
    if (rc != 0) {
        return rc;
    }
    const struct sp_place *place = place_of(places, text);
    return place != NULL ? walk(place, text, call->follow ? 0 : O_NOFOLLOW, DOWNWARDS) : -EPERM;
}
