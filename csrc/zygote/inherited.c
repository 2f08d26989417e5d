/*
 * What the host process may have beyond an ordinary one, and what each process that it starts inherits. A host that was
 * given more of the machine must not pass that on to tenants. What is less than usual stays: a host that is nice has
 * nice tenants.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/stage.h"
#include "init/plan.h"
#include "init/proc.h"
#include "zygote/zygote.h"

/* ioprio_set(2) has no header that all supported systems have. */
#define OF_PROCESS 1
#define CLASS_SHIFT 13
#define CLASS_REALTIME 1
#define CLASS_BEST_EFFORT 2
#define LEVEL_USUAL 4
#define LEVEL_MASK 7

static int result(long rc) { return rc == 0 ? 0 : -errno; }

/* A real-time process runs before all others, for as long as it likes. */
static int leave_realtime(void) {
    const struct sched_param none = {0};
    const int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
    const bool ordinary = policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE || policy < 0;
    return ordinary ? 0 : result(sched_setscheduler(0, SCHED_OTHER, &none));
}

static int leave_niceness(void) {
    errno = 0;
    const int niceness = getpriority(PRIO_PROCESS, 0);
    return niceness >= 0 || errno != 0 ? 0 : result(setpriority(PRIO_PROCESS, 0, 0));
}

static int leave_io_class(void) {
    const long now = syscall(SYS_ioprio_get, OF_PROCESS, 0);
    const bool is_early = now >> CLASS_SHIFT == CLASS_BEST_EFFORT && (now & LEVEL_MASK) < LEVEL_USUAL;
    return now >> CLASS_SHIFT == CLASS_REALTIME || is_early ? result(syscall(SYS_ioprio_set, OF_PROCESS, 0, 0)) : 0;
}

/* Without random addresses, or with executable data, an attack on a program of a tenant is easier. */
static int leave_personality(void) {
    const int now = personality(0xffffffff);
    const unsigned wanted = (unsigned)now & (PER_MASK | UNAME26);
    return now < 0 || (unsigned)now == wanted || personality(wanted) >= 0 ? 0 : -errno;
}

/* The kernel would end others, and with -1000 even a sandbox at the limit of its cgroup would go on. */
static int leave_oom_score(void) {
    char text[16];
    if (!sp_read_text(SP_PROC_FD, "self/oom_score_adj", text, sizeof text) || strtol(text, NULL, 10) >= 0) {
        return 0;
    }
    sp_auto_fd int fd = openat(SP_PROC_FD, "self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    return fd != -1 && write(fd, "0", 1) == 1 ? 0 : -errno;
}

/*
 * Where kernel.core_pattern names a socket (Linux 6.16), no RLIMIT_CORE keeps a dump from the program that listens
 * there: see init/confine.c for the other patterns. Without any kind of mapping a dump has registers and names alone.
 * Some kernels are built without dumps.
 */
static void leave_memory_out_of_dumps(void) {
    sp_auto_fd int fd = openat(SP_PROC_FD, "self/coredump_filter", O_WRONLY | O_CLOEXEC);
    (void)!(fd != -1 ? write(fd, "0", 1) : 0);
}

int sp_zygote_leave_inherited(struct sp_rec_failed *why) {
    static const struct {
        const char *name;
        int (*leave)(void);
    } inherited[] = {
        {"real-time scheduling", leave_realtime}, {"negative niceness", leave_niceness},
        {"class of I/O", leave_io_class},         {"personality", leave_personality},
        {"oom_score_adj", leave_oom_score},
    };
    for (size_t i = 0; i < sizeof inherited / sizeof inherited[0]; i++) {
        const int rc = inherited[i].leave();
        if (rc != 0) {
            return sp_failed(why, SP_STAGE_LIMITS, -rc, inherited[i].name);
        }
    }
    leave_memory_out_of_dumps();
    return 0;
}
