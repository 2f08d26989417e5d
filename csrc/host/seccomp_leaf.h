/* The leaves of the search: verdicts, and the looks at arguments that lead to one. Only for seccomp_linux.c. */
#ifndef SANDPOOL_HOST_SECCOMP_LEAF_H
#define SANDPOOL_HOST_SECCOMP_LEAF_H

#include "host/seccomp.h"
#include "host/seccomp_program.h"

/* What is done at the end of the search: a verdict, or a look at the arguments and then a verdict. */
enum leaf {
    ALLOW,
    DENY,
    UNKNOWN,
    CHECK_MODE_1,
    CHECK_MODE_2,
    CHECK_OPEN,
    CHECK_OPENAT,
    REFUSE_OPENAT2,
    CHECK_NAMESPACES,
    CHECK_THREAD,
    CHECK_UNSHARE,
    CHECK_PRLIMIT,
    CHECK_PID,
    CHECK_PRIORITY,
    CHECK_IOPRIO,
    CHECK_IOCTL,
    CHECK_PERSONALITY,
    CHECK_SETRLIMIT,
    CHECK_FCNTL,
    CHECK_PRCTL,
    CHECK_DUMPABLE,
    CHECK_CLOSE_RANGE,
    CHECK_MMAP,
    CHECK_MEMFD,
    CHECK_SETSOCKOPT,
    CHECK_SOCKET,
    CHECK_SOCKETPAIR,
    CHECK_SYNC,
    CHECK_ADVICE,
    CHECK_NAMED,
    LEAF_COUNT
};

/* Writes it, in order; it ends with a verdict on every path. */
void sp_seccomp_write_leaf(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy);

#endif
