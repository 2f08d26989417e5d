/* init confines itself; the tenant inherits it. The order of the steps is the order they must have. */
#ifndef SANDPOOL_INIT_CONFINE_H
#define SANDPOOL_INIT_CONFINE_H

#include "init/plan.h"

/* The most that a tenant's hard limit of open files can be. */
#define SP_NOFILE_MAX 4096

/* limits -> no capabilities -> no_new_privs -> Landlock -> seccomp -> undumpable. *landlock_abi: 0 when there is none.
 */
int sp_confine(const struct sp_plan *plan, uint32_t *landlock_abi, struct sp_rec_failed *why);

/* Installs one filter on the calling thread; nothing for an empty one. Needs no_new_privs. 0 or -errno. */
int sp_install_filter(const struct sp_plan_filter *filter);

#endif
