/* pid 1 of one sandbox, from the clone to its end. */
#ifndef SANDPOOL_INIT_INIT_H
#define SANDPOOL_INIT_INIT_H

#include "init/plan.h"

/* The zygote's clone calls this in the child, with the control socket as its argument; it never returns. */
_Noreturn void sp_init_main(const struct sp_plan *plan, int control);

/* serve.c: answers EXEC requests until the host's end closes. Returns when there is nothing left to serve. */
void sp_init_serve(const struct sp_plan *plan, int control);

#endif
