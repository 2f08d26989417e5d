#include "init/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/text.h"
#include "init/supervise_call.h"
#include "init/supervise_filter.h"

/* Linux 6.6: the answer wakes the tenant on the same processor. */
#define SET_FLAGS _IOW('!', 4, uint64_t)
#define SYNC_WAKE_UP 1

/* More than the kernel's structures of today, which may grow. */
#define STRUCT_MAX 512

/* Written by init before the thread may read it. */
static struct {
    struct sp_places places;
    sem_t has_listener;
    int listener;
} the;

static bool is_signal(int nr) {
    bool found = false;
    for (unsigned i = 0; i < SP_SIGNAL_CALLS; i++) {
        found = found || sp_signal_calls[i] == nr;
    }
    return found;
}

/* Returns the answer: 0, SP_CALL_CONTINUE or -errno. The directory of /proc is opened before the check that the call
 * still waits. So it is that of the thread that made the call, and stays so: if the thread dies and its number is used
 * again, the open directory does not show the other thread. */
static int serve(const struct seccomp_notif *notice, bool confined) {
    static struct sp_call call;
    char name[32] = "";
    (void)sp_append_number(name, name + sizeof name, notice->pid);
    sp_auto_fd int task = openat(the.places.proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (task == -1 || ioctl(the.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notice->id) != 0 || !confined) {
        return -EPERM;
    }
    if (is_signal(notice->data.nr)) { /* this is a thread of init, whose own signals pass */
        return notice->pid == (uint32_t)getpid() ? SP_CALL_CONTINUE
                                                 : sp_call_signal(&the.places, (pid_t)notice->pid, task, &notice->data);
    }
    int rc = sp_call_read(&notice->data, task, &call);
    sp_auto_fd int file = rc == 0 ? sp_places_find(&the.places, task, &call) : -1;
    if (rc == 0 && file < 0) {
        rc = file;
        file = -1;
    }
    return rc != 0 ? rc : sp_call_perform(&call, file, the.places.proc);
}

static void *run(void *unused) {
    static union {
        struct seccomp_notif notice;
        char room[STRUCT_MAX];
    } in;
    static union {
        struct seccomp_notif_resp answer;
        char room[STRUCT_MAX];
    } out;
    (void)unused;
    const bool confined = sp_supervisor_filter() == 0;
    while (sem_wait(&the.has_listener) != 0) {
    }
    for (;;) {
        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        if (ioctl(the.listener, SECCOMP_IOCTL_NOTIF_RECV, &in.notice) != 0) {
            if (errno == EINTR || errno == ENOENT) { /* ENOENT: the caller was killed */
                continue;
            }
            sp_fd_close(&the.listener); /* each call gets ENOSYS then, in place of waiting for ever */
            return NULL;
        }
        out.answer.id = in.notice.id;
        int rc = serve(&in.notice, confined);
        out.answer.error = rc < 0 ? rc : 0;
        out.answer.flags = rc == SP_CALL_CONTINUE ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
        (void)ioctl(the.listener, SECCOMP_IOCTL_NOTIF_SEND, &out.answer); /* fails when the caller was killed */
    }
}

/* The thread blocks all signals, so that those for init interrupt init's main thread. */
static int start_thread(void) {
    static char stack[128 * 1024] __attribute__((aligned(64)));
    sigset_t all;
    sigset_t before;
    pthread_t thread;
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0) {
        return -rc;
    }
    (void)pthread_attr_setstack(&attr, stack, sizeof stack);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&thread, &attr, run, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return -rc;
}

/* A newer kernel may write longer structures than the headers have; it tells their sizes. */
static int check_sizes(void) {
    struct seccomp_notif_sizes sizes;
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0) {
        return -errno;
    }
    return sizes.seccomp_notif <= STRUCT_MAX && sizes.seccomp_notif_resp <= STRUCT_MAX ? 0 : -EOVERFLOW;
}

int sp_supervise_start(const struct sp_supervised *places, unsigned n) {
    int rc = check_sizes();
    if (rc != 0) {
        return rc;
    }
    the.places.n = 0;
    the.places.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (the.places.proc == -1 || sem_init(&the.has_listener, 0, 0) != 0) {
        return -errno;
    }
    for (unsigned i = 0; i < n && i < SP_SUPERVISED_MAX && rc == 0; i++) {
        rc = sp_places_add(&the.places, places[i].fd, places[i].name);
    }
    rc = rc != 0 ? rc : start_thread();
    if (rc != 0) {
        sp_fd_close(&the.places.proc);
    }
    return rc;
}

int sp_supervise_listen(bool signals) {
    int listener = sp_supervised_filter(signals);
    if (listener < 0) {
        return listener;
    }
    uint64_t sync_wake_up = SYNC_WAKE_UP;
    (void)ioctl(listener, SET_FLAGS, sync_wake_up);
    the.listener = listener;
    (void)sem_post(&the.has_listener);
    return 0;
}

int sp_supervise_refuse(bool signals) { return sp_refused_filter(signals); }
