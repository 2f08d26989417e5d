#include "init/command.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int sp_command_parse(const struct sp_rec_exec *exec, char *payload, char **vector, struct sp_command *command) {
    const char *cursor = payload;
    const char *end = payload + exec->payload_len;
    command->cwd = sp_strings_next(&cursor, end);
    if (command->cwd == NULL) {
        return -EBADMSG;
    }
    command->cpu_seconds = exec->cpu_seconds;
    command->for_runtime = (exec->flags & SP_EXEC_RUNTIME) != 0;
    command->has_terminal = false;
    command->argv = vector;
    command->env = vector + exec->argc + 1;
    for (uint64_t i = 0; i < (uint64_t)exec->argc + exec->envc; i++) {
        const char *text = sp_strings_next(&cursor, end);
        if (text == NULL) {
            return -EBADMSG;
        }
        /* The environment starts one slot later, after the NULL that ends argv. */
        vector[i < exec->argc ? i : i + 1] = payload + (text - payload);
    }
    vector[exec->argc] = NULL;
    vector[(uint64_t)exec->argc + exec->envc + 1] = NULL;
    return cursor == end ? 0 : -EBADMSG;
}

/*
 * The kernel sends SIGXCPU at the soft limit, and SIGKILL one second later to a process that lives on. Both are whole
 * seconds; the limit of the host's own shell may be lower.
 */
int sp_command_limit_cpu(const struct sp_command *command) {
    struct rlimit now;
    if (command->cpu_seconds == 0) {
        return 0;
    }
    if (getrlimit(RLIMIT_CPU, &now) != 0) {
        return -errno;
    }
    const rlim_t soft = command->cpu_seconds;
    const struct rlimit wanted = {.rlim_cur = soft < now.rlim_max ? soft : now.rlim_max,
                                  .rlim_max = soft + 1 < now.rlim_max ? soft + 1 : now.rlim_max};
    return setrlimit(RLIMIT_CPU, &wanted) == 0 ? 0 : -errno;
}

static const char *find_env(char **env, const char *key, size_t key_len) {
    for (; *env != NULL; env++) {
        if (strncmp(*env, key, key_len) == 0) {
            return *env + key_len;
        }
    }
    return NULL;
}

int sp_command_search(const struct sp_command *command) {
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
            strcpy(full + len + 1, name); /* NOLINT: its length is checked above */
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
