/* Sends records to the init of one sandbox and receives its answers. Once a tenant has run, the host treats everything
 * that it receives here as hostile. */
#ifndef SANDPOOL_HOST_SANDBOX_SESSION_H
#define SANDPOOL_HOST_SANDBOX_SESSION_H

#include "common/wire.h"
#include "host/sandbox/launch.h"

struct sp_session_exec {
    uint32_t argc, envc;
    const char *cwd;
    const char *argv, *env;
    size_t argv_len, env_len;
    const int *fds; /* [stdin,] stdout, stderr: the tenant's ends, borrowed */
    bool has_stdin;
    uint32_t cpu_seconds;
};

/* Sends EXEC; session->last_id is then its id. 0 or -errno: -EPIPE when the sandbox is dead, -EBADF when its
 * descriptors are no longer ours, -E2BIG, -ENOMEM. */
int sp_session_send_exec(struct sp_session *session, const struct sp_session_exec *exec, int64_t deadline);
/*
 * Receives one record about the running command. 0 with *record filled: first ACK, then FAILED or EXITED, with the id
 * of the command. -EAGAIN: nothing has come; -ECONNRESET: the sandbox is dead; -EBADF: as above; -EBADMSG: the sandbox
 * has sent something else.
 */
int sp_session_recv(struct sp_session *session, struct sp_record *record);

/* check_begin and check_step of sp_launch_ops, for sandboxes that have an init or an agent. */
int sp_session_check_begin(struct sp_session *session, const struct sp_check *check, int64_t deadline);
int sp_session_check_step(struct sp_session *session, int *status);

#endif
