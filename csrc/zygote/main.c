/* The program `sandpool-zygote`. The host starts it with its socket as descriptor 3. */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fact.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "common/wire.h"
#include "init/descriptors.h"
#include "init/landlock.h"
#include "init/processes.h"
#include "init/prove.h"
#include "zygote/zygote.h"

/* Opens /proc as SP_PROC_FD: first the host's, and later, in its place, that of the template. */
static int open_proc(const char *path, struct sp_rec_failed *why) {
    int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc == -1 || (proc != SP_PROC_FD && dup3(proc, SP_PROC_FD, O_CLOEXEC) == -1)) {
        return sp_failed(why, SP_STAGE_SPAWN_ZYGOTE, errno, path);
    }
    if (proc != SP_PROC_FD) {
        close(proc);
    }
    return 0;
}

/* Closes everything above the socket, and makes 0-2 /dev/null, so that no later descriptor gets their numbers. */
static int close_inherited(struct sp_rec_failed *why) {
    sp_auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = sp_close_from(proc, SP_ZYGOTE_SOCKET + 1);
    sp_fd_close(&proc);
    if (rc != 0) {
        return sp_failed(why, SP_STAGE_SPAWN_ZYGOTE, -rc, "close_range");
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++) {
        if (null == -1 || dup2(null, fd) == -1) {
            return sp_failed(why, SP_STAGE_SPAWN_ZYGOTE, errno, "/dev/null");
        }
    }
    if (null > SP_ZYGOTE_SOCKET) {
        close(null);
    }
    (void)fcntl(SP_ZYGOTE_SOCKET, F_SETFD, FD_CLOEXEC);
    return open_proc("/proc", why);
}

/* Clones would inherit the host's session keyring, and every tenant could read the names of its keys. */
static void leave_keyring(void) {
    /* This fails when the kernel has no keyrings or a filter blocks them; then there is nothing to leave. */
    (void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
}

/* Counted once here, so that each init, which drops them one by one, need not check which ones exist. */
static unsigned count_capabilities(void) {
    unsigned n = 0;
    while (prctl(PR_CAPBSET_READ, (unsigned long)n, 0, 0, 0) >= 0) {
        n++;
    }
    return n;
}

static int confine_self(struct sp_plan *plan, struct sp_rec_failed *why) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return sp_failed(why, SP_STAGE_NO_NEW_PRIVS, errno, NULL);
    }
    /* Otherwise a process of the same host uid could trace the zygote; when the host is root, that uid is "nobody". */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return sp_failed(why, SP_STAGE_SPAWN_ZYGOTE, errno, "undumpable");
    }
    return sp_zygote_filter(plan, why);
}

static struct sp_plan plan;

static int enter(int sock, struct sp_rec_failed *why) {
    if (sp_in_landlock_tier(&plan)) {
        return sp_zygote_enter_tier(sock, &plan, why);
    }
    int rc = sp_zygote_clone_binds(&plan, why);
    return rc != 0 ? rc : sp_zygote_enter(sock, &plan, why);
}

static int build_root(struct sp_rec_failed *why) {
    return sp_in_landlock_tier(&plan) ? sp_zygote_tier_rules(&plan, why) : sp_zygote_build_root(&plan, why);
}

/* What the host must not ask the kernel itself: see host/linux/tier.c. */
static int tell_landlock_abi(void) {
    int found = sp_landlock_abi(UINT32_MAX);
    uint8_t abi = found > 0 && found <= UINT8_MAX ? (uint8_t)found : 0;
    return write(SP_ZYGOTE_SOCKET, &abi, sizeof abi) == sizeof abi ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc > 0 && strcmp(argv[0], SP_LANDLOCK_QUESTION) == 0) {
        return tell_landlock_abi();
    }
    const int sock = SP_ZYGOTE_SOCKET;
    int host = -1;
    struct sp_record hello = {.type = SP_REC_HELLO};
    struct sp_rec_failed why;
    plan.command_line = argc > 0 ? argv[0] : NULL;
    int rc = close_inherited(&why);
    rc = rc != 0 ? rc : sp_zygote_configure(sock, &plan, &host, &why);
    sp_namespaces_of_self(plan.host_namespaces);
    plan.processes_of_user = sp_processes_are_of_user();
    rc = rc != 0 ? rc : sp_zygote_set_limits(&why);
    rc = rc != 0 ? rc : sp_zygote_leave_huge_pages(&plan, &why);
    rc = rc != 0 ? rc : sp_zygote_leave_inherited(&why);
    rc = rc != 0 ? rc : enter(sock, &why);
    leave_keyring();
    plan.n_capabilities = count_capabilities();
    rc = rc != 0 ? rc : build_root(&why);
    if (rc == 0 && (plan.left_out & SP_FACT_OWN_PROC) == 0) {
        rc = open_proc("/proc", &why);
    }
    sp_namespaces_of_self(plan.zygote_namespaces);
    rc = rc == 0 && plan.interpreter != NULL ? sp_zygote_prepare_stem(&plan, &why) : rc;
    rc = rc != 0 ? rc : confine_self(&plan, &why);
    if (rc == 0 && plan.interpreter != NULL) {
        rc = sp_zygote_become_stem(&plan, host, &why); /* returns only on failure */
    }
    if (rc != 0) {
        sp_packet_fail(sock, 0, &why);
        return 1;
    }
    rc = sp_packet_send(sock, &(struct sp_outgoing){.record = &hello}, SP_NEVER);
    if (rc == 0) {
        sp_zygote_serve(sock, host, &plan);
    }
    return 0;
}
