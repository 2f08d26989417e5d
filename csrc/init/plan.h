/*
 * The plan of all sandboxes of one zygote. The zygote fills it once from CONFIG; each init reads its inherited copy.
 * After the first clone only `rehearsed`, `left_out` and `machine` change.
 */
#ifndef SANDPOOL_INIT_PLAN_H
#define SANDPOOL_INIT_PLAN_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/text.h"
#include "common/wire.h"
#include "init/landlock.h"
#include "init/machine.h"

/* The only user and group id inside. No process is uid 0, so that no namespace's root owns the knobs of /proc/sys. */
#define SP_INSIDE_ID 1000

/* Files that only init needs. They are in /dev/pts, where init's last mount, the sandbox's own devpts, hides them. */
#define SP_STAGED_DIR "/dev/pts/staged" /* the binds that init attaches below the private /tmp */
#define SP_EMPTY_DIR "/dev/pts/empty"   /* covers a directory that the tenant must not see */
#define SP_EMPTY_FILE "/dev/pts/nothing"
#define SP_CLOSED_FILE "/dev/pts/none" /* covers a file that the tenant must not open */

/* Where a workspace is mounted. Landlock passes over a mount point itself when it walks up, so its rule is on the
 * directory above. */
#define SP_WORKSPACES "/mnt"
#define SP_WORKSPACE SP_WORKSPACES "/workspace"

#define SP_BINDS_MAX 4096

/*
 * A descriptor of a /proc in which "self" is the calling process: the host's /proc, later the template's. Zygote and
 * init use it for their own files, whatever is mounted at /proc. init closes it before READY.
 */
#define SP_PROC_FD 4

#define SP_NAMESPACES 7 /* user, pid, mnt, ipc, uts, cgroup, net: see prove.c */

struct sp_plan_filter {
    const struct sock_filter *insns;
    uint16_t len;
};

/* One path of the host. Of nested binds, the one with the longest path decides: it is mounted on top of its parent. */
struct sp_plan_bind {
    const char *path;       /* inside */
    const char *source;     /* on the host */
    uint64_t device, inode; /* of the covered file; the template fails if another file is in its place */
    int parent;             /* the innermost bind that contains this path, -1 for none; always an earlier one */
    int within;             /* the innermost bind whose source contains this source, -1 for none */
    bool writable;
    bool scratch;    /* no path of the host: init attaches a directory of the scratch */
    bool covers;     /* makes a file or directory of its parent read-only */
    bool staged;     /* below /tmp and without a parent: init attaches it */
    bool needs_rule; /* writable, and no bind that contains it is: Landlock needs a rule for it */
};

struct sp_command;
struct sp_stem;

struct sp_plan {
    struct sp_rec_config config;
    const char *payload;                  /* of CONFIG; the strings and filters point into it */
    char *command_line;                   /* of this process, as ps shows it; init writes its own over it */
    const char *rootfs;                   /* NULL: the host's system view */
    struct sp_plan_bind *binds;           /* config.n_binds, sorted by path */
    const struct sp_landlock_rule *rules; /* what may be opened, and what may be written to */
    unsigned n_rules;
    unsigned n_capabilities; /* that this kernel has */
    /* Of a zygote that becomes an interpreter: its path inside, and its Python code. Else NULL. */
    const char *interpreter, *parameters, *source;
    int module, errors;         /* descriptors of the interpreter's module and of its stderr; -1: none */
    const struct sp_stem *stem; /* the interpreter that this process is; NULL in the static program: see stem.h */
    const struct sp_command
        *runtime;       /* the program that each sandbox executes, and that waits: see runtime.h; or NULL */
    int64_t runtime_ms; /* how long it may take to get ready */
    bool has_staged, has_scratch;
    bool processes_of_user; /* the kernel counts the processes of a user of the host: see processes.h */
    bool has_workspace;     /* a workspace can be attached: nothing else is shown at its place */
    uint32_t masks;         /* see mask.h */
    /* A sandbox must have other namespaces than these, and more filters: see prove.h. */
    uint64_t host_namespaces[SP_NAMESPACES];
    uint64_t zygote_namespaces[SP_NAMESPACES];
    unsigned zygote_filters;
    uint32_t rehearsed; /* SP_FACT_*; 0: there was no rehearsal yet */
    uint32_t left_out;  /* SP_FACT_*: what this kernel refuses and the configuration does not demand; it only grows */
    struct sp_machine_reading machine; /* shortly before the last clone, if init needs one */
    /* The Landlock tier only, see landlock_tier.h. */
    const char *leases; /* the directory of the leases' directories */
    uint32_t lease;     /* the number of the last sandbox, and so of the one that the next clone creates */
    pid_t zygote;
    struct sp_plan_filter template_filter, init_filter, attach_filter, exec_filter;
};

/* Whether the sandboxes have no namespaces of their own, but Landlock: see landlock_tier.h. */
static inline bool sp_in_landlock_tier(const struct sp_plan *plan) {
    return (plan->config.flags & SP_CONFIG_LANDLOCK_TIER) != 0;
}

/* Whether each lease gets ids of its own, which only root can give. */
static inline bool sp_has_lease_ids(const struct sp_plan *plan) {
    return (plan->config.flags & SP_CONFIG_LEASE_UIDS) != 0;
}

/* Whether a step that failed with `err` may be left out: the configuration allows it, and `err` is a refusal, not a
 * shortage. */
bool sp_may_leave_out(const struct sp_plan *plan, int err);

#endif
