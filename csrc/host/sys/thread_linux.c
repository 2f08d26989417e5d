#include <sys/syscall.h>
#include <unistd.h>

#include "host/sys/thread.h"

/* Makes the system call itself: glibc has gettid() only since 2.30. */
bool sp_is_main_thread(void) { return syscall(SYS_gettid) == getpid(); }
