#include "host/linux/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/mountinfo.h"

#define FIRST_DIGEST UINT64_C(0xcbf29ce484222325)

void sp_mounts_init(struct sp_mounts *mounts) {
    pthread_mutex_init(&mounts->lock, NULL);
    mounts->fd = -1;
    mounts->digest = FIRST_DIGEST;
}

void sp_mounts_close(struct sp_mounts *mounts) {
    sp_close_own(&mounts->fd, &mounts->identity);
    pthread_mutex_destroy(&mounts->lock);
}

/* The whole file with a NUL at its end, or NULL. The caller frees it. */
static char *read_whole(int fd) {
    size_t size = 16 * 1024;
    size_t len = 0;
    char *text = lseek(fd, 0, SEEK_SET) == 0 ? malloc(size) : NULL;
    while (text != NULL) {
        ssize_t n = read(fd, text + len, size - len - 1);
        if (n == 0) {
            break;
        }
        len += n > 0 ? (size_t)n : 0;
        char *larger = n > 0 && size - len < 4096 ? realloc(text, size *= 2) : text;
        if (n < 0 || larger == NULL) {
            free(text);
            larger = NULL;
        }
        text = larger;
    }
    if (text != NULL) {
        text[len] = '\0';
    }
    return text;
}

static bool is_below_one(const char *point, char *const *dirs, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        size_t len = dirs[i] != NULL ? strlen(dirs[i]) : 0;
        if (len != 0 && strncmp(point, dirs[i], len) == 0 && point[len] == '/') {
            return true;
        }
    }
    return false;
}

/* The whole lines count: they name the mount, its file system and the part of it that is mounted. */
static uint64_t digest_of(char *text, char *const *dirs, uint32_t n) {
    struct sp_mountinfo mount;
    uint64_t digest = FIRST_DIGEST;
    char *rest = text;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        bool counts = sp_mountinfo_parse(line, &mount) && is_below_one(mount.point, dirs, n);
        for (const char *at = line; counts && *at != '\0'; at++) {
            digest = sp_digest(digest, (unsigned char)*at);
        }
    }
    return digest;
}

/* mountinfo has the paths without symbolic links. False: it could not be read. */
static bool look_again(struct sp_mounts *mounts, const struct sp_mounts_dirs *named) {
    const uint32_t n = named->n;
    char **dirs = calloc(n, sizeof *dirs);
    char *text = read_whole(mounts->fd);
    for (uint32_t i = 0; i < n && dirs != NULL; i++) {
        const char *name = named->name(named->arg, i);
        dirs[i] = name != NULL ? realpath(name, NULL) : NULL;
    }
    const bool done = dirs != NULL && text != NULL;
    if (done) {
        mounts->digest = digest_of(text, dirs, n);
    }
    for (uint32_t i = 0; i < n && dirs != NULL; i++) {
        free(dirs[i]);
    }
    free(dirs);
    free(text);
    return done;
}

static bool has_changed(const struct sp_mounts *mounts) {
    struct pollfd p = {.fd = mounts->fd, .events = POLLPRI};
    return poll(&p, 1, 0) > 0;
}

uint64_t sp_mounts_below(struct sp_mounts *mounts, const struct sp_mounts_dirs *dirs, uint64_t identity) {
    pthread_mutex_lock(&mounts->lock);
    bool known = sp_is_own(mounts->fd, &mounts->identity);
    if (!known) { /* the first time, or another part of this process has closed it */
        mounts->fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        mounts->identity = sp_identity_of(mounts->fd);
    }
    if (mounts->fd != -1 && (has_changed(mounts) || !known || mounts->paths_identity != identity)) {
        if (!look_again(mounts, dirs)) { /* poll(2) reports the change once: the next call reads a file opened anew */
            sp_fd_close(&mounts->fd);
        }
        mounts->paths_identity = identity;
    }
    uint64_t digest = mounts->digest;
    pthread_mutex_unlock(&mounts->lock);
    return digest;
}
