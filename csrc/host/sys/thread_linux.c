#include <sys/syscall.h>
#include <unistd.h>

#include "host/sys/thread.h"

/* By the system call: glibc has gettid() since 2.30 only. */
bool sp_is_main_thread(void) { return syscall(SYS_gettid) == getpid(); }
