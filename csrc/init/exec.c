#include "init/exec.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/stage.h"
#include "init/confine.h"
#include "init/files.h"

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

/* What the child needs and what it leaves behind when exec fails: it shares init's memory until then. */
struct child {
    const struct sp_plan *plan;
    const struct sp_command *command;
    uint32_t stage;
    int err;
};

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
 * From here on this is the tenant-to-be: a process of its own on init's memory (vfork). Only async-signal-safe calls,
 * and nothing is written but `child`.
 */
static int child_main(void *arg) {
    struct child *child = arg;
    const struct sp_command *command = child->command;
    sigset_t none;
    child->stage = SP_STAGE_SPAWN;
    if (setsid() == -1 || dup2(command->fds[0], 0) == -1 || dup2(command->fds[1], 1) == -1 ||
        dup2(command->fds[2], 2) == -1) {
        child->err = errno;
        return 127;
    }
    child->stage = SP_STAGE_CWD;
    if (chdir(command->cwd) != 0) {
        child->err = errno;
        return 127;
    }
    child->stage = SP_STAGE_SECCOMP;
    child->err = -sp_install_filter(&child->plan->exec_filter);
    if (child->err != 0) {
        return 127;
    }
    child->stage = SP_STAGE_EXEC;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    child->err = exec_searched(command);
    return 127;
}

pid_t sp_command_spawn(const struct sp_plan *plan, const struct sp_command *command, struct sp_rec_failed *why) {
    static char stack[32 * 1024] __attribute__((aligned(16)));
    struct child child = {.plan = plan, .command = command};
    /* CLONE_VFORK: init sleeps until exec or exit, so the shared stack and `child` have one user at a time. */
    pid_t pid = clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
    if (pid == -1) {
        return sp_failed(why, SP_STAGE_SPAWN, errno, "clone");
    }
    /* The compiler may not know that the child wrote here. */
    int err = *(volatile int *)&child.err;
    if (err != 0) {
        while (waitpid(pid, NULL, 0) == -1 && errno == EINTR) {
        }
        return sp_failed(why, child.stage, err, child.stage == SP_STAGE_CWD ? command->cwd : command->argv[0]);
    }
    return pid;
}
