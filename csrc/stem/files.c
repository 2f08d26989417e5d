/* Notes the files of the modules that the interpreter has imported, and finds out whether one of them has changed. */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "stem/process.h"

#define LOOK_NS SP_SEC(1)

struct file {
    char *path;
    uint64_t device, inode, size;
    int64_t modified_ns, changed_ns;
};

static struct file *files;
static size_t n_files, room;
static int64_t next_look;
static bool stale;

/* A file that is not there is all zeros. */
static struct file state_of(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) {
        return (struct file){.path = NULL};
    }
    return (struct file){.device = st.st_dev,
                         .inode = st.st_ino,
                         .size = (uint64_t)st.st_size,
                         .modified_ns = sp_ns_of(st.st_mtim),
                         .changed_ns = sp_ns_of(st.st_ctim)};
}

static bool is_same(const struct file *a, const struct file *b) {
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified_ns == b->modified_ns &&
           a->changed_ns == b->changed_ns;
}

int sp_stem_note_file(const char *name) {
    char elsewhere[PATH_MAX];
    const char *path = sp_stem_lasting_path(name, elsewhere, sizeof elsewhere);
    if (path == NULL) {
        return 0;
    }
    if (n_files == room) {
        size_t more = room != 0 ? 2 * room : 256;
        struct file *grown = realloc(files, more * sizeof *files);
        if (grown == NULL) {
            return -ENOMEM;
        }
        files = grown;
        room = more;
    }
    files[n_files] = state_of(name);
    files[n_files].path = strdup(path);
    if (files[n_files].path == NULL) {
        return -ENOMEM;
    }
    n_files++;
    next_look = sp_now() + LOOK_NS;
    return 0;
}

bool sp_stem_is_stale(void) {
    if (stale || sp_now() < next_look) {
        return stale;
    }
    for (size_t i = 0; i < n_files && !stale; i++) {
        const struct file now = state_of(files[i].path);
        stale = !is_same(&now, &files[i]);
    }
    next_look = sp_now() + LOOK_NS;
    return stale;
}
