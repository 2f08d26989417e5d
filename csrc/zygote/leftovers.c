/* What the inits of the Landlock tier leave that did not end by themselves: processes that this one has adopted. */
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "init/landlock_tier.h"
#include "init/proc.h"
#include "zygote/zygote.h"

/* *uid: its real user id. */
static bool is_child(int proc, const char *pid, uint64_t *uid) {
    char path[64];
    char text[4096];
    uint64_t parent = 0;
    const char *end = path + sizeof path;
    return sp_append(sp_append(path, end, pid), end, "/status") != NULL &&
           sp_read_text(proc, path, text, sizeof text) && sp_find_number(text, "\nPPid:", &parent) &&
           (pid_t)parent == getpid() && sp_find_number(text, "\nUid:", uid);
}

static bool give_up_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    return syscall(SYS_capset, &header, none) == 0;
}

/*
 * With the ids of the lease, all of its processes are killed in one call, which no fork can escape. A zygote that is an
 * interpreter is not root, and its child keeps CAP_KILL over the change of ids, with which the call would kill every
 * process of the machine.
 */
void sp_zygote_kill_lease(pid_t init) {
    pid_t child = fork();
    if (child == 0) {
        const uid_t id = SP_LEASE_ID + (uid_t)init;
        const uid_t own = SP_LEASE_ID_OF_INIT + (uid_t)init;
        if (setresuid(own, id, own) == 0 && give_up_capabilities()) {
            (void)kill(-1, SIGKILL);
        }
        _exit(0);
    }
    if (child > 0) {
        (void)waitpid(child, NULL, 0);
    }
}

static void kill_one(pid_t pid, uid_t uid) {
    if (uid >= SP_LEASE_ID) {
        sp_zygote_kill_lease((pid_t)(uid - (uid >= SP_LEASE_ID_OF_INIT ? SP_LEASE_ID_OF_INIT : SP_LEASE_ID)));
    }
    (void)kill(pid, SIGKILL);
}

bool sp_zygote_kill_leftovers(bool (*is_spared)(pid_t pid)) {
    struct sp_listing list;
    bool found = false;
    sp_auto_fd int proc = sp_listing_open(&list, SP_PROC_FD, ".");
    for (const char *name; proc != -1 && (name = sp_listing_next(&list)) != NULL;) {
        pid_t pid = (pid_t)strtol(name, NULL, 10);
        uint64_t uid = 0;
        if (is_child(proc, name, &uid) && !is_spared(pid)) {
            kill_one(pid, (uid_t)uid);
            (void)waitpid(pid, NULL, WNOHANG);
            found = true;
        }
    }
    return found || proc == -1 || list.filled < 0;
}
