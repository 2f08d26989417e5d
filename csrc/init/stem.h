/*
 * What init needs of the interpreter that its process is a copy of, where the zygote has become one: the stem. init and
 * its loop run only our own code on that copy. The standby, and each process that is to run the interpreter, is a fork
 * in which it comes to life again.
 */
#ifndef SANDPOOL_INIT_STEM_H
#define SANDPOOL_INIT_STEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire.h"
#include "init/command.h"

struct sp_stem {
    /* Called first in a fork of init: makes the interpreter usable, and has it get ready for the code of a tenant.
     * Returns 0, or -errno. Then it has filled *why, and after that written the traceback to the descriptor
     * `diagnostics`, at most SP_DIAGNOSTICS_MAX bytes at once: init kills it as soon as it has read them. Returns a
     * second time, with -errno, if a hook of the caller gives up. Unless it `must` be ready, a hook of the caller that
     * fails is no failure here: then the code of the tenant does not run, and the traceback is reported in place of its
     * results. */
    int (*prepare)(int diagnostics, bool must, struct sp_rec_failed *why);
    /* The process has its streams, its limits and its last filter: hands it to the interpreter, which runs the
     * command. Before that it clears *starting and unmaps what it shares with init; both may be NULL. */
    __attribute__((noreturn)) void (*run)(const struct sp_command *command, void *shared, size_t size,
                                          _Atomic uint32_t *starting);
    /* In the zygote: whether a file that the interpreter has imported was changed since. */
    bool (*is_stale)(void);
    /* What the interpreter had when it began to serve. It is not counted as the tenant's. */
    uint64_t data_bytes;   /* as RLIMIT_DATA counts */
    uint64_t memory_bytes; /* as the memory watch counts, without the image */
    /* Of its image: memory that its copies have as a private mapping of one file. What they have mapped of it, the
     * kernel shows as shared memory. A page that they have written to is theirs, and counts. */
    uint64_t image_bytes;
};

#endif
