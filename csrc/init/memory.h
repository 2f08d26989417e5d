/*
 * init's watch over the memory of the whole sandbox, for where no cgroup does it: RLIMIT_DATA bounds one process, and
 * none of what is shared. It looks often enough that no sum above twice the limit lasts longer than 100 ms.
 *
 * Counted: anonymous and swapped pages, page tables, mapped shared memory, the scratch tmpfs, SysV segments and memfds
 * that nobody maps. Pages that several processes share count once. No privilege is needed.
 *
 * A tenant that means to can hide shared memory: memfds of a process that made itself undumpable, in a descriptor table
 * of one thread's own, or under way in a socket; and anonymous shared mappings whose pages it unmaps but keeps.
 */
#ifndef SANDPOOL_INIT_MEMORY_H
#define SANDPOOL_INIT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct sp_memory_watch {
    uint64_t limit;    /* bytes; 0: nothing is watched */
    int64_t next_look; /* SP_NEVER without a limit */
    unsigned breaches; /* looks in a row that found too much */
    int64_t first_breach;
};

/* The looks begin now. */
void sp_memory_watch_begin(struct sp_memory_watch *watch, uint64_t limit);
/* To be called when next_look has come. True when the command is to be ended. */
bool sp_memory_watch_look(struct sp_memory_watch *watch);
/* The sum in bytes: `exact` walks page tables where the quick one may count a page twice. */
uint64_t sp_memory_used(bool exact);

#endif
