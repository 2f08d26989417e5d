/*
 * The leaves of the search: verdicts, the looks at arguments that lead to one, and the choices by an option's number.
 * Only for the files seccomp_*.c.
 */
#ifndef SANDPOOL_HOST_SECCOMP_LEAF_H
#define SANDPOOL_HOST_SECCOMP_LEAF_H

#include "host/seccomp/program.h"
#include "host/seccomp/seccomp.h"

/* What is done at the end of the search: a verdict, or a look at the arguments and then a verdict. */
enum leaf {
    ALLOW,
    DENY,
    UNKNOWN,
    PRETEND, /* success that never happened */
    REFUSE_EINVAL,
    REFUSE_EIO,
    REFUSE_ENOTTY,
    REFUSE_EOPNOTSUPP,
    REFUSE_ENOPROTOOPT,
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
    CHECK_PERSONALITY,
    CHECK_SETRLIMIT,
    CHECK_CLOSE_RANGE,
    CHECK_MMAP,
    CHECK_MEMFD,
    CHECK_SNDBUF,
    CHECK_RCVBUF,
    CHECK_SOCKET,
    CHECK_SOCKETPAIR,
    CHECK_SYNC,
    CHECK_ADVICE,
    CHECK_NAMED,
    CHECK_LATE_PRCTL, /* from here to CHECK_TRACED_BASE: what stands beside the number of an option */
    CHECK_LAST_PRCTL,
    CHECK_LATE_FILTER,
    CHECK_LAST_FILTER,
    CHECK_OWNER,
    CHECK_FILTER_FLAGS,
    CHECK_TRACE_OPTIONS,
    CHECK_SEIZE,
    CHECK_TRACED_BASE,
    CHOOSE_PRCTL, /* another search, over the numbers of an option: see sp_seccomp_options() */
    CHOOSE_ARCH_PRCTL,
    CHOOSE_MADVISE,
    CHOOSE_FCNTL,
    CHOOSE_IOCTL,
    CHOOSE_PTRACE,
    CHOOSE_SECCOMP,
    CHOOSE_LEVEL,
    CHOOSE_SOCKET_OPTION,
    CHOOSE_TCP_OPTION,
    LEAF_COUNT
};

/* Options of one call, by number: an allow-list. What no range has is unknown, as to a kernel older than the option. */
struct option_range {
    uint32_t first, last;
    enum leaf leaf;
};

struct options {
    const struct option_range *ranges; /* ascending */
    uint32_t n;
    unsigned arg; /* which argument holds the number; the kernel reads its low 32 bits */
    enum leaf unknown;
    bool whole; /* the kernel reads all 64 bits: garbage in the upper half is another number */
};

/* NULL when the leaf is no choice. */
const struct options *sp_seccomp_options(enum leaf leaf);

#define INIT_PID 1 /* its process group too */

/* Writes it, in order; it ends with a verdict on every path. */
void sp_seccomp_write_leaf(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy);
/* The same for what stands beside an option; only for sp_seccomp_write_leaf(). */
void sp_seccomp_write_option(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy);

#endif
