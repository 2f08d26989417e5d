#include "init/exec.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/stage.h"
#include "init/confine.h"

int sp_command_parse(const struct sp_rec_exec *exec, char *payload, char **vector, struct sp_command *command) {
    const char *cursor = payload;
    const char *end = payload + exec->payload_len;
    command->cwd = sp_strings_next(&cursor, end);
    if (command->cwd == NULL) {
        return -EBADMSG;
    }
    command->argv = vector;
    command->env = vector + exec->argc + 1;
    for (uint64_t i = 0; i < (uint64_t)exec->argc + exec->envc; i++) {
        const char *text = sp_strings_next(&cursor, end);
        if (text == NULL) {
            return -EBADMSG;
        }
        /* One slot further on behind argv's terminator. */
        vector[i < exec->argc ? i : i + 1] = payload + (text - payload);
    }
    vector[exec->argc] = NULL;
    vector[(uint64_t)exec->argc + exec->envc + 1] = NULL;
    return cursor == end ? 0 : -EBADMSG;
}

static const char *find_env(char **env, const char *key, size_t key_len) {
    for (; *env != NULL; env++) {
        if (strncmp(*env, key, key_len) == 0) {
            return *env + key_len;
        }
    }
    return NULL;
}

/* As execvp(3), without its fall-back to a shell: the errno that tells most is kept. Returns only on failure. */
static int exec_searched(const struct sp_command *command) {
    const char *name = command->argv[0];
    if (strchr(name, '/') != NULL) {
        execve(name, command->argv, command->env);
        return errno;
    }
    const char *path = find_env(command->env, "PATH=", 5);
    int err = ENOENT;
    for (const char *dir = path != NULL ? path : ""; *name != '\0' && *dir != '\0';) {
        size_t len = strcspn(dir, ":");
        char full[PATH_MAX];
        if (len + 1 + strlen(name) < sizeof full && len != 0) {
            memcpy(full, dir, len);
            full[len] = '/';
            strcpy(full + len + 1, name); /* NOLINT: measured on the line above */
            execve(full, command->argv, command->env);
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
                return errno;
            }
            err = errno == EACCES ? EACCES : err;
        }
        dir += len + (dir[len] == ':');
    }
    return err;
}

/*
 * Fewer queued signals than init may have: they are counted together, and a tenant that fills the queue must not take
 * the place of the host's KILL.
 */
static int limit_signals(void) {
    struct rlimit queued;
    if (getrlimit(RLIMIT_SIGPENDING, &queued) != 0) {
        return -1;
    }
    queued.rlim_max = queued.rlim_max < 256 ? queued.rlim_max : 256; /* the host's own may be lower */
    queued.rlim_cur = queued.rlim_max;
    return setrlimit(RLIMIT_SIGPENDING, &queued);
}

void sp_command_exec(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    sigset_t none;
    if (limit_signals() != 0 || setsid() == -1 || dup2(command->fds[0], 0) == -1 || dup2(command->fds[1], 1) == -1 ||
        dup2(command->fds[2], 2) == -1) {
        (void)sp_failed(why, SP_STAGE_SPAWN, errno, "session and streams");
        return;
    }
    if (chdir(command->cwd) != 0) {
        (void)sp_failed(why, SP_STAGE_CWD, errno, command->cwd);
        return;
    }
    int rc = sp_install_filter(&plan->exec_filter);
    if (rc != 0) {
        (void)sp_failed(why, SP_STAGE_SECCOMP, -rc, "filter of the command");
        return;
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int err = exec_searched(command);
    (void)sp_failed(why, SP_STAGE_EXEC, err, command->argv[0]);
}
