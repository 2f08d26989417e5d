/*
 * What init can prove about its sandbox before READY, and what the agent can prove about its own. The last five are the
 * agent's: on macOS the system refuses access to things of the host that a Linux sandbox does not contain at all. A
 * fact that READY does not report counts as not proved.
 */
#ifndef SANDPOOL_COMMON_FACT_H
#define SANDPOOL_COMMON_FACT_H

#include <stdint.h>

/* name, words for an error text */
#define SP_FACTS(X)                                                        \
    X(USER_NS, "a user namespace of its own")                              \
    X(PID_NS, "a pid namespace of its own")                                \
    X(MOUNT_NS, "a mount namespace of its own")                            \
    X(IPC_NS, "an ipc namespace of its own")                               \
    X(UTS_NS, "a uts namespace and a hostname of its own")                 \
    X(CGROUP_NS, "a cgroup namespace of its own")                          \
    X(NET_NS, "a network namespace of its own")                            \
    X(ID_MAP, "one unprivileged id and no other")                          \
    X(ROOT_READ_ONLY, "a root that cannot be written")                     \
    X(ROOT_FLAGS, "a root mounted ro, nosuid and nodev")                   \
    X(SCRATCH, "a private, bounded /tmp")                                  \
    X(OWN_PROC, "a /proc of its own")                                      \
    X(NO_CAPS, "empty capability sets, the bounding set too")              \
    X(NO_PRIVILEGE, "no capabilities")                                     \
    X(NO_NEW_PRIVS, "no_new_privs")                                        \
    X(FILTERED, "both seccomp filters in force")                           \
    X(CALL_DENIED, "a forbidden system call refused")                      \
    X(NO_INET, "no way to create an inet socket")                          \
    X(NO_LINK, "no network interface but lo, in the state asked for")      \
    X(NO_UNIX, "no way to create a unix socket but a connected pair")      \
    X(UNIX_SCOPED, "no way to an abstract unix socket of the host")        \
    X(LANDLOCK_DENIES, "a device refused by Landlock")                     \
    X(LIMITS, "the fixed resource limits")                                 \
    X(MEMORY_WATCH, "a view of the memory of its processes")               \
    X(LIMIT_DATA, "RLIMIT_DATA")                                           \
    X(LIMIT_NPROC, "RLIMIT_NPROC, or a count of its processes")            \
    X(HOST_UNREAD, "a directory of the host that cannot be read")          \
    X(HOST_UNWRITTEN, "a directory of the host that cannot be written to") \
    X(HOST_UNSIGNALLED, "a host out of reach of signals")                  \
    X(NO_CONNECTION, "no way to bind or connect a socket")                 \
    X(NO_SET_ID, "no way to run a set-id program")

enum sp_fact_index {
#define X(name, words) SP_FACT_INDEX_##name,
    SP_FACTS(X)
#undef X
        SP_FACT_COUNT
};

/* One bit each. They are kept and sent as a uint32_t; as constants of an enum they must also fit into an int. */
enum sp_fact {
#define X(name, words) SP_FACT_##name = 1 << SP_FACT_INDEX_##name,
    SP_FACTS(X)
#undef X
        SP_FACT_ALL = (int)((UINT32_C(1) << SP_FACT_COUNT) - 1)
};

_Static_assert(SP_FACT_COUNT <= 31, "a 32nd fact needs another type than int");

#endif
