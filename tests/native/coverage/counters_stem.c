/*
 * The counters of the module that the interpreter of a stem loads, kept in a file as counters.c does it. The zygote has
 * left the file's descriptor; SANDPOOL_COUNTERS names the file where the module is only loaded so that it writes what
 * has come together to gcov's files.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "counters.h"

#define NAME "counters-of-stem"

extern char sp_counters[] __attribute__((visibility("hidden")));
extern char sp_counters_end[] __attribute__((visibility("hidden")));

/* Before the destructors, as in counters.c. */
static void leave(int status, void *unused) {
    (void)unused;
    (void)fflush(NULL);
    _exit(status);
}

__attribute__((constructor)) static void share_counters(void) {
    const char *name = getenv("SANDPOOL_COUNTERS");
    size_t size = (size_t)(sp_counters_end - sp_counters);
    int fd = name != NULL ? open(name, O_RDWR | O_CLOEXEC) : SP_COUNTERS_FD;
    void *at = mmap(sp_counters, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (at != MAP_FAILED && name == NULL) {
        on_exit(leave, NULL);
    }
    close(fd);
}

/* A stem refuses shared memory: leaves out of the list what is shared for the counters. */
void __real_sp_stem_shared_memory(char *names, size_t size);

void __wrap_sp_stem_shared_memory(char *names, size_t size) {
    __real_sp_stem_shared_memory(names, size);
    char *found = strstr(names, NAME);
    if (found == NULL) {
        return;
    }
    char *rest = found + strlen(NAME);
    rest += strncmp(rest, ", ", 2) == 0 ? 2 : 0;
    while (found > names && strncmp(found - 1, ", ", 2) != 0) {
        found--;
    }
    found += found > names ? 1 : 0;
    if (*rest == '\0' && found > names) {
        found -= 2;
    }
    memmove(found, rest, strlen(rest) + 1);
}
