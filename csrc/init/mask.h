/* What /proc tells of the host, covered. */
#ifndef SANDPOOL_INIT_MASK_H
#define SANDPOOL_INIT_MASK_H

#include "init/plan.h"

/* The entries that this kernel has, as bits; asked once, by the zygote, of the template's /proc. */
uint32_t sp_masks_found(void);

/* Covers them in the /proc that init has just mounted: a directory by an empty one, a file by a closed one. */
int sp_mask_proc(const struct sp_plan *plan, struct sp_rec_failed *why);

#endif
