/* Sends records to the init of one sandbox and receives its answers. Once a tenant has run, the host treats everything
 * that it receives here as hostile. */
#ifndef SANDPOOL_HOST_SANDBOX_SESSION_H
#define SANDPOOL_HOST_SANDBOX_SESSION_H

#include "common/packet.h"
#include "common/wire.h"
#include "host/sandbox/launch.h"

struct sp_session_exec {
    uint32_t argc, envc;
    const char *cwd;
    const char *argv, *env;
    size_t argv_len, env_len;
    const int *fds; /* [stdin,] stdout, stderr [, channel]: the tenant's ends, borrowed */
    bool has_stdin, runs;
    bool for_runtime; /* there are no fds: the ACK brings the host's ends */
    uint32_t cpu_seconds;
};

/* Sends EXEC; session->last_id is then its id. 0 or -errno: -EPIPE when the sandbox is dead, -EBADF when its
 * descriptors are no longer ours, -E2BIG, -ENOMEM. */
int sp_session_send_exec(struct sp_session *session, const struct sp_session_exec *exec, int64_t deadline);
/* The host's ends of the streams of a runtime: stdin, stdout, stderr, socket. */
#define SP_RUNTIME_ENDS 4

/*
 * Receives one record about the running command. 0 with *record filled: first ACK, then FAILED or EXITED, with the id
 * of the command. -EAGAIN: nothing has come; -ECONNRESET: the sandbox is dead; -EBADF: as above; -EBADMSG: the sandbox
 * has sent something else; -EMFILE with `acked` set: ACK, but this process has no room for the descriptors that it
 * brought. ends[] gets those, for the caller to close, and is -1 otherwise; NULL where no runtime was asked for.
 */
int sp_session_recv(struct sp_session *session, struct sp_record *record, int ends[SP_RUNTIME_ENDS]);

/* A request whose answers come over a socket of its own, so that any thread can wait for them, and an end of file
 * shows that the sandbox is dead. */
struct sp_session_request {
    struct sp_record record;
    const void *payload;
    size_t payload_len;
    int fds[SP_PACKET_FDS - 1]; /* that follow the far end of the reply socket, borrowed */
    unsigned n_fds;
    bool for_init; /* the standby cannot serve it */
};

/* Sends the request. *reply is then the near end of its reply socket: each record that it receives shows its sender.
 * 0, or -errno as sp_session_send_exec(); -ENOTSUP where the sandbox has no init. Another thread may end the session
 * meanwhile: the caller holds a reference. */
int sp_session_request(struct sp_session *session, const struct sp_session_request *request, int64_t deadline,
                       int *reply);
/* Sends KILL for the last command. */
void sp_session_send_kill(struct sp_session *session);

/* check_begin and check_step of sp_launch_ops, for sandboxes that have an init or an agent. */
int sp_session_check_begin(struct sp_session *session, const struct sp_check *check, int64_t deadline);
int sp_session_check_step(struct sp_session *session, int *status);

#endif
