/*
 * A birth is the creation of one sandbox, from the request to the live session. It is requested again when the
 * launcher's process dies meanwhile, and fails when it takes too long.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/fd.h"
#include "host/sandbox/launch.h"

/* Calls the launcher's begin(), and stores the identity of the descriptors that it has opened. */
static int begin(struct sp_birth *birth, sp_error *error) {
    struct sp_session *session = birth->session;
    int rc = session->launcher->ops->begin(session->launcher, birth, error);
    session->control_identity = sp_identity_of(session->control);
    session->pidfd_identity = sp_identity_of(session->pidfd); /* an agent may have a pidfd from its start */
    return rc;
}

int sp_birth_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    memset(birth, 0, sizeof *birth);
    birth->began = sp_now();
    birth->deadline = birth->began + SP_CREATE_TIMEOUT_NS + launcher->preload_ns;
    birth->session = sp_session_new(launcher);
    if (birth->session == NULL) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOMEM, "memory");
    }
    int rc = begin(birth, error);
    if (rc < 0) {
        sp_birth_abandon(birth);
    }
    return rc < 0 ? rc : 0; /* SP_AGAIN: step() will make the request later */
}

static int begin_when_due(struct sp_birth *birth, sp_error *error) {
    if (sp_now() < birth->not_before) {
        return SP_AGAIN;
    }
    birth->not_before = 0;
    int rc = begin(birth, error);
    return rc < 0 ? rc : SP_AGAIN;
}

/*
 * The control socket was closed without an answer: did the zygote die, or only the sandbox? A dying zygote closes its
 * end of the control socket before its own socket, so the host may not see its death yet. Therefore the birth is
 * requested again in any case the first time, and after that only if the zygote has died.
 */
static bool should_retry(const struct sp_birth *birth, const sp_error *error) {
    const struct sp_launch_ops *ops = birth->session->launcher->ops;
    bool no_answer = error->stage == SP_STAGE_PROTOCOL && error->err == ECONNRESET;
    return no_answer && ops->process_died != NULL && (!birth->retried || ops->process_died(birth->session));
}

/* The incomplete session belongs to a process that is dead: a new session replaces it. */
static int retry(struct sp_birth *birth, sp_error *error) {
    birth->retried = true;
    struct sp_session *next = sp_session_new(birth->session->launcher);
    if (next == NULL) {
        return SP_E_CREATE; /* *error still holds the reason of the first failure */
    }
    sp_session_end(birth->session);
    birth->session = next;
    birth->ready = false;
    int rc = begin(birth, error);
    return rc < 0 ? rc : SP_AGAIN;
}

/* A path was replaced after it was bound, and the kernel cannot attach what has no name any more. Asks for a zygote
 * that binds the new one; if the path is missing, that fails with the reason. */
static bool lost_a_path(const struct sp_birth *birth, const sp_error *error) {
    const struct sp_launch_ops *ops = birth->session->launcher->ops;
    bool by_path = error->stage == SP_STAGE_BIND || error->stage == SP_STAGE_ROOTFS;
    return by_path && birth->session->control != -1 && ops->is_current != NULL && !ops->is_current(birth->session);
}

static int receive_answer(struct sp_birth *birth, sp_error *error) {
    struct sp_session *session = birth->session;
    if (!sp_is_own(session->control, &session->control_identity)) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, EBADF, "closed by another part of this process");
    }
    int rc = session->launcher->ops->step(session->launcher, birth, error);
    if (session->pidfd_identity.ino == 0) {
        session->pidfd_identity = sp_identity_of(session->pidfd);
    }
    return rc;
}

int sp_birth_step(struct sp_birth *birth, sp_error *error) {
    sp_launcher *launcher = birth->session->launcher;
    int rc = birth->not_before != 0 ? begin_when_due(birth, error) : receive_answer(birth, error);
    if (rc < 0 && (should_retry(birth, error) || lost_a_path(birth, error))) {
        rc = retry(birth, error);
    }
    if (rc == SP_AGAIN && sp_now() >= birth->deadline) {
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_TIMEOUT, ETIMEDOUT, "no answer from the zygote or init");
        if (launcher->ops->birth_timed_out != NULL) {
            rc = launcher->ops->birth_timed_out(launcher, birth, error);
        }
    }
    if (rc < 0) {
        sp_birth_abandon(birth);
    } else if (rc == 0) {
        birth->duration = sp_now() - birth->began;
    }
    return rc;
}

int sp_birth_wait(struct sp_birth *birth, int64_t slice_end, sp_error *error) {
    for (;;) {
        int rc = sp_birth_step(birth, error);
        if (rc != SP_AGAIN) {
            return rc;
        }
        int64_t until = birth->deadline < slice_end ? birth->deadline : slice_end;
        until = birth->not_before != 0 && birth->not_before < until ? birth->not_before : until;
        rc = sp_wait_fd(birth->session->control, POLLIN, until);
        if (rc == -EINTR || (rc == -ETIMEDOUT && until == slice_end)) {
            return SP_AGAIN;
        }
    }
}

void sp_birth_abandon(struct sp_birth *birth) {
    sp_session_end(birth->session);
    birth->session = NULL;
}
