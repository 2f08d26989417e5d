/* The program `sandpool-agent SCRATCH`. Its descriptors are those of agent.h, and 0-2. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"

/* Up to now 2 was the lifeline, so that the host could read why `sandbox-exec` failed. */
static int open_own_null(struct sp_rec_failed *why) {
    sp_auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++) {
        if (null == -1 || dup2(null, fd) == -1) {
            return sp_failed(why, SP_STAGE_DEV, errno, "/dev/null");
        }
    }
    (void)fcntl(SP_AGENT_CONTROL, F_SETFD, FD_CLOEXEC);
    (void)fcntl(SP_AGENT_LIFELINE, F_SETFD, FD_CLOEXEC);
    return 0;
}

static int configure(struct sp_rec_config *config, struct sp_rec_failed *why) {
    struct sp_packet packet;
    int rc = sp_wait_fd(SP_AGENT_CONTROL, POLLIN, SP_NEVER);
    rc = rc != 0 ? rc : sp_packet_recv(SP_AGENT_CONTROL, &packet, NULL, 0);
    if (rc != 0 || packet.record.type != SP_REC_CONFIG) {
        return sp_failed(why, SP_STAGE_PROTOCOL, rc != 0 ? -rc : EBADMSG, "CONFIG");
    }
    *config = packet.record.u.config;
    return sp_agent_limit(config, why);
}

int main(int argc, char **argv) {
    struct sp_record ready = {.type = SP_REC_READY};
    struct sp_rec_config config;
    struct sp_rec_failed why;
    const pid_t host = getppid();
    int rc = open_own_null(&why);
    umask(022);
    if (rc == 0 && (argc != 2 || chdir(argv[1]) != 0)) {
        rc = sp_failed(&why, SP_STAGE_SCRATCH, argc == 2 ? errno : EINVAL, argc == 2 ? argv[1] : NULL);
    }
    rc = rc != 0 ? rc : configure(&config, &why);
    rc = rc != 0 ? rc : sp_processes_set_up(host, &why);
    if (rc != 0) {
        sp_packet_fail(SP_AGENT_CONTROL, 0, &why);
        return 1;
    }
    ready.u.ready.facts = sp_agent_prove(&config, host);
    if (sp_packet_send(SP_AGENT_CONTROL, &(struct sp_outgoing){.record = &ready}, SP_NEVER) == 0) {
        sp_agent_serve(SP_AGENT_CONTROL);
    }
    return 0;
}
