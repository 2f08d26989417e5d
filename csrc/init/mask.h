/* Covers the files of /proc that reveal the host. */
#ifndef SANDPOOL_INIT_MASK_H
#define SANDPOOL_INIT_MASK_H

#include "init/plan.h"

/* Which of the entries this kernel has, one bit each. The zygote finds out once, in the template's /proc. */
uint32_t sp_masks_found(void);

/* Covers these entries in the /proc that init has just mounted: directories with an empty directory, files with an
 * empty file or one that cannot be opened. */
int sp_mask_proc(const struct sp_plan *plan, struct sp_rec_failed *why);

#endif
