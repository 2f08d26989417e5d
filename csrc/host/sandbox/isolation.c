/* Which facts about its isolation a sandbox must prove before it is handed out. */
#include <errno.h>

#include "common/fact.h"
#include "host/sandbox/launch.h"

static const char *const words[] = {
#define X(name, text) text,
    SP_FACTS(X)
#undef X
};

const char *sp_fact_name(int fact) {
    static const char *const names[] = {
#define X(name, text) #name,
        SP_FACTS(X)
#undef X
    };
    return fact >= 0 && fact < SP_FACT_COUNT ? names[fact] : "unknown";
}

/* Every sandbox must prove these, even if the configuration allows degradation. */
#define ALWAYS                                                                                                        \
    (SP_FACT_USER_NS | SP_FACT_PID_NS | SP_FACT_MOUNT_NS | SP_FACT_IPC_NS | SP_FACT_ID_MAP | SP_FACT_ROOT_READ_ONLY | \
     SP_FACT_ROOT_FLAGS | SP_FACT_SCRATCH | SP_FACT_NO_CAPS | SP_FACT_NO_PRIVILEGE | SP_FACT_NO_NEW_PRIVS |           \
     SP_FACT_FILTERED | SP_FACT_CALL_DENIED | SP_FACT_LIMITS)
/* A sandbox must prove these, too, unless the configuration allows degradation. Not SP_FACT_UTS_NS, which is reported
 * alone: without it a command sees the name of the host, and nothing else. */
#define DISPENSABLE (SP_FACT_CGROUP_NS | SP_FACT_OWN_PROC)

static uint32_t demanded_of_network(const sp_sandbox_options *o) {
    if (o->network == SP_NET_HOST) {
        return 0;
    }
    /* A sandbox without a network namespace of its own is cut off from the host's network only if it cannot create an
     * inet socket. */
    bool no_inet = o->network == SP_NET_NONE && o->seccomp_profile == SP_SECCOMP_ESSENTIAL;
    if (!no_inet) {
        return SP_FACT_NET_NS | SP_FACT_NO_LINK;
    }
    bool may_share = o->allow_degradation != 0 && o->allow_unix_sockets != SP_UNIX_ANY;
    return SP_FACT_NO_INET | (may_share ? 0 : SP_FACT_NET_NS);
}

static uint32_t demanded_of_unix(const sp_sandbox_options *o) {
    return o->allow_unix_sockets == SP_UNIX_ANY      ? 0
           : o->allow_unix_sockets == SP_UNIX_SCOPED ? SP_FACT_UNIX_SCOPED
                                                     : SP_FACT_UNIX_SCOPED | SP_FACT_NO_UNIX;
}

uint32_t sp_facts_demanded(const sp_sandbox_options *o, uint32_t by_cgroup) {
    uint32_t demanded =
        ALWAYS | demanded_of_network(o) | demanded_of_unix(o) | (o->allow_degradation != 0 ? 0 : DISPENSABLE);
    if (o->memory_bytes != 0 && (by_cgroup & SP_CGROUP_MEMORY) == 0) {
        demanded |= o->allow_degradation != 0 ? 0 : SP_FACT_MEMORY_WATCH;
    }
    demanded |= o->data_bytes != 0 ? SP_FACT_LIMIT_DATA : 0;
    /* Before Linux 5.14 only who sees a /proc can count processes. */
    return demanded | (o->max_processes != 0 && o->allow_degradation == 0 ? SP_FACT_LIMIT_NPROC : 0);
}

/* Without Landlock there is no such sandbox, and everything that a namespace would hide has to be tried. */
#define OF_TIER                                                                                               \
    (SP_FACT_NO_PRIVILEGE | SP_FACT_NO_NEW_PRIVS | SP_FACT_FILTERED | SP_FACT_CALL_DENIED | SP_FACT_NO_INET | \
     SP_FACT_NO_UNIX | SP_FACT_UNIX_SCOPED | SP_FACT_LANDLOCK_DENIES | SP_FACT_LIMITS | SP_FACT_HOST_UNREAD | \
     SP_FACT_HOST_UNWRITTEN | SP_FACT_HOST_UNSIGNALLED)

uint32_t sp_facts_demanded_of_tier(const sp_sandbox_options *o, bool lease_uids) {
    return OF_TIER | (lease_uids ? SP_FACT_ID_MAP : 0) | (o->data_bytes != 0 ? SP_FACT_LIMIT_DATA : 0) |
           (o->max_processes != 0 ? SP_FACT_LIMIT_NPROC : 0);
}

/* These do not depend on allow_degradation: an agent that fails to prove one of them does not isolate. */
uint32_t sp_facts_demanded_of_agent(const sp_agent_options *o) {
    const uint32_t always =
        SP_FACT_HOST_UNREAD | SP_FACT_HOST_UNWRITTEN | SP_FACT_HOST_UNSIGNALLED | SP_FACT_NO_SET_ID | SP_FACT_LIMITS;
    return o->unproved != 0 ? 0 : always | (o->network == SP_NET_HOST ? 0 : SP_FACT_NO_CONNECTION);
}

int sp_isolation_check(uint32_t demanded, const sp_isolation *proved, sp_error *error) {
    /* A kernel may lack Landlock. But if it has Landlock, the sandbox must prove that an open was denied. */
    demanded |= proved->landlock_abi != 0 ? SP_FACT_LANDLOCK_DENIES : 0;
    for (unsigned fact = 0; fact < SP_FACT_COUNT; fact++) {
        if ((demanded & ~proved->facts & 1u << fact) != 0) {
            return sp_error_set(error, SP_E_CREATE, SP_STAGE_PROOF, ENOTSUP, words[fact]);
        }
    }
    return 0;
}
