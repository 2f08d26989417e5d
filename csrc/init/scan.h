/*
 * A pass over the descriptors and mappings of all tenants' processes, for memory that is in no page of theirs: pipes,
 * memfds, sockets, file locks, epoll watches, mappings, texts of open /proc files, filters of their own.
 *
 * A pass takes microseconds for each descriptor. So it is made only when the figures of the machine have grown, or once
 * in a while, and in steps: a step goes on, process by process, until its budget is spent. A single process that takes
 * more than the budget of a whole look counts as too much.
 */
#ifndef SANDPOOL_INIT_SCAN_H
#define SANDPOOL_INIT_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "init/budget.h"
#include "init/reach.h"
#include "init/tally.h"

/* Nobody needs more in all; each takes microseconds to be looked at. */
#define SP_SCAN_FILES_MAX (1u << 14)
#define SP_SCAN_OBJECTS_MAX 8192 /* file locks and epoll watches */
/* A pass that needs more runs after processes that are made faster than they are looked at. */
#define SP_SCAN_STEPS_MAX 32

/* What one pass has found. */
struct sp_found {
    unsigned files;
    unsigned objects;    /* file locks and epoll watches */
    unsigned proc_files; /* open files of /proc: each keeps a text */
    unsigned lists;      /* of these, /proc/PID/fdinfo files, whose text may have all objects */
    unsigned maps;       /* of these, /proc/PID/maps and the like, whose text may have any length */
    unsigned filtered;   /* threads with seccomp filters of their own */
    unsigned filters;    /* and how many these are */
    bool in_flight;      /* there are descriptors in sockets */
    bool reach_unknown;  /* how far the mappings of some process reach */
    bool too_much;       /* it could not be looked through, or init may not look into a process */
    struct sp_tally_sum sums[SP_TALLY_KINDS];
    uint64_t reach; /* bytes that shared mappings reach */
    unsigned mappings;
};

struct sp_scan {
    bool locks_only;  /* a cgroup has the rest */
    bool exec_filter; /* a command has one that init has not */
    unsigned filters; /* that a command is born with */
    struct sp_found last;
    int64_t began, ended; /* of the last whole pass */
    int64_t cost;         /* its processor time */
    /* Of the pass under way. */
    bool is_running;
    int done; /* the highest pid that was looked at */
    unsigned steps;
    int64_t started, spent;
    struct sp_found now;
};

void sp_scan_begin(struct sp_scan *scan, bool locks_only, bool exec_filter);
/* Begins a pass, or goes on with it. True when it has come to its end, and `last` is new. `proc`: of /proc. */
bool sp_scan_step(struct sp_scan *scan, int proc, const struct sp_budget *budget);

#endif
