#include "host/sandbox/scratch_root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "host/sandbox/scratch.h"
#include "host/sandbox/strays.h"

#define PREFIX "pysandpool-"
#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
/* Between the creation and the locking of a directory, a sweep of another host may take it for one of a killed host. */
#define MAKE_TRIES 16
/* How many entries one sweep removes from each scratch directory of a killed host; the next sweep removes more. */
#define SWEEP_BUDGET 100000
#define REMOVE_BUDGET 10000000
#define REMOVE_NS SP_SEC(1)
#define REMOVE_PAUSE_NS SP_MS(2)

static bool is_at(int dir, const char *path) {
    struct stat opened;
    struct stat found;
    return fstat(dir, &opened) == 0 && lstat(path, &found) == 0 && opened.st_ino == found.st_ino &&
           opened.st_dev == found.st_dev;
}

/* Creates the directory and locks it. Its descriptor; -EAGAIN when a sweep has removed it; or -errno. */
static int make_one(char *path) {
    if (mkdtemp(path) == NULL) {
        return -errno;
    }
    /* The umask of the host may have taken rights from its own user. */
    (void)fchmodat(AT_FDCWD, path, 0700, AT_SYMLINK_NOFOLLOW);
    sp_auto_fd int dir = open(path, OPEN_DIRECTORY);
    if (dir != -1 && flock(dir, LOCK_EX | LOCK_NB) == 0) {
        return is_at(dir, path) ? sp_fd_steal(&dir) : -EAGAIN;
    }
    int rc = errno == EWOULDBLOCK || errno == ENOENT ? -EAGAIN : -errno;
    (void)rmdir(path);
    return rc;
}

int sp_scratch_root_make(const char *parent, char **path) {
    size_t size = strlen(parent) + sizeof "/" PREFIX "XXXXXX";
    int rc = -EAGAIN;
    *path = malloc(size);
    if (*path == NULL) {
        return -ENOMEM;
    }
    for (int i = 0; i < MAKE_TRIES && rc == -EAGAIN; i++) {
        (void)snprintf(*path, size, "%s/" PREFIX "XXXXXX", parent);
        rc = make_one(*path);
    }
    if (rc < 0) {
        free(*path);
        *path = NULL;
    }
    return rc;
}

/* True when the directory is empty. */
static bool remove_entries(int root, unsigned budget) {
    int own = dup(root);
    DIR *list = own != -1 ? fdopendir(own) : NULL;
    bool all = list != NULL;
    if (list == NULL) {
        sp_fd_close(&own);
        return false;
    }
    rewinddir(list);
    for (const struct dirent *e; (e = readdir(list)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            (void)sp_scratch_remove(root, e->d_name, budget);
            all = false;
        }
    }
    closedir(list);
    return all;
}

void sp_scratch_root_remove(int root, const char *path) {
    const int64_t until = sp_now() + REMOVE_NS;
    const struct timespec pause = {.tv_nsec = REMOVE_PAUSE_NS};
    while (!remove_entries(root, REMOVE_BUDGET) && sp_now() < until) {
        if (rmdir(path) == 0) {
            return;
        }
        (void)nanosleep(&pause, NULL);
    }
    (void)rmdir(path);
}

/* Empties the root of a killed host: kills the strays of each scratch directory and removes the directory. */
static void empty_root(int root, const char *path) {
    char scratch[4096];
    int own = dup(root);
    DIR *list = own != -1 ? fdopendir(own) : NULL;
    if (list == NULL) {
        sp_fd_close(&own);
        return;
    }
    for (const struct dirent *e; (e = readdir(list)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || unlinkat(root, e->d_name, 0) == 0) {
            continue;
        }
        if (snprintf(scratch, sizeof scratch, "%s/%s", path, e->d_name) < (int)sizeof scratch) {
            sp_kill_strays(scratch);
        }
        (void)sp_scratch_remove(root, e->d_name, SWEEP_BUDGET);
    }
    closedir(list);
}

static void sweep_one(int parent, const char *parent_path, const char *name) {
    char path[4096];
    struct stat st;
    sp_auto_fd int root = openat(parent, name, OPEN_DIRECTORY);
    if (root == -1 || fstat(root, &st) != 0 || st.st_uid != geteuid() || flock(root, LOCK_EX | LOCK_NB) != 0) {
        return;
    }
    if (snprintf(path, sizeof path, "%s/%s", parent_path, name) < (int)sizeof path) {
        empty_root(root, path);
    }
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

void sp_scratch_root_sweep(const char *parent) {
    sp_auto_fd int dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int own = dir != -1 ? dup(dir) : -1;
    DIR *list = own != -1 ? fdopendir(own) : NULL;
    if (list == NULL) {
        sp_fd_close(&own);
        return;
    }
    for (const struct dirent *e; (e = readdir(list)) != NULL;) {
        if (strncmp(e->d_name, PREFIX, sizeof PREFIX - 1) == 0) {
            sweep_one(dir, parent, e->d_name);
        }
    }
    closedir(list);
}
