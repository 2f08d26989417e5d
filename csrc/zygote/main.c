/* The program `sandpool-zygote`. It is started by the host with its socket as fd 3 and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fact.h"
#include "common/packet.h"
#include "common/stage.h"
#include "init/prove.h"
#include "zygote/zygote.h"

/* The template's /proc takes this one's place once it is there. */
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

/* 0-2 become /dev/null, so that no later descriptor can take their numbers; everything above the socket is closed. */
static int close_inherited(struct sp_rec_failed *why) {
    if (syscall(SYS_close_range, SP_ZYGOTE_SOCKET + 1, ~0u, 0) != 0) {
        return sp_failed(why, SP_STAGE_SPAWN_ZYGOTE, errno, "close_range");
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

/* The host's session keyring would come along over the clones, its keys' names for every tenant to read. */
static void leave_keyring(void) {
    /* Without keyrings in the kernel, or with a filter over them, there is nothing to leave. */
    (void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
}

/* Counted once: each init drops them one by one, and needs not ask for each whether it is there. */
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
    /* A process of the same host uid could otherwise trace the zygote; for root's pools that uid is "nobody". */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return sp_failed(why, SP_STAGE_SPAWN_ZYGOTE, errno, "undumpable");
    }
    return sp_zygote_filter(plan, why);
}

static struct sp_plan plan;

int main(void) {
    const int sock = SP_ZYGOTE_SOCKET;
    int host = -1;
    struct sp_record hello = {.type = SP_REC_HELLO};
    struct sp_rec_failed why;
    int rc = close_inherited(&why);
    rc = rc != 0 ? rc : sp_zygote_configure(sock, &plan, &host, &why);
    sp_namespaces_of_self(plan.host_namespaces);
    rc = rc != 0 ? rc : sp_zygote_clone_binds(&plan, &why);
    rc = rc != 0 ? rc : sp_zygote_enter(sock, &plan, &why);
    leave_keyring();
    plan.n_capabilities = count_capabilities();
    rc = rc != 0 ? rc : sp_zygote_build_root(&plan, &why);
    if (rc == 0 && (plan.left_out & SP_FACT_OWN_PROC) == 0) {
        rc = open_proc("/proc", &why);
    }
    sp_namespaces_of_self(plan.zygote_namespaces);
    rc = rc != 0 ? rc : confine_self(&plan, &why);
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
