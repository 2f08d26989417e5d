/*
 * The Landlock tier of the launcher: what its zygotes start with where the kernel refuses namespaces, and the
 * directories of its leases.
 */
#ifndef SANDPOOL_HOST_LINUX_TIER_H
#define SANDPOOL_HOST_LINUX_TIER_H

#include <pthread.h>
#include <stdbool.h>

#include "host/sys/own.h"
#include "sandpool.h"

/* The directory of a lease whose sandbox was killed. */
struct sp_left {
    struct sp_left *next;
    int pidfd; /* of its init: once it is dead, nobody writes to the directory any more */
    uint32_t lease;
    unsigned tries;
    struct sp_identity pidfd_identity;
    int64_t kill_at; /* when init is killed if it has not ended by itself */
};

struct sp_tier {
    bool lower;      /* this launcher's sandboxes have no namespaces */
    bool lease_uids; /* each lease gets ids of its own */
    uint32_t abi;    /* of Landlock */
    char *leases;    /* the directory of the leases' directories */
    int root;        /* its descriptor, locked as long as this process lives; -1: there is none */
    struct sp_identity root_identity;
    pthread_mutex_t lock;
    struct sp_left *left;
    bool closed; /* nothing comes to `left` any more */
};

void sp_tier_init(struct sp_tier *tier);
/* Whether the kernel, or what surrounds this process, has refused what a namespace needs. */
bool sp_tier_is_refusal(const sp_error *error);
/* Prepares the lower tier. 0, or SP_E_CREATE with *error filled: what the configuration asks for and this tier cannot
 * give, or why it cannot be had. */
int sp_tier_lower(struct sp_tier *tier, const sp_sandbox_options *options, sp_error *error);
/* A sandbox was asked to end: its init is killed if it does not do so in time, and its directory is removed once it is
 * dead. `pidfd` remains the caller's. */
void sp_tier_leave(struct sp_tier *tier, uint32_t lease, int pidfd);
/* Removes what can be removed by now. True while there is more to do soon. */
bool sp_tier_tend(struct sp_tier *tier);
/* Every sandbox was killed: removes all that is left. */
void sp_tier_close(struct sp_tier *tier);
void sp_tier_free(struct sp_tier *tier);

#endif
