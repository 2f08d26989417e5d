/* The cgroups of one launcher, shared by cgroup.c and cgroup_dir.c. */
#ifndef SANDPOOL_HOST_LINUX_CGROUP_STATE_H
#define SANDPOOL_HOST_LINUX_CGROUP_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/sys/own.h"

/* The number of directories that are created in advance: a burst of as many births does not wait for them. */
#define SP_CGROUP_STASH 8

struct sp_cgroups {
    char *path;
    int dir;
    struct sp_identity dir_identity; /* see own.h */
    pthread_rwlock_t dir_lock;       /* held for reading by who uses `dir`, for writing by who closes it */
    uint32_t enforced;
    struct sp_cgroup_limits {
        uint64_t memory_bytes, max_processes, cpu_quota_us, cpu_period_us;
        uint64_t other_processes; /* init, and the keeper of an interpreter's memory */
    } limits;

    pthread_mutex_t lock;
    uint32_t last; /* the number of the latest directory */
    uint32_t stash[SP_CGROUP_STASH];
    uint32_t n_stash;
    uint32_t *dying; /* directories to remove */
    uint32_t n_dying, dying_cap;
    bool closed;
};

/* Keeps `dir` open until sp_cgroups_leave(). NULL: sp_cgroups_close() has closed it. */
struct sp_cgroups *sp_cgroups_enter(struct sp_cgroups *c);
void sp_cgroups_leave(struct sp_cgroups **c);
/* Left when its scope ends: `sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);` */
#define sp_auto_leave __attribute__((cleanup(sp_cgroups_leave)))

/* ---- cgroup_dir.c: the directory of one sandbox, and the files of any cgroup ---- */
/* Writes "s<number>" to `name`, or "s<number>/<file>" if `file` is not NULL. Returns `name`. */
const char *sp_cgroup_name(char name[64], uint32_t number, const char *file);
/* 0 or -errno. */
int sp_cgroup_write(int dir, const char *name, const char *text);
int sp_cgroup_read(int dir, const char *name, char *text, size_t size);
/* Whether one of the words of the list, which are separated by spaces or newlines, is `word`. */
bool sp_cgroup_has_word(const char *list, const char *word);
/* Makes the zygote's user the owner of this cgroup.procs. 0 or -errno. */
int sp_cgroup_give_to_zygote(int dir, const char *procs);
/* Creates the directory of a sandbox, with its limits. 0, or -errno and no directory. */
int sp_cgroup_make(struct sp_cgroups *c, uint32_t number);

#endif
