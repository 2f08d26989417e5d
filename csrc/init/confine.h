/* init confines itself, and the tenant inherits the confinement. The steps must be taken in this order. */
#ifndef SANDPOOL_INIT_CONFINE_H
#define SANDPOOL_INIT_CONFINE_H

#include "init/plan.h"

/* The highest hard limit of open files that a tenant gets, and the highest that init has. */
#define SP_NOFILE_MAX 4096
#define SP_NOFILE_INIT_MAX (2 * SP_NOFILE_MAX)

/* limits -> no capabilities -> no_new_privs -> Landlock -> undumpable -> seccomp. *landlock_abi: 0 when the kernel has
 * no Landlock. */
int sp_confine(const struct sp_plan *plan, uint32_t *landlock_abi, struct sp_rec_failed *why);

/*
 * Limits the process that becomes a command to less than init has, where the kernel counts both together and a tenant
 * must not use up what init needs: the signals that are queued, with which the host wakes init, and the descriptors in
 * flight, see sp_file_serve(). 0 or -errno. Async-signal-safe.
 */
int sp_limit_command(void);

/* RLIMIT_DATA in bytes; 0: the limit of the host stays. Where there is an interpreter, what that has comes on top. */
uint64_t sp_limit_of_data(const struct sp_plan *plan);
/* A program that is executed has nothing of the interpreter: lowers RLIMIT_DATA of the calling process by that. */
void sp_limit_data_of_exec(const struct sp_plan *plan);

/* RLIMIT_NPROC of init: it can start some processes although the tenant has reached its limit. 0: only the tenants have
 * a limit. */
uint64_t sp_limit_of_processes(const struct sp_plan *plan);

/* Sets the limit of processes of a tenant for the calling process and its descendants. `others`: how many processes
 * count against it and are neither init nor the tenant's. */
void sp_limit_processes(const struct sp_plan *plan, unsigned others);

/* Installs a filter on the calling thread, unless it is empty. Needs no_new_privs. 0 or -errno. */
int sp_install_filter(const struct sp_plan_filter *filter);

/* refuse_unix.c: adds a filter that refuses AF_UNIX sockets, except for connected pairs. 0 or -errno. */
int sp_refuse_unix_sockets(void);

#endif
