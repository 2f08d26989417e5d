/*
 * The records that cross the two walls: host <-> zygote and host <-> init.
 *
 * Every record is SP_RECORD_SIZE bytes: a header {magic, version, type} and fixed fields, little-endian, packed and
 * unpacked only here. Unpacking checks length, magic, version, type and the range of every field; whatever fails is
 * -EBADMSG. EXEC and CONFIG announce a payload that follows the record as a byte string (see packet.h); what is inside
 * a payload is checked by sp_strings_next().
 */
#ifndef SANDPOOL_COMMON_WIRE_H
#define SANDPOOL_COMMON_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"

#define SP_WIRE_MAGIC 0x4c4f4f50u /* "POOL" */
#define SP_WIRE_VERSION 2
#define SP_RECORD_SIZE 128
#define SP_DETAIL_SIZE 104

/* A payload's bound: the kernel's own bound of argv + env is below 6 MiB + 128 KiB (3/4 of _STK_LIM, one string). */
#define SP_PAYLOAD_MAX (8u * 1024 * 1024)

/*
 * The host asks init to kill the running command by a KILL record with the EXEC's id, and then rings by this signal,
 * queued through init's pidfd with the same id as its value: init sleeps in sigwait while a command runs. A tenant may
 * send init any signal, and of one that is pending already the kernel drops a second one: so the signal is only a bell,
 * and the record is what counts.
 */
#define SP_KILL_SIGNAL SIGUSR1

/*
 * By this one the host tells init that the command has run long enough for its memory to be watched: a short command
 * pays nothing for the watch, not even a timer.
 */
#define SP_WATCH_SIGNAL SIGUSR2
#define SP_WATCH_AFTER_NS SP_MS(50)

/* Root's sandboxes are mapped to "nobody": an id that owns nothing and is mapped in every container. */
#define SP_UNPRIVILEGED_ID 65534

/* The descriptor under which a zygote finds its socket to the host. */
#define SP_ZYGOTE_SOCKET 3

enum sp_record_type {
    SP_REC_CONFIG = 1, /* host -> zygote, with the host's pidfd if there is one; payload: binds and filters */
    SP_REC_HELLO,      /* zygote -> host: its root is built, it serves */
    SP_REC_CREATE,     /* host -> zygote, fds: the sandbox's end of its control socket [, its cgroup] */
    SP_REC_CREATED,    /* zygote -> host, fd: pidfd of the zygote, or over the sandbox's socket that of its init */
    SP_REC_READY,      /* init -> host */
    SP_REC_EXEC,       /* host -> init, fds: [stdin,] stdout, stderr; payload: cwd, argv, env */
    SP_REC_ACK,        /* init -> host: the request is whole, the command may start from here on */
    SP_REC_EXITED,     /* init -> host */
    SP_REC_FAILED,     /* zygote or init -> host: {stage, errno, detail} */
    SP_REC_KILL,       /* host -> init or agent: ends the command of this number */
    SP_REC_TYPE_END
};

#define SP_CONFIG_NET_HOST 1u        /* stay in the host's network namespace */
#define SP_CONFIG_NETNS_REUSE 2u     /* no inet socket can exist: a netns may serve again */
#define SP_CONFIG_DENY_TCP 4u        /* Landlock refuses TCP bind and connect where its ABI can */
#define SP_CONFIG_ROOTFS 8u          /* the payload's first string is the path of a directory tree to be the root */
#define SP_CONFIG_NET_LOOPBACK 16u   /* lo is up in the sandbox's own network namespace */
#define SP_CONFIG_CGROUP 32u         /* each CREATE brings the cgroup that the sandbox is born in */
#define SP_CONFIG_DEGRADE 64u        /* what the kernel refuses is left out where a sandbox is of use without it */
#define SP_CONFIG_MEMORY_CGROUP 128u /* memory.max holds: init counts only what that does not */
#define SP_CONFIG_FLAGS 255u

struct sp_rec_config {
    uint32_t flags;
    uint32_t payload_len;
    uint32_t n_binds;
    uint32_t template_filter_len; /* instructions of 8 bytes; the three filters end the payload, in this order */
    uint32_t init_filter_len;
    uint32_t exec_filter_len;
    uint32_t landlock_abi_max;
    uint64_t memory_bytes; /* for init to enforce; 0: not, or unlimited like the next three */
    uint64_t max_processes;
    uint64_t scratch_bytes;
    uint64_t scratch_inodes;
};

struct sp_rec_ready {
    uint32_t landlock_abi; /* enforced; 0: none */
    uint32_t facts;        /* SP_FACT_*: proved */
};

#define SP_EXEC_HAS_STDIN 1u
#define SP_EXEC_FLAGS 1u

struct sp_rec_exec {
    uint32_t id;
    uint32_t flags;
    uint32_t argc;
    uint32_t envc;
    uint32_t payload_len; /* cwd, then argc strings, then envc strings, each ended by NUL */
};

struct sp_rec_id { /* ACK, KILL */
    uint32_t id;
};

#define SP_EXITED_OOM 1u /* ended for the sandbox's memory limit; only with status SIGKILL */
#define SP_EXITED_FLAGS 1u

struct sp_rec_exited {
    uint32_t id;
    uint32_t status; /* as wait(2) gives it: WIFEXITED or WIFSIGNALED */
    uint64_t user_us;
    uint64_t system_us;
    uint64_t max_rss_bytes;
    uint32_t flags;
};

struct sp_rec_failed {
    uint32_t id; /* of the EXEC it answers, else 0 */
    uint32_t stage;
    uint32_t err;
    char detail[SP_DETAIL_SIZE]; /* always NUL-terminated after unpacking */
};

struct sp_record {
    enum sp_record_type type;
    union {
        struct sp_rec_config config;
        struct sp_rec_ready ready;
        struct sp_rec_exec exec;
        struct sp_rec_id id;
        struct sp_rec_exited exited;
        struct sp_rec_failed failed;
    } u;
};

void sp_wire_pack(const struct sp_record *record, uint8_t out[SP_RECORD_SIZE]);
/* 0 or -EBADMSG; on failure nothing in *record may be used. */
int sp_wire_unpack(const uint8_t *bytes, size_t len, struct sp_record *record);

/* Walks a payload of NUL-terminated strings: the next string, or NULL when none is whole before `end`. */
const char *sp_strings_next(const char **cursor, const char *end);

/* Fills the failure and returns -err, so that a step can `return sp_failed(...)`. detail may be NULL. */
int sp_failed(struct sp_rec_failed *why, uint32_t stage, int err, const char *detail);

#endif
