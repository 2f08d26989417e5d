/* sources: csrc/init/landlock.c csrc/init/supervise.c csrc/init/supervise_call_linux.c csrc/init/supervise_change.c
 * csrc/init/supervise_filter.c csrc/init/supervise_find.c csrc/init/supervise_signal.c csrc/common/fd.c
 * csrc/common/text.c */
/*
 * Signals of tenants where Landlock does not judge them: to the tenant's own processes they work, and to nobody else.
 * Each attack runs first without the supervisor, where it must work.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>

#include "common/kill_mark.h"
#include "init/supervise_filter.h"
#include "supervised.h"

static pid_t victim;

/* What the filter of a command does: nobody leaves the group of all tenants. */
static int stay_in_group(void) {
    struct sock_filter insns[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setpgid, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kill, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SP_KILL_MARK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof insns / sizeof insns[0], insns};
    return result(setpgid(0, 0)) != 0 ? errno : result(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

static act_t *the_inner;

static int run_inner(void) { return stay_in_group() != 0 ? NOT_STARTED : the_inner(); }

static int as_grouped(enum setting setting, act_t *act) {
    the_inner = act;
    return as_tenant(setting, run_inner);
}

static pid_t fork_sleeper(void) {
    pid_t pid = fork();
    if (pid == 0) { /* as long as a test may last, should that fail to end it */
        (void)sleep(30);
        _exit(0);
    }
    return pid;
}

static int signal_of(pid_t pid) {
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

/* ---- its own processes ---- */

static volatile sig_atomic_t seen, value;

static void on_signal(int signal, siginfo_t *info, void *unused) {
    (void)unused;
    seen = signal;
    value = info->si_value.sival_int;
}

static void *keep_waiting(void *unused) {
    (void)unused;
    while (seen != SIGUSR2) {
        (void)usleep(1000);
    }
    return NULL;
}

static int signal_self(void) {
    const struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    pthread_t thread;
    (void)sigaction(SIGUSR1, &action, NULL);
    (void)sigaction(SIGUSR2, &action, NULL);
    if (raise(SIGUSR1) != 0 || seen != SIGUSR1) {
        return 1;
    }
    seen = 0;
    if (syscall(SYS_tkill, gettid(), SIGUSR1) != 0 || seen != SIGUSR1) {
        return 2;
    }
    seen = 0;
    if (kill(getpid(), SIGUSR1) != 0 || (usleep(1000), seen != SIGUSR1)) {
        return 3;
    }
    if (sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42}) != 0 || (usleep(1000), value != 42)) {
        return 4;
    }
    if (pthread_create(&thread, NULL, keep_waiting, NULL) != 0 || pthread_kill(thread, SIGUSR2) != 0 ||
        pthread_join(thread, NULL) != 0) {
        return 5;
    }
    return kill(0, 0) == 0 && kill(-getpgrp(), 0) == 0 ? 0 : 6;
}

static int abort_child(void) {
    pid_t pid = fork();
    if (pid == 0) {
        abort();
    }
    return signal_of(pid) == SIGABRT ? 0 : 1;
}

static int signal_children(void) {
    pid_t pid = fork_sleeper();
    if (kill(pid, 0) != 0 || kill(pid, SIGTERM) != 0 || signal_of(pid) != SIGTERM) {
        return 1;
    }
    pid = fork_sleeper(); /* as the shell does with a job */
    if (setpgid(pid, pid) != 0 || kill(-pid, SIGINT) != 0 || signal_of(pid) != SIGINT) {
        return 2;
    }
    pid = fork_sleeper();
    if (sigqueue(pid, SIGHUP, (union sigval){.sival_int = 1}) != 0 || signal_of(pid) != SIGHUP) {
        return 3;
    }
    return kill(pid, 0) == -1 && errno == ESRCH && kill(getpid(), 999) == -1 && errno == EINVAL ? 0 : 4;
}

static int sleep_a_bit(void) { return usleep(200000) == 0 ? 0 : errno; }

/* Another command of the same lease is no stranger. */
static int signal_other_tenant(void) {
    the_inner = sleep_a_bit;
    pid_t pid = fork_tenant(run_inner);
    (void)usleep(50000); /* it has joined a group of its own here */
    return pid > 0 && syscall(SYS_kill, pid, SIGKILL, SP_KILL_MARK) == 0 && signal_of(pid) == SIGKILL ? 0 : 1;
}

static void test_own(void) {
    CHECK(as_grouped(SETTING_SIGNALS, signal_self) == 0);
    CHECK(as_grouped(SETTING_SIGNALS, abort_child) == 0);
    CHECK(as_grouped(SETTING_SIGNALS, signal_children) == 0);
    CHECK(as_init(SETTING_SIGNALS, signal_other_tenant) == 0);
}

/* ---- others ---- */

static int by_kill(void) { return result(kill(victim, 0)); }
static int by_group(void) { return result(kill(-victim, 0)); }
static int by_all(void) { return result(kill(-1, 0)); }
static int by_tkill(void) { return result(syscall(SYS_tkill, victim, 0)); }
static int by_tgkill(void) { return result(syscall(SYS_tgkill, victim, victim, 0)); }
static int to_init(void) { return result(kill(getppid(), 0)); }
static int by_mark(void) { return result(syscall(SYS_kill, victim, SIGKILL, SP_KILL_MARK)); }

static int by_queue(void) {
    siginfo_t info = {.si_signo = 0, .si_code = SI_QUEUE};
    return result(syscall(SYS_rt_sigqueueinfo, victim, 0, &info));
}

static int by_thread_queue(void) {
    siginfo_t info = {.si_signo = 0, .si_code = SI_QUEUE};
    return result(syscall(SYS_rt_tgsigqueueinfo, victim, victim, 0, &info));
}

static int with_bad_address(void) {
    pid_t pid = fork_sleeper();
    int rc = result(syscall(SYS_rt_sigqueueinfo, pid, SIGKILL, 8));
    (void)kill(pid, SIGKILL);
    return rc;
}

static void test_others(void) {
    static act_t *const attacks[] = {by_kill,   by_group, by_all,   by_tkill,
                                     by_tgkill, to_init,  by_queue, by_thread_queue};
    victim = fork_sleeper();
    CHECK(setpgid(victim, victim) == 0);
    for (unsigned i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        CHECK(as_grouped(SETTING_OLD, attacks[i]) == 0);
        CHECK(as_grouped(SETTING_SIGNALS, attacks[i]) == EPERM);
        CHECK(as_grouped(SETTING_NO_SIGNALS, attacks[i]) == EPERM);
    }
    CHECK(as_grouped(SETTING_SIGNALS, by_mark) == EPERM);
    CHECK(as_grouped(SETTING_SIGNALS, with_bad_address) == EFAULT);
    CHECK(waitpid(victim, NULL, WNOHANG) == 0);
    (void)kill(victim, SIGKILL);
    CHECK(signal_of(victim) == SIGKILL);
}

/* ---- init ---- */

/* Signals of init do not wait for anybody who answers; here nobody does. */
static int kill_as_init(void) {
    pid_t pid = fork_sleeper();
    if (sp_supervised_filter(true) < 0) {
        return 1;
    }
    return syscall(SYS_kill, pid, SIGKILL, SP_KILL_MARK) == 0 && signal_of(pid) == SIGKILL ? 0 : 2;
}

static int kill_without_mark(void) {
    pid_t pid = fork_sleeper();
    return kill(pid, SIGKILL) == 0 && signal_of(pid) == SIGKILL ? 0 : 1;
}

static void test_init(void) {
    CHECK(as_init(SETTING_OLD, kill_as_init) == 0);
    CHECK(as_init(SETTING_SIGNALS, kill_without_mark) == 0);
}

int main(void) {
    check_deadline(60);
    (void)signal(SIGINT, SIG_DFL); /* a shell ignores it in what it runs in the background */
    set_the_stage();
    RUN(test_own);
    RUN(test_others);
    RUN(test_init);
    remove_all();
    return check_report();
}
