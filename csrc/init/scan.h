/*
 * A pass over the descriptors and mappings of all processes of the sandbox. It finds memory that is in no page of
 * theirs: pipes, memfds, sockets, file locks, epoll watches, mappings, texts of open /proc files, filters of their own.
 *
 * A pass takes microseconds for each descriptor. So it is made only when the figures of the machine have grown, or once
 * in a while, and in steps: a step examines process after process until its budget is spent. A single process with
 * many files, threads or mappings that takes more processor time than PROCESS_NS counts as too much.
 *
 * A machine that is slow or busy must end nobody. So processor time is only a bound for a process with many parts (see
 * budget.h), and the others are numbers: of files, of processes in one pass, and of passes. In a cgroup only file locks
 * are looked for.
 */
#ifndef SANDPOOL_INIT_SCAN_H
#define SANDPOOL_INIT_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "init/budget.h"
#include "init/reach.h"
#include "init/tally.h"

/* More in all processes count as too much: no program needs so many, and examining each takes microseconds. */
#define SP_SCAN_FILES_MAX (1u << 14)
#define SP_SCAN_OBJECTS_MAX 8192 /* file locks and epoll watches */
/* A process is unreadable in the middle of its exec, and so may it be for long on a busy machine. Until this time is
 * over and so many passes have met it, it only counts as one that can hide any memory. */
#define SP_SCAN_UNREADABLE_NS SP_MS(100)
#define SP_SCAN_UNREADABLE_PASSES 4
#define SP_SCAN_UNREADABLE_LOCKS 20 /* passes in a cgroup: it takes half a second, or longer on a slow machine */
/* A pass that needs more steps, and has examined more processes, counts as too much: they are created faster than they
 * can be examined. */
#define SP_SCAN_STEPS_MAX 32
#define SP_SCAN_PROCESSES_MAX 1024

/* What one pass has found. */
struct sp_found {
    unsigned files;
    unsigned objects;    /* file locks and epoll watches */
    unsigned proc_files; /* open files of /proc: each keeps a text */
    unsigned lists;      /* those of them that are /proc/PID/fdinfo files, whose text may list all objects */
    unsigned maps;       /* those of them that are /proc/PID/maps and the like, whose text may have any length */
    unsigned filtered;   /* threads with seccomp filters of their own */
    unsigned filters;    /* the number of these filters */
    unsigned in_flight;  /* descriptors in flight in the sockets that processes have */
    bool hidden;         /* there may be files that no process has */
    bool reach_unknown;  /* the mappings of some process were not read */
    bool unreadable;     /* init may not examine some process */
    bool too_much;       /* the pass exceeded a bound, or processes were unreadable for too long */
    struct sp_tally_sum sums[SP_TALLY_KINDS];
    uint64_t reach; /* bytes that shared mappings reach */
    unsigned mappings;
};

/* Children of init that have not execed: they run init's own code, and nobody may examine them. */
struct sp_starting {
    const pid_t *pids;
    unsigned n;
};

struct sp_scan {
    bool locks_only;  /* a cgroup counts the rest */
    bool exec_filter; /* a command has a filter that init does not have */
    struct sp_starting starting;
    unsigned filters; /* the number that a command starts with */
    struct sp_found last;
    int64_t began, ended;     /* of the last whole pass */
    int64_t cost;             /* its processor time */
    int64_t unreadable_since; /* 0: the last pass could examine every process */
    unsigned unreadable_passes;
    /* The current pass. */
    bool is_running;
    int done; /* the highest pid that was examined */
    unsigned steps, processes;
    int64_t started, spent;
    struct sp_found now;
};

void sp_scan_begin(struct sp_scan *scan, bool locks_only, bool exec_filter);
/* Begins a pass, or continues it. True when the pass has ended and `last` is new. `proc`: a descriptor of /proc. */
bool sp_scan_step(struct sp_scan *scan, int proc, const struct sp_budget *budget);

#endif
