/*
 * The leaves of the search: verdicts, checks of arguments that lead to a verdict, and choices by the number of an
 * option. Only for the files of this folder.
 */
#ifndef SANDPOOL_HOST_SECCOMP_LEAF_H
#define SANDPOOL_HOST_SECCOMP_LEAF_H

#include "host/seccomp/program.h"
#include "host/seccomp/seccomp.h"

/* The end of a search: a verdict, or a check of the arguments and then a verdict. */
enum leaf {
    ALLOW,
    DENY,
    UNKNOWN,
    PRETEND, /* returns success without doing anything */
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
    CHECK_NODE_1,
    CHECK_NODE_2,
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
    CHECK_SEGMENT,
    CHECK_SYNC,
    CHECK_ADVICE,
    CHECK_UNMARKED,
    CHECK_SNDBUF, /* from here to CHECK_NAMED: checks of the calls of sockets */
    CHECK_RCVBUF,
    CHECK_REUSEPORT,
    CHECK_GETSOCKOPT,
    CHECK_SOCKET,
    CHECK_SOCKETPAIR,
    CHECK_NAMED,
    CHECK_LATE_PRCTL, /* from here to CHECK_HUGE_PAGES: checks of other arguments than the number of an option */
    CHECK_LAST_PRCTL,
    CHECK_LATE_FILTER,
    CHECK_LAST_FILTER,
    CHECK_OWNER,
    CHECK_FILTER_FLAGS,
    CHECK_TRACE_OPTIONS,
    CHECK_SEIZE,
    CHECK_TRACED_BASE,
    CHECK_HUGE_PAGES,
    CHOOSE_PRCTL, /* from here on: another search, over the numbers of an option; see sp_seccomp_options() */
    CHOOSE_ARCH_PRCTL,
    CHOOSE_MADVISE,
    CHOOSE_FCNTL,
    CHOOSE_IOCTL,
    CHOOSE_PTRACE,
    CHOOSE_KCMP,
    CHOOSE_SECCOMP,
    CHOOSE_RENAME,
    CHOOSE_LEVEL, /* from here on: sp_seccomp_socket_options() */
    CHOOSE_SOCKET_OPTION,
    CHOOSE_TCP_OPTION,
    CHOOSE_IP_OPTION,
    CHOOSE_IPV6_OPTION,
    CHOOSE_UDP_OPTION,
    LEAF_COUNT
};

/* Ranges of option numbers of one call. An option in no range is unknown, as to a kernel that is older than it. */
struct option_range {
    uint32_t first, last;
    enum leaf leaf;
};

struct options {
    const struct option_range *ranges; /* ascending */
    uint32_t n;
    unsigned arg; /* which argument holds the number; the kernel reads its low 32 bits */
    enum leaf unknown;
    bool whole; /* the kernel reads all 64 bits: other bits in the upper half make it another number */
};

/* A list, and its length, as members of struct options. */
#define RANGES(list) list, sizeof(list) / sizeof(list)[0]

/* The options of a leaf CHOOSE_*; NULL for any other leaf. The second: of those of sockets, which the first one asks.
 */
const struct options *sp_seccomp_options(enum leaf leaf);
const struct options *sp_seccomp_socket_options(enum leaf leaf);

/* All tables end far below this number; the kernel's own caches assume 1,024, too. */
#define NR_END 1024

/* The leaf of each system call in a layer, by its number. 0, or -EINVAL for a name that cannot be allowed. */
int sp_seccomp_leaves(enum sp_arch arch, enum sp_layer layer, const struct sp_seccomp_policy *policy,
                      enum leaf leaves[NR_END]);

#define INIT_PID 1 /* also its process group */

/* tier.c: what stands in the place of `leaf` where the policy shares the host. */
enum leaf sp_seccomp_leaf_in_tier(uint8_t rule, enum sp_layer layer, const struct sp_seccomp_policy *policy,
                                  enum leaf leaf);
/* Whether there is a layer that each command installs before its exec. */
bool sp_seccomp_has_exec_layer(const struct sp_seccomp_policy *policy);
/* Refuses to truncate a file that is opened for reading, which Landlock notices only since ABI 3; the flags are loaded.
 */
void sp_seccomp_write_truncation(struct block *b);
/* Writes a check that the call names the calling process itself, by 0, as this argument. */
void sp_seccomp_write_own(struct block *b, unsigned arg);

/* Writes a leaf, in order. It ends with a verdict on every path. */
void sp_seccomp_write_leaf(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy);
/* The same for the leaves from CHECK_SNDBUF to CHECK_NAMED; only sp_seccomp_write_leaf() calls it. */
void sp_seccomp_write_socket(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy);
/* The same for the leaves from CHECK_LATE_PRCTL to CHECK_HUGE_PAGES; only sp_seccomp_write_leaf() calls it. */
void sp_seccomp_write_option(struct block *b, enum leaf leaf, const struct sp_seccomp_policy *policy);

#endif
