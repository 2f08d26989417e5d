/* The stage of a failure: the step in the life of a sandbox at which it happened. */
#ifndef SANDPOOL_COMMON_STAGE_H
#define SANDPOOL_COMMON_STAGE_H

/* name, word, in the order of a sandbox's life */
#define SP_STAGES(X)                \
    X(NONE, "none")                 \
    X(HOST_SOCKET, "host_socket")   \
    X(SPAWN_ZYGOTE, "spawn_zygote") \
    X(PROTOCOL, "protocol")         \
    X(TIMEOUT, "timeout")           \
    X(TIER, "tier")                 \
    X(DROP_ROOT, "drop_root")       \
    X(CGROUP, "cgroup")             \
    X(USERNS, "user_namespace")     \
    X(IDMAP, "id_map")              \
    X(NAMESPACES, "namespaces")     \
    X(ROOT, "root_template")        \
    X(ROOTFS, "rootfs")             \
    X(BIND, "bind")                 \
    X(DEV, "dev")                   \
    X(PIVOT, "pivot_root")          \
    X(NETNS, "network_namespace")   \
    X(PRELOAD, "preload")           \
    X(CLONE, "clone")               \
    X(MOUNT_PROC, "mount_proc")     \
    X(SCRATCH, "scratch")           \
    X(LIMITS, "limits")             \
    X(CAPS, "capabilities")         \
    X(NO_NEW_PRIVS, "no_new_privs") \
    X(LANDLOCK, "landlock")         \
    X(SECCOMP, "seccomp")           \
    X(SEATBELT, "seatbelt")         \
    X(PROOF, "proof")               \
    X(READY, "ready")               \
    X(HEALTH, "health_check")       \
    X(SPAWN, "spawn")               \
    X(CWD, "cwd")                   \
    X(EXEC, "exec")                 \
    X(WORKSPACE, "workspace")

enum sp_stage {
#define X(name, word) SP_STAGE_##name,
    SP_STAGES(X)
#undef X
        SP_STAGE_COUNT
};

#endif
