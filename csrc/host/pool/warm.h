#ifndef SANDPOOL_HOST_POOL_WARM_H
#define SANDPOOL_HOST_POOL_WARM_H

#include "host/pool/state.h"

/* Creates what is missing up to `target`, several at a time. The number inserted, or the first error. */
int64_t sp_warm_create_missing(sp_pool *pool, uint32_t target, sp_error *error);

#endif
