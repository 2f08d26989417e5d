#include "host/sandbox/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

/* A tenant may have removed the owner's permissions of a directory. This restores them, without following links. */
static int open_dir(int parent, const char *name) {
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent, name, flags);
    if (fd == -1 && errno == EACCES && fchmodat(parent, name, 0700, AT_SYMLINK_NOFOLLOW) == 0) {
        fd = openat(parent, name, flags);
    }
    return fd;
}

static bool is_dot(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

/* Moves a directory that is not empty up to `top`, under a name that is not in use there, so that two levels of
 * directories are enough to empty any tree. */
static bool lift(int dir, const char *name, int top) {
    static atomic_uint number;
    char lifted[64];
    struct stat st;
    do {
        (void)snprintf(lifted, sizeof lifted, "sandpool-lifted-%u", atomic_fetch_add(&number, 1));
    } while (fstatat(top, lifted, &st, AT_SYMLINK_NOFOLLOW) == 0);
    (void)fchmodat(dir, name, 0700, AT_SYMLINK_NOFOLLOW); /* it must be writable itself, because its ".." changes */
    return renameat(dir, name, top, lifted) == 0;
}

/* Empties `dir`, moving its directories to `top`. False when an entry could not be removed or moved. */
static bool empty_into(int dir, int top, unsigned *budget) {
    int own = dup(dir);
    DIR *list = own != -1 ? fdopendir(own) : NULL;
    bool all = list != NULL;
    if (list == NULL) {
        sp_fd_close(&own);
        return false;
    }
    (void)fchmod(dir, 0700);
    rewinddir(list);
    for (const struct dirent *e; *budget != 0 && (e = readdir(list)) != NULL;) {
        if (is_dot(e->d_name)) {
            continue;
        }
        --*budget;
        bool gone = unlinkat(dir, e->d_name, 0) == 0 || unlinkat(dir, e->d_name, AT_REMOVEDIR) == 0;
        all = (gone || lift(dir, e->d_name, top)) && all;
    }
    closedir(list);
    return all;
}

/* One pass over `top`: removes its files, empties its directories into it. True when another pass may remove more. */
static bool pass(int top, unsigned *budget) {
    bool progress = false;
    int own = dup(top);
    DIR *list = own != -1 ? fdopendir(own) : NULL;
    if (list == NULL) {
        sp_fd_close(&own);
        return false;
    }
    rewinddir(list);
    for (const struct dirent *e; *budget != 0 && (e = readdir(list)) != NULL;) {
        if (is_dot(e->d_name)) {
            continue;
        }
        --*budget;
        if (unlinkat(top, e->d_name, 0) == 0 || unlinkat(top, e->d_name, AT_REMOVEDIR) == 0) {
            progress = true;
            continue;
        }
        sp_auto_fd int dir = open_dir(top, e->d_name);
        progress = (dir != -1 && empty_into(dir, top, budget)) || progress;
    }
    closedir(list);
    return progress;
}

bool sp_scratch_remove(int root, const char *name, unsigned budget) {
    if (unlinkat(root, name, AT_REMOVEDIR) == 0) {
        return false;
    }
    sp_auto_fd int top = open_dir(root, name);
    if (top == -1) {
        return false;
    }
    (void)fchmod(top, 0700);
    bool progress = true;
    while (budget != 0 && progress) {
        progress = pass(top, &budget);
    }
    return unlinkat(root, name, AT_REMOVEDIR) != 0 && budget == 0;
}
