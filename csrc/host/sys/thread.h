/* Identifies the calling thread. There is one file for each system: thread_linux.c and thread_darwin.c. */
#ifndef SANDPOOL_HOST_SYS_THREAD_H
#define SANDPOOL_HOST_SYS_THREAD_H

#include <stdbool.h>

/* Whether this is the thread that the process began with. */
bool sp_is_main_thread(void);

#endif
