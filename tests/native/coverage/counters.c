/*
 * Zygote and inits, and what the programs of tests/native/c fork, end by SIGKILL, by _exit() or in a root without files:
 * their counters cannot be written at exit. They are kept in a file instead, which the first process maps over them
 * (COUNTERS names it; counters.ld puts them in pages of their own) and all clones inherit. If the program is run with
 * the argument `collect`, it writes what has come together to gcov's files.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "counters.h"

extern char sp_counters[], sp_counters_end[];

/* Before the destructors: they would write the counters of all into gcov's files, at each exit once more. */
static void leave(int status, void *unused) {
    (void)unused;
    (void)fflush(NULL);
    _exit(status);
}

__attribute__((constructor)) static void share_counters(int argc, char **argv) {
    size_t size = (size_t)(sp_counters_end - sp_counters);
    const char *name = COUNTERS;
    int fd = name != NULL ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd == -1 || mmap(sp_counters, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        return; /* started under a limit: what it runs is not counted */
    }
    close(fd);
    if (argc == 2 && strcmp(argv[1], "collect") == 0) {
        exit(0);
    }
    on_exit(leave, NULL);
}

#ifdef COUNTERS_OF_STEM
/*
 * The zygote's main() closes what it has inherited. After that it opens the counters of the module that the interpreter
 * of a stem loads (counters_stem.c): from a root of its own it could not. An exec keeps the descriptor; init closes it.
 */
int __real_sp_close_from(int proc, int first);

int __wrap_sp_close_from(int proc, int first) {
    static int opened;
    int rc = __real_sp_close_from(proc, first);
    if (!opened) {
        opened = 1;
        int fd = open(COUNTERS_OF_STEM, O_RDWR | O_CLOEXEC);
        (void)(fd != -1 && dup2(fd, SP_COUNTERS_FD) != -1 && close(fd) == 0);
    }
    return rc;
}
#endif
