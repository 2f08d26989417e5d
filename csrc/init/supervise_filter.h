/* The filters of the supervisor. Only for supervise.c. All need no_new_privs, and return -errno on failure. */
#ifndef SANDPOOL_INIT_SUPERVISE_FILTER_H
#define SANDPOOL_INIT_SUPERVISE_FILTER_H

#include <stdbool.h>

/* Hands the supervised calls of the calling thread, and of what it starts, to a listener; with `signals` those that
 * send some as well. Returns the listener: a descriptor, close-on-exec. */
int sp_supervised_filter(bool signals);

/* Refuses them. */
int sp_refused_filter(bool signals);

/* Leaves the calling thread what a supervisor needs, and nothing else. */
int sp_supervisor_filter(void);

#endif
