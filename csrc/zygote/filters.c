/*
 * The filters that the zygote installs: the template, and then some that only use up the kernel's limit on filters.
 *
 * A tenant may install filters of its own, as `file`, `man` and sshd do. Each takes kernel memory, which only a cgroup
 * limits. The kernel bounds the filters of each task: all of them together, including the inherited ones, may have
 * 32,768 instructions after translation, and each filter counts as 4 more (the bound and the penalty of
 * kernel/seccomp.c). That allows 3,600 filters of some 6 KiB each: 20 MiB a task. So the zygote installs filler
 * programs, which do nothing but "allow", until only as many instructions are left as init and the tenants need. The
 * fillers cost a tenant next to nothing: about a call whose verdict never varies the kernel asks each filter only once,
 * and about other calls each filter costs some 10 ns. They cost the zygote 3 to 5 ms, once, and half a MiB.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/stage.h"
#include "init/confine.h"
#include "init/prove.h"
#include "zygote/zygote.h"

#define PATH_MAX_INSNS 32768u /* MAX_INSNS_PER_PATH */
#define TENANT_INSNS 3200u    /* one filter of 1,500 classic instructions, and a few of some hundred */

/* The kernel translates a program of n classic "return" into 3 opening instructions and two for each "return"; the
 * penalty is 4. */
#define COST(n) (2 * (n) + 3 + 4)

static int install_filler(unsigned n) {
    static struct sock_filter allow[BPF_MAXINSNS];
    for (unsigned i = 0; i < n; i++) {
        allow[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    return sp_install_filter(&(struct sp_plan_filter){.insns = allow, .len = (uint16_t)n});
}

#define UNIT 128u /* instructions; a child reports a number of units as its exit status */

/* Runs in a child, whose filters end with it. Bounded, in case something answers the system call with success without
 * carrying it out. */
static int count_units(void) {
    unsigned found = 0;
    for (unsigned n = BPF_MAXINSNS; n >= UNIT / 2 && found < PATH_MAX_INSNS;) {
        if (install_filler(n) == 0) {
            found += COST(n);
        } else {
            n /= 2;
        }
    }
    return (int)(found < 255 * UNIT ? found / UNIT : 255);
}

/* A container or a service manager may have installed filters of unknown size before. A child finds out how many
 * instructions are left by installing fillers. */
static int measure_in_child(unsigned *room) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(count_units());
    }
    if (pid == -1 || waitpid(pid, &status, 0) != pid) {
        return -errno;
    }
    *room = WIFEXITED(status) ? (unsigned)WEXITSTATUS(status) * UNIT : 0;
    return 0;
}

/* COST() doubles the length: no classic instruction in our filters becomes more than two. */
static unsigned cost_at_most(const struct sp_plan_filter *filter) { return filter->len == 0 ? 0 : COST(filter->len); }

static int fill(const struct sp_plan *plan, unsigned inherited) {
    const unsigned kept = TENANT_INSNS + cost_at_most(&plan->init_filter) + cost_at_most(&plan->attach_filter) +
                          cost_at_most(&plan->exec_filter);
    unsigned room = PATH_MAX_INSNS - cost_at_most(&plan->template_filter);
    int rc = inherited == 0 ? 0 : measure_in_child(&room);
    while (rc == 0 && room > kept + COST(1)) {
        unsigned n = (room - kept - COST(0)) / 2;
        n = n < BPF_MAXINSNS ? n : BPF_MAXINSNS;
        rc = install_filler(n);
        room -= COST(n);
    }
    return rc;
}

int sp_zygote_filter(struct sp_plan *plan, struct sp_rec_failed *why) {
    const unsigned inherited = sp_filters_of_self();
    int rc = sp_install_filter(&plan->template_filter);
    rc = rc != 0 ? rc : fill(plan, inherited);
    plan->zygote_filters = sp_filters_of_self();
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_SECCOMP, -rc, "filter of the zygote");
}

int sp_zygote_refuse_unix(struct sp_plan *plan) {
    int rc = sp_refuse_unix_sockets();
    plan->zygote_filters = sp_filters_of_self();
    return rc;
}
