/*
 * Signals for a tenant, where Landlock does not keep them inside (before ABI 6). All tenants of an init are in one
 * process group, which they cannot leave, and nobody else is in it. So the group of the receiver decides.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/text.h"
#include "init/supervise_call.h"

const uint16_t sp_signal_calls[SP_SIGNAL_CALLS] = {SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo,
                                                   SYS_rt_tgsigqueueinfo};

/* Whether the thread `tid` belongs to the process `pid`. */
static bool is_thread_of(int proc, pid_t tid, pid_t pid) {
    char name[64] = "";
    const char *end = name + sizeof name;
    char *at = sp_append_number(name, end, (uint32_t)pid);
    (void)sp_append_number(sp_append(at, end, "/task/"), end, (uint32_t)tid);
    sp_auto_fd int task = openat(proc, name, O_PATH | O_CLOEXEC);
    return pid > 0 && task != -1;
}

/*
 * By a pidfd: if the receiver ends after the look at its group, the signal reaches nobody, whoever gets its number. The
 * number of the caller's group is taken as long as the caller lives.
 */
static int send_signal(pid_t caller, pid_t pid, int number, siginfo_t *info) {
    sp_auto_fd int process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process == -1) {
        return errno == EINVAL ? -EPERM : -errno; /* EINVAL: the number of a thread */
    }
    pid_t group = getpgid(caller);
    if (group <= 0 || getpgid(pid) != group) {
        return -EPERM;
    }
    return syscall(SYS_pidfd_send_signal, process, number, info, 0) == 0 ? 0 : -errno;
}

/* A program takes the group that it believes to have opened (setpgid does nothing) for that of its leader. */
static int send_to(pid_t caller, pid_t pid, int number) {
    if (pid == -1 || pid == INT_MIN) {
        return -EPERM;
    }
    const bool is_own_group = pid < 0 && -pid == getpgid(caller);
    return is_own_group ? SP_CALL_CONTINUE : send_signal(caller, pid < 0 ? -pid : pid, number, NULL);
}

static int queue_signal(pid_t caller, int task, const struct seccomp_data *data) {
    siginfo_t info;
    sp_auto_fd int memory = openat(task, "mem", O_RDONLY | O_CLOEXEC);
    if (memory == -1) {
        return -EPERM;
    }
    if (data->args[2] > INT64_MAX || pread(memory, &info, sizeof info, (off_t)data->args[2]) != (ssize_t)sizeof info) {
        return -EFAULT;
    }
    if ((int)data->args[1] != info.si_signo || info.si_code >= 0 || info.si_code == SI_TKILL) {
        return -EPERM;
    }
    return send_signal(caller, (pid_t)data->args[0], (int)data->args[1], &info);
}

/* The kernel may go on with a signal to a thread of the calling process, which no other process can become meanwhile.
 */
int sp_call_signal(const struct sp_places *places, pid_t caller, int task, const struct seccomp_data *data) {
    const pid_t pid = (pid_t)data->args[0];
    switch (data->nr) {
    case SYS_kill:
        return send_to(caller, pid, (int)data->args[1]);
    case SYS_tkill:
        return pid == caller ? SP_CALL_CONTINUE : -EPERM;
    case SYS_tgkill:
    case SYS_rt_tgsigqueueinfo:
        return is_thread_of(places->proc, caller, pid) ? SP_CALL_CONTINUE : -EPERM;
    case SYS_rt_sigqueueinfo:
        return is_thread_of(places->proc, caller, pid) ? SP_CALL_CONTINUE : queue_signal(caller, task, data);
    default:
        return -EPERM;
    }
}
