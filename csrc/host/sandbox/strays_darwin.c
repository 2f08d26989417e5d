/* The parts of launching and ending agents that only macOS has; launcher.c has the rest. */
#include <dlfcn.h>
#include <libproc.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/sandbox/strays.h"

short sp_spawn_flags(void) { return POSIX_SPAWN_CLOEXEC_DEFAULT; }

/* sandbox_check() of <sandbox.h>, which is not public: 0 allowed, 1 denied. It is looked up at run time; without it no
 * stray can be found. */
typedef int check_fn(pid_t pid, const char *operation, int filter, ...);
#define FILTER_NONE 0
#define FILTER_PATH 1
#define FILTER_NO_REPORT 0x40000000
#define MAX_ROUNDS 20

/*
 * What a process may do shows in which sandbox it is: only a process of this sandbox may write to this scratch
 * directory. A process that may write everywhere is confined by another profile and belongs to somebody else.
 */
static bool belongs(check_fn *check, pid_t pid, const char *scratch) {
    const int by_path = FILTER_PATH | FILTER_NO_REPORT;
    return check(pid, NULL, FILTER_NONE) == 1 && check(pid, "file-write-data", by_path, scratch) == 0 &&
           check(pid, "file-write-data", by_path, "/private/var/db/sandpool-nobody-may-write-here") == 1;
}

static bool kill_round(check_fn *check, const char *scratch) {
    bool found = false;
    const int room = proc_listpids(PROC_UID_ONLY, (uint32_t)geteuid(), NULL, 0);
    pid_t *pids = room > 0 ? calloc(1, (size_t)room * 2) : NULL;
    const int got = pids != NULL ? proc_listpids(PROC_UID_ONLY, (uint32_t)geteuid(), pids, room * 2) : 0;
    for (int i = 0; i < got / (int)sizeof *pids; i++) {
        if (pids[i] > 1 && pids[i] != getpid() && belongs(check, pids[i], scratch)) {
            found = kill(pids[i], SIGKILL) == 0 || found;
        }
    }
    free(pids);
    return found;
}

void sp_kill_strays(const char *scratch) {
    void *symbol = dlsym(RTLD_DEFAULT, "sandbox_check");
    check_fn *check = NULL;
    memcpy(&check, &symbol, sizeof check); /* ISO C has no cast from an object to a function */
    for (int i = 0; check != NULL && i < MAX_ROUNDS && kill_round(check, scratch); i++) {
    }
}
