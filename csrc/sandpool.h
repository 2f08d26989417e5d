/* The only public header: opaque handles, option structs, status codes, stages. */
#ifndef SANDPOOL_H
#define SANDPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/stage.h"

/* C and cffi share one list of declarations, which has no #include or #ifdef of its own. */
#include "sandpool.cdef" /* NOLINT(bugprone-suspicious-include) */

#endif
