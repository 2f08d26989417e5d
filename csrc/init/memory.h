/*
 * init's watch over the memory of the whole sandbox, for where no cgroup does it: RLIMIT_DATA bounds one process, and
 * none of what is shared. It looks often enough that no sum above twice the limit lasts longer than 100 ms.
 *
 * Counted: anonymous and swapped pages, page tables, mapped shared memory, the scratch tmpfs, System V objects, memfds,
 * and, when there are many, sockets, pipes and open /proc files as if they were full, and mappings; file locks and
 * epoll watches. Pages that several processes share count once. A process that init may not look into counts as too
 * much: that is for secrets, and here it would be one from the limit. No privilege is needed.
 *
 * Not counted: anonymous shared memory of which only a part is still mapped; other memory of the kernel.
 */
#ifndef SANDPOOL_INIT_MEMORY_H
#define SANDPOOL_INIT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"
#include "init/kernel_memory.h"

/* What was there when the command began. */
struct sp_memory_base {
    uint64_t shared_by_all; /* shared memory of the whole machine */
    uint64_t kept;          /* of this sandbox, by no process */
};

struct sp_memory_watch {
    uint64_t limit;  /* bytes; 0: no sum is watched */
    bool by_cgroup;  /* that has the sum, and leaves locks to init */
    bool only_pairs; /* no socket can be other than half of a pair, whose buffers' size is known */
    struct sp_memory_base base;
    struct sp_kernel_watch kernel;
    uint64_t by_kernel, reach; /* what the last deep look has found: the kernel's, and how far shared mappings reach */
    int64_t next_look;         /* SP_NEVER: nothing is watched */
    bool over;                 /* the command has been ended for it: the watch does not begin again */
    unsigned breaches;         /* looks in a row that found too much */
    int64_t first_breach;
};

/* The looks begin now. */
void sp_memory_watch_begin(struct sp_memory_watch *watch, const struct sp_rec_config *config,
                           const struct sp_memory_base *base);
/* To be called when next_look has come. True when the command is to be ended. */
bool sp_memory_watch_look(struct sp_memory_watch *watch);

/* Bytes of scratch and System V objects. */
uint64_t sp_memory_kept(void);
/* Bytes of shared memory on this machine, the sandbox's or not. */
uint64_t sp_memory_shared_by_all(void);

#endif
