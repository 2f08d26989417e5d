/* The cgroups of one launcher, shared by cgroup.c and cgroup_dir.c. */
#ifndef SANDPOOL_HOST_LINUX_CGROUP_STATE_H
#define SANDPOOL_HOST_LINUX_CGROUP_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/sys/own.h"

/* Directories made ahead: a burst of births that large pays nothing for them. */
#define SP_CGROUP_STASH 8

struct sp_cgroups {
    char *path;
    int dir;
    struct sp_identity dir_identity; /* see own.h */
    uint32_t enforced;
    struct sp_cgroup_limits {
        uint64_t memory_bytes, max_processes, cpu_quota_us, cpu_period_us;
    } limits;

    pthread_mutex_t lock;
    uint32_t last; /* number given */
    uint32_t stash[SP_CGROUP_STASH];
    uint32_t n_stash;
    uint32_t *dying; /* to be removed */
    uint32_t n_dying, dying_cap;
    bool closed;
};

/* ---- cgroup_dir.c: the directory of one sandbox, and the files of any cgroup ---- */
/* Returns `name`. */
const char *sp_cgroup_name(char name[64], uint32_t number, const char *file);
/* 0 or -errno. */
int sp_cgroup_write(int dir, const char *name, const char *text);
int sp_cgroup_read(int dir, const char *name, char *text, size_t size);
bool sp_cgroup_has_word(const char *list, const char *word);
int sp_cgroup_give_to_zygote(int dir, const char *procs);
int sp_cgroup_make(struct sp_cgroups *c, uint32_t number);

#endif
