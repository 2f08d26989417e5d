/*
 * Births: a creation, from the request to the live session. It is asked for again when the launcher's process dies
 * meanwhile, and fails when it takes too long.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/fd.h"
#include "host/sandbox/launch.h"

/* The launcher's; who has a control socket then knows it again. */
static int begin(struct sp_birth *birth, sp_error *error) {
    struct sp_session *session = birth->session;
    int rc = session->launcher->ops->begin(session->launcher, birth, error);
    session->control_identity = sp_identity_of(session->control);
    session->pidfd_identity = sp_identity_of(session->pidfd); /* an agent has one from its start */
    return rc;
}

int sp_birth_begin(sp_launcher *launcher, struct sp_birth *birth, sp_error *error) {
    memset(birth, 0, sizeof *birth);
    birth->deadline = sp_now() + SP_CREATE_TIMEOUT_NS;
    birth->session = sp_session_new(launcher);
    if (birth->session == NULL) {
        return sp_error_set(error, SP_E_CREATE, SP_STAGE_HOST_SOCKET, ENOMEM, "memory");
    }
    int rc = begin(birth, error);
    if (rc < 0) {
        sp_birth_abandon(birth);
    }
    return rc < 0 ? rc : 0; /* one that is put off is a birth like others */
}

static int ask_later(struct sp_birth *birth, sp_error *error) {
    if (sp_now() < birth->not_before) {
        return SP_AGAIN;
    }
    birth->not_before = 0;
    int rc = begin(birth, error);
    return rc < 0 ? rc : SP_AGAIN;
}

/*
 * The zygote has died, and not the sandbox alone. It closes what it had of the birth before its own socket, so that the
 * first time this cannot be told yet; then it is asked for again in any case.
 */
static bool ended_mute(struct sp_birth *birth, const sp_error *error) {
    const struct sp_session *session = birth->session;
    bool mute =
        error->stage == SP_STAGE_PROTOCOL && error->err == ECONNRESET && session->launcher->ops->process_died != NULL;
    bool again = mute && (!birth->again || session->launcher->ops->process_died(session));
    birth->again = birth->again || again;
    return again;
}

/* What is half made descends from a process that is dead: a new session takes its place. */
static int ask_again(struct sp_birth *birth, sp_error *error) {
    struct sp_session *next = sp_session_new(birth->session->launcher);
    if (next == NULL) {
        return SP_E_CREATE; /* with the error that came */
    }
    sp_session_end(birth->session);
    birth->session = next;
    birth->ready = false;
    int rc = begin(birth, error);
    return rc < 0 ? rc : SP_AGAIN;
}

static int hear(struct sp_birth *birth, sp_error *error) {
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
    int rc = birth->not_before != 0 ? ask_later(birth, error) : hear(birth, error);
    if (rc < 0 && ended_mute(birth, error)) {
        rc = ask_again(birth, error);
    }
    if (rc == SP_AGAIN && sp_now() >= birth->deadline) {
        if (launcher->ops->birth_timed_out != NULL) {
            launcher->ops->birth_timed_out(launcher, birth);
        }
        rc = sp_error_set(error, SP_E_CREATE, SP_STAGE_TIMEOUT, ETIMEDOUT, "no answer from the zygote or init");
    }
    if (rc < 0) {
        sp_birth_abandon(birth);
    } else if (rc == 0) {
        birth->took = sp_now() - (birth->deadline - SP_CREATE_TIMEOUT_NS);
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
