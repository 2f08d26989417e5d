#include <pthread.h>

#include "host/sys/thread.h"

bool sp_is_main_thread(void) { return pthread_main_np() != 0; }
