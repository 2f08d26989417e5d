/*
 * What every sandbox of one zygote is made of. The zygote fills it once from CONFIG; each init reads its inherited
 * copy. Nothing here is written after the first clone, but for what the rehearsal tells and
 * what is left out.
 */
#ifndef SANDPOOL_INIT_PLAN_H
#define SANDPOOL_INIT_PLAN_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"
#include "init/landlock.h"

/* The one user and group that exist inside: nobody is uid 0, so no namespace's root owns /proc/sys knobs. */
#define SP_INSIDE_ID 1000

/* Backstage: what only init needs, until it mounts the sandbox's own devpts there, last of all. */
#define SP_STAGED_DIR "/dev/pts/staged" /* what it binds below the private /tmp */
#define SP_EMPTY_DIR "/dev/pts/empty"   /* covers a directory that is not for the tenant */
#define SP_EMPTY_FILE "/dev/pts/nothing"
#define SP_CLOSED_FILE "/dev/pts/none" /* covers a file; nobody may open it */

#define SP_BINDS_MAX 4096

/*
 * A directory /proc in which "self" is whoever asks: the host's, then the template's. Zygote and init reach their own
 * files by it, whatever is mounted at /proc. init closes it before READY.
 */
#define SP_PROC_FD 4

#define SP_NAMESPACES 7 /* user, pid, mnt, ipc, uts, cgroup, net: see prove.c */

struct sp_plan_filter {
    const struct sock_filter *insns;
    uint16_t len;
};

/*
 * One path of the host. Of nested ones the longest is in force: it lies on top of its parent, wherever that is shown.
 */
struct sp_plan_bind {
    const char *path;
    uint64_t device, inode; /* of what a cover covers: another file there fails the template */
    int parent;             /* the nearest bind above it, -1 for none; always an earlier one */
    bool writable;
    bool covers;     /* read-only, over what lies there in its parent */
    bool staged;     /* below /tmp and without a parent: init shows it there */
    bool needs_rule; /* writable, and nothing above it is: Landlock needs a rule for it */
};

struct sp_plan {
    struct sp_rec_config config;
    const char *rootfs;                   /* NULL: the host's system view */
    struct sp_plan_bind *binds;           /* config.n_binds, sorted by path */
    const struct sp_landlock_rule *rules; /* what may be opened, and what written */
    unsigned n_rules;
    unsigned n_capabilities; /* that this kernel knows */
    bool has_staged;
    uint32_t masks; /* of mask.h */
    /* What a sandbox's own must differ from, or go beyond: see prove.h. */
    uint64_t host_namespaces[SP_NAMESPACES];
    uint64_t zygote_namespaces[SP_NAMESPACES];
    unsigned zygote_filters;
    uint32_t rehearsed; /* SP_FACT_*; 0: there was no rehearsal yet */
    uint32_t left_out;  /* SP_FACT_*: what this kernel refuses, and the configuration lets go; only ever more */
    struct sp_plan_filter template_filter, init_filter, exec_filter;
};

/* Whether a sandbox may be without this: the configuration lets it go, and `err` is a refusal, not a shortage. */
bool sp_may_leave_out(const struct sp_plan *plan, int err);

/* Whether path is dir or lies in it, by their letters. */
bool sp_path_is_below(const char *path, const char *dir);

#endif
