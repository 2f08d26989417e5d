/*
 * The processes of one sandbox when tests run the agent on Linux, with a stand-in for `sandbox-exec` that does not
 * confine. The agent is the subreaper of the processes that a command leaves behind, so its children are the sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "common/fd.h"
#include "common/stage.h"

int sp_processes_set_up(pid_t host, struct sp_rec_failed *why) {
    (void)host;
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 ? 0 : sp_failed(why, SP_STAGE_SEATBELT, errno, "subreaper");
}

/* Nothing else would end the command when the agent is killed. */
void sp_processes_set_up_child(void) { (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

/* Kills the current children; the file contains their pids: "12 34 ". */
static void kill_children(void) {
    char text[4096];
    sp_auto_fd int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    char *at = text;
    for (char *next = NULL;; at = next) {
        long pid = strtol(at, &next, 10);
        if (next == at || pid <= 0) {
            return;
        }
        (void)kill((pid_t)pid, SIGKILL);
    }
}

void sp_processes_kill_once(void) { kill_children(); }

void sp_processes_kill_all(void) {
    do {
        kill_children();
    } while (waitpid(-1, NULL, 0) != -1 || errno == EINTR);
}

bool sp_set_id_is_refused(void) { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1; }

uint64_t sp_peak_bytes(const struct rusage *usage) { return (uint64_t)usage->ru_maxrss * 1024; }
