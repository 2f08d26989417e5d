/*
 * The records that are exchanged between host and zygote, and between host and init or agent.
 *
 * Every record is SP_RECORD_SIZE bytes: a header {magic, version, type} and fixed fields, little-endian. Only this file
 * packs and unpacks them. Unpacking checks length, magic, version, type and the range of every field, and returns
 * -EBADMSG for a record that fails a check. EXEC, CONFIG, FILE and FILED announce a payload: bytes that follow the
 * record (see packet.h). The receiver splits a payload into strings with sp_strings_next().
 */
#ifndef SANDPOOL_COMMON_WIRE_H
#define SANDPOOL_COMMON_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"

#define SP_WIRE_MAGIC 0x4c4f4f50u /* "POOL" */
#define SP_WIRE_VERSION 7
#define SP_RECORD_SIZE 128
#define SP_DETAIL_SIZE 104
#define SP_DIAGNOSTICS_MAX 8192u /* of the text behind FAILED */

/* The largest payload. The kernel's own bound of argv + env is below 6 MiB + 128 KiB (3/4 of _STK_LIM, one string). */
#define SP_PAYLOAD_MAX (8u * 1024 * 1024)

/*
 * To kill the running command, the host sends init a KILL record with the id of the EXEC, and then this signal, queued
 * through init's pidfd with the same id as its value, because init sleeps in sigwait while a command runs. A tenant can
 * send init any signal, and the kernel drops a signal that is already pending. So the signal only wakes init, and the
 * record decides.
 */
#define SP_KILL_SIGNAL SIGUSR1

/*
 * The host sends this signal when the command has run long enough for the memory watch to begin. A short command pays
 * nothing for the watch, not even a timer.
 */
#define SP_WATCH_MEMORY_SIGNAL SIGUSR2
#define SP_WATCH_MEMORY_AFTER_NS SP_MS(10)

/* A host that runs as root maps its sandboxes to "nobody": an id that owns nothing and is mapped in every container. */
#define SP_UNPRIVILEGED_ID 65534

/* The descriptor under which a zygote finds its socket to the host. */
#define SP_ZYGOTE_SOCKET 3
/* The zygote's program under this name writes one byte to its socket, the Landlock ABI of the kernel, and ends. */
#define SP_LANDLOCK_QUESTION "sandpool-landlock"

enum sp_record_type {
    SP_REC_CONFIG =
        1,          /* host -> zygote, fds: [stem's module, its stderr] [, the host's pidfd]; payload: binds, filters */
    SP_REC_HELLO,   /* zygote -> host: the root is built, the zygote serves requests */
    SP_REC_CREATE,  /* host -> zygote, fds: the sandbox's end of its control socket [, its cgroup] */
    SP_REC_CREATED, /* zygote -> host, fd: pidfd of the zygote, or, on a sandbox's control socket, of its init */
    SP_REC_READY,   /* init -> host */
    SP_REC_EXEC,    /* host -> init, fds: [stdin,] stdout, stderr [, channel]; payload: cwd, argv, env */
    SP_REC_ACK,     /* init -> host: the request has arrived whole; from now on the command may start */
    SP_REC_EXITED,  /* init -> host */
    SP_REC_FAILED,  /* zygote or init -> host: {stage, errno, detail} */
    SP_REC_KILL,    /* host -> init or agent: kill the command of this number */
    SP_REC_FILE,    /* host -> init or agent, fd: the socket for the reply; payload: one or two paths */
    SP_REC_FILED,   /* init or agent -> host, over that socket [, fd: the open file]; payload: the text of a link */
    SP_REC_BIND,    /* host -> zygote [, fd: the tree]: a path of the host leads elsewhere now, bind it anew */
    SP_REC_SERVE,   /* host -> init: a request follows that only init itself can serve, so the standby has to end */
    SP_REC_SPAWN, /* host -> init, fds: process socket [, stdin] [, stdout] [, stderr] [, channel]; payload as EXEC's */
    SP_REC_STARTED,    /* init -> host, on a process socket: the process has execed */
    SP_REC_SIGNAL,     /* host -> init, on a process socket: send the process a signal */
    SP_REC_NAMESPACES, /* host -> init, fd: the socket for the reply; init -> zygote, fds: mount and user namespace */
    SP_REC_ATTACH,     /* host -> zygote, fds: reply socket, init's reply socket [, the tree]; payload: the path */
    SP_REC_ADOPT,      /* host -> init, fds: process socket, pidfd: report on this process from now on */
    SP_REC_TYPE_END
};

#define SP_CONFIG_NET_HOST 1u         /* stay in the host's network namespace */
#define SP_CONFIG_NETNS_REUSE 2u      /* no inet socket can exist: a netns may be used again */
#define SP_CONFIG_DENY_TCP 4u         /* Landlock refuses TCP bind and connect where its ABI can */
#define SP_CONFIG_ROOTFS 8u           /* the payload begins with the path of the directory tree to use as root */
#define SP_CONFIG_NET_LOOPBACK 16u    /* lo is up in the sandbox's own network namespace */
#define SP_CONFIG_CGROUP 32u          /* each CREATE carries the cgroup in which the sandbox is created */
#define SP_CONFIG_DEGRADE 64u         /* leave out what the kernel refuses, where a sandbox is useful without it */
#define SP_CONFIG_MEMORY_CGROUP 128u  /* memory.max is in force: init counts only what memory.max does not */
#define SP_CONFIG_UNIX 256u           /* AF_UNIX sockets may be created */
#define SP_CONFIG_UNIX_SCOPED 512u    /* the same, unless they could reach an abstract socket of the host */
#define SP_CONFIG_SEARCH 1024u        /* search the writable binds for set-id files: the covers may be out of date */
#define SP_CONFIG_STEM 2048u          /* the zygote becomes an interpreter: see zygote/stem.h */
#define SP_CONFIG_LANDLOCK_TIER 4096u /* no namespaces: the payload begins with the path of the leases' directories */
#define SP_CONFIG_LEASE_UIDS 8192u    /* with it: each lease gets ids of its own */
#define SP_CONFIG_RUNTIME 16384u      /* each sandbox executes a program that waits: see init/runtime.h */
#define SP_CONFIG_FLAGS 32767u

struct sp_rec_config {
    uint32_t flags;
    uint32_t payload_len;
    uint32_t n_binds;
    uint32_t template_filter_len; /* instructions of 8 bytes; the four filters end the payload, in this order */
    uint32_t init_filter_len;
    uint32_t attach_filter_len;
    uint32_t exec_filter_len;
    uint32_t landlock_abi_max;
    uint64_t memory_bytes; /* that init enforces; 0: init enforces none. In the next four, 0 is unlimited */
    uint64_t data_bytes;   /* RLIMIT_DATA of each process */
    uint64_t max_processes;
    uint64_t scratch_bytes;
    uint64_t scratch_inodes;
};

struct sp_rec_created {
    uint32_t bindings; /* of the last BIND before this sandbox; 0: there was none */
    uint32_t lease;    /* with SP_CONFIG_LANDLOCK_TIER: the number of its directory; else 0 */
    uint32_t stale;    /* 1: files that the interpreter has imported were changed since */
};

#define SP_ATTACH_PATH_MAX 4096u

/* How a workspace is attached. */
#define SP_ATTACH_RW 1u
#define SP_ATTACH_RO 2u
#define SP_ATTACH_COW 3u

struct sp_rec_attach {
    uint32_t mode;        /* SP_ATTACH_* */
    uint32_t payload_len; /* the absolute path on the host, with its NUL */
    uint64_t device;      /* that the host has found */
    uint64_t inode;
};

#define SP_BIND_LAST 1u /* the last one of binds that lie in each other */
#define SP_BIND_REC_FLAGS 1u

struct sp_rec_bind {
    uint32_t index; /* of the bind in CONFIG */
    uint32_t flags;
    uint32_t bindings; /* counts the changes: what CREATED then reports */
    uint64_t device;   /* that the host has found; with both 0: whatever the path leads to */
    uint64_t inode;
};

struct sp_rec_ready {
    uint32_t landlock_abi; /* enforced; 0: none */
    uint32_t facts;        /* SP_FACT_*: proved */
};

#define SP_EXEC_HAS_STDIN 1u
#define SP_EXEC_HAS_STDOUT 2u /* SPAWN; EXEC always has it, and the next */
#define SP_EXEC_HAS_STDERR 4u
#define SP_EXEC_PTY 8u /* SPAWN: the three streams are a terminal, whose master the ACK carries */
#define SP_EXEC_RUN \
    16u /* no exec: the interpreter that waits becomes the tenant; one more descriptor, the channel, ends them */
#define SP_EXEC_RUNTIME 32u /* EXEC, no fds: the runtime that waits takes argv[0]; the ACK brings the host's ends */
#define SP_EXEC_LAST 64u    /* EXEC: probably no request follows, so that the next standby can wait for one */
#define SP_EXEC_FLAGS 127u

struct sp_rec_exec { /* EXEC, SPAWN */
    uint32_t id;
    uint32_t flags;
    uint32_t argc;
    uint32_t envc;
    uint32_t payload_len; /* cwd, then argc strings, then envc strings, each ended by NUL */
    uint32_t cpu_seconds; /* of CPU time that each process of the command may use; 0: unlimited */
    uint64_t timeout_ns;  /* SPAWN: after this time init kills the process; 0: never */
    uint32_t rows;        /* SPAWN with SP_EXEC_PTY: the size of the terminal */
    uint32_t cols;
};

struct sp_rec_id { /* ACK, KILL; ADOPT: the pid */
    uint32_t id;
};

struct sp_rec_signal {
    uint32_t number;
};

/* Only with status SIGKILL: */
#define SP_EXITED_OOM 1u       /* killed for exceeding the memory limit of the sandbox */
#define SP_EXITED_TIMED_OUT 2u /* SPAWN: killed when its time was up */
#define SP_EXITED_FLAGS 3u

struct sp_rec_exited {
    uint32_t id;
    uint32_t status; /* as wait(2) reports it: WIFEXITED or WIFSIGNALED */
    uint64_t user_us;
    uint64_t system_us;
    uint64_t max_rss_bytes;
    uint32_t flags;
};

struct sp_rec_failed {
    uint32_t id; /* of the EXEC that it answers, else 0 */
    uint32_t stage;
    uint32_t err;
    char detail[SP_DETAIL_SIZE]; /* always NUL-terminated after unpacking */
};

/* With its NUL. A FILE has at most two paths, so its payload fits into the packet of its record. */
#define SP_FILE_PATH_MAX 4096u
#define SP_FILE_PAYLOAD_MAX (2u * SP_FILE_PATH_MAX)

/* One operation, on one name: whatever works on a tree is composed of these in the host. */
enum sp_file_op {
    SP_FILE_OPEN = 1, /* of a regular file; see the flags */
    SP_FILE_STAT,
    SP_FILE_READLINK,
    SP_FILE_MKDIR,
    SP_FILE_UNLINK,
    SP_FILE_RMDIR,
    SP_FILE_RENAME,  /* the first path becomes the second */
    SP_FILE_SYMLINK, /* the first is the text of the link, the second its path */
    SP_FILE_OP_END
};

#define SP_FILE_READ 1u
#define SP_FILE_WRITE 2u
#define SP_FILE_CREATE 4u
#define SP_FILE_EXCLUSIVE 8u /* with CREATE: there must be no such file, and the new one gets just this mode */
#define SP_FILE_TRUNCATE 16u
#define SP_FILE_APPEND 32u
#define SP_FILE_NOFOLLOW 64u   /* the last name is not to be followed if it is a link; also for STAT */
#define SP_FILE_DIRECTORY 128u /* it must be a directory */
#define SP_FILE_ANY 256u       /* it may be a directory */
#define SP_FILE_FLAGS 511u

struct sp_rec_file {
    uint32_t op;
    uint32_t flags;
    uint32_t mode;        /* of what it creates: permission bits */
    uint32_t payload_len; /* one or two paths, each ended by NUL */
};

struct sp_rec_filed {
    uint32_t err;  /* errno; 0: done */
    uint32_t mode; /* this and the next fields as stat(2) reports them; 0 where the operation has no such result */
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint64_t size;
    uint64_t inode;
    uint64_t device;
    uint64_t accessed_ns;
    uint64_t modified_ns;
    uint64_t changed_ns;
    uint32_t payload_len;
};

struct sp_record {
    enum sp_record_type type;
    union {
        struct sp_rec_config config;
        struct sp_rec_created created;
        struct sp_rec_bind bind;
        struct sp_rec_attach attach;
        struct sp_rec_ready ready;
        struct sp_rec_exec exec;
        struct sp_rec_id id;
        struct sp_rec_signal signal;
        struct sp_rec_exited exited;
        struct sp_rec_failed failed;
        struct sp_rec_file file;
        struct sp_rec_filed filed;
    } u;
};

void sp_wire_pack(const struct sp_record *record, uint8_t out[SP_RECORD_SIZE]);
/* 0 or -EBADMSG; after -EBADMSG the caller must not use anything in *record. */
int sp_wire_unpack(const uint8_t *bytes, size_t len, struct sp_record *record);

/* Returns the next string of a payload of NUL-terminated strings, or NULL when no whole one is left before `end`. */
const char *sp_strings_next(const char **cursor, const char *end);

/* Fills *why and returns -err, so that a step can `return sp_failed(...)`. `detail` may be NULL. */
int sp_failed(struct sp_rec_failed *why, uint32_t stage, int err, const char *detail);

#endif
