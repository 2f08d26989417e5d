/* The mounts that init adds to the inherited template: /proc, scratch (/tmp, /dev/shm), /dev/pts, binds below /tmp. */
#ifndef SANDPOOL_INIT_MOUNTS_H
#define SANDPOOL_INIT_MOUNTS_H

#include "init/plan.h"

int sp_init_mounts(const struct sp_plan *plan, struct sp_rec_failed *why);

/* Mounts the binds below /tmp from where the template has staged them. 0, or not 0 with *why filled. */
int sp_bind_staged(const struct sp_plan *plan, struct sp_rec_failed *why);

#endif
