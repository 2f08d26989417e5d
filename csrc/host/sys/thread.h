/* Which thread of the host this is. Chosen by file: thread_linux.c, thread_darwin.c. */
#ifndef SANDPOOL_HOST_SYS_THREAD_H
#define SANDPOOL_HOST_SYS_THREAD_H

#include <stdbool.h>

/* The one that the process began with. */
bool sp_is_main_thread(void);

#endif
