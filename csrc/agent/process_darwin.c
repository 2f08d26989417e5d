/*
 * The processes of one sandbox on macOS. There are no pid namespaces, and launchd adopts an orphan. But Seatbelt lets a
 * confined process signal only processes of its own sandbox, so the sandbox is every process that may be signalled. The
 * agent relies on that only after it has seen that it cannot signal the host.
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

/* Processes that keep forking may have to be killed more than once. */
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
        (void)nanosleep(&round, NULL); /* gives dying processes time to end */
    }
}

/*
 * Seatbelt refuses the exec of any set-id program (operation forbidden-exec-sugid), whatever process-exec allows. This
 * tries the first of these programs that has a set-id bit; without Seatbelt it would run and end without output.
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
