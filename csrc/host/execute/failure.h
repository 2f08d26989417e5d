/* What a FAILED record about a command or a process means for the caller. */
#ifndef SANDPOOL_HOST_EXECUTE_FAILURE_H
#define SANDPOOL_HOST_EXECUTE_FAILURE_H

#include "common/wire.h"
#include "sandpool.h"

/* Fills *error. Returns SP_E_NOT_FOUND or SP_E_EXEC. */
int sp_error_of_command(sp_error *error, const struct sp_rec_failed *why);

#endif
