/* What is mounted below some paths of the host, in this process's mount namespace. */
#ifndef SANDPOOL_HOST_LINUX_MOUNTS_H
#define SANDPOOL_HOST_LINUX_MOUNTS_H

#include <pthread.h>
#include <stdint.h>

#include "host/sys/own.h"

struct sp_mounts {
    pthread_mutex_t lock;
    int fd; /* /proc/self/mountinfo, which poll(2) reports when a mount comes or goes; -1: there is none */
    struct sp_identity identity;
    uint64_t digest;         /* as of the last change */
    uint64_t paths_identity; /* of the paths then */
};

/* Adds a word to a digest: for two different words the results differ. */
static inline uint64_t sp_digest(uint64_t digest, uint64_t word) {
    digest = (digest ^ word) * UINT64_C(0x100000001b3);
    return digest ^ digest >> 32;
}

void sp_mounts_init(struct sp_mounts *mounts);
void sp_mounts_close(struct sp_mounts *mounts);
/* Some directories: `n` names, some of which may be NULL. */
struct sp_mounts_dirs {
    const char *(*name)(const void *arg, uint32_t i);
    const void *arg;
    uint32_t n;
};

/* A number that changes with what is mounted below one of these paths. `identity` changes when one of them leads
 * elsewhere. Any thread. */
uint64_t sp_mounts_below(struct sp_mounts *mounts, const struct sp_mounts_dirs *dirs, uint64_t identity);

#endif
