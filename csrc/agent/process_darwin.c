/*
 * The processes of one sandbox on macOS. There are no pid namespaces, and an orphan goes to launchd; but Seatbelt lets
 * a confined process signal its own sandbox only, so that "every process that may be signalled" is the sandbox. That is
 * seen to hold, by the host being out of reach, before it is relied on.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "common/stage.h"

/* A process that forks as fast as it can may have to be killed more often than once. */
#define MAX_ROUNDS 2000
#define ROUND_NS 500000

static bool confined;

int sp_processes_set_up(pid_t host, struct sp_rec_failed *why) {
    if (kill(host, 0) == 0 || errno != EPERM || host <= 1) {
        return sp_failed(why, SP_STAGE_SEATBELT, ENOTSUP, "a signal to the host was not refused");
    }
    confined = true;
    return 0;
}

void sp_processes_set_up_child(void) {}

void sp_processes_kill_once(void) {
    if (confined) {
        (void)kill(-1, SIGKILL);
    }
}

void sp_processes_kill_all(void) {
    const struct timespec round = {.tv_nsec = ROUND_NS};
    for (int i = 0; confined && i < MAX_ROUNDS; i++) {
        bool alone = kill(-1, SIGKILL) != 0; /* ESRCH, or EPERM for those outside */
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        if (alone) {
            return;
        }
        (void)nanosleep(&round, NULL); /* for those that are dying */
    }
}

/*
 * Seatbelt refuses the exec of any set-id program (its operation is forbidden-exec-sugid), however wide process-exec is
 * open. The first of these that has its bit is tried; without Seatbelt it would run, and end, without a word.
 */
bool sp_set_id_is_refused(void) {
    static const char *const programs[] = {"/bin/ps", "/usr/bin/quota", "/usr/bin/su"};
    char *argv[] = {(char *)(uintptr_t) "-", NULL};
    char *env[] = {NULL};
    struct stat st;
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        pid_t pid = -1;
        if (stat(programs[i], &st) != 0 || (st.st_mode & (S_ISUID | S_ISGID)) == 0) {
            continue;
        }
        int rc = posix_spawn(&pid, programs[i], NULL, NULL, argv, env);
        if (rc == 0) {
            (void)waitpid(pid, NULL, 0);
        }
        return rc == EPERM;
    }
    return false;
}

uint64_t sp_peak_bytes(const struct rusage *usage) { return (uint64_t)usage->ru_maxrss; }
