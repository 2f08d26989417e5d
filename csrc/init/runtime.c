#include "init/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/stage.h"
#include "init/confine.h"
#include "init/diagnostics.h"
#include "init/exec.h"
#include "init/landlock_tier.h"
#include "init/leftovers.h"

#define READY "ready\n"

enum { STDIN, STDOUT, STDERR, SOCKET };

/* ---- in the child, up to its exec ---- */

static _Noreturn void become(const struct sp_plan *plan, const int far_ends[4]) {
    struct sp_rec_failed why;
    struct sp_command command = *plan->runtime;
    memcpy(command.fds, far_ends, sizeof command.fds);
    command.channel = -1;
    sp_limit_processes(plan, 0);
    sp_leftovers_mark();
    if (sp_tier_child(plan) != 0) {
        _exit(127);
    }
    /* dup2() takes away close-on-exec, unless both are the same; but seven others were opened before this one. What has
     * this number now, the child does not need. */
    (void)dup2(far_ends[SOCKET], SP_RUNTIME_SOCKET);
    sp_command_exec(plan, &command, &why);
    (void)!write(STDERR_FILENO, why.detail, strnlen(why.detail, sizeof why.detail));
    (void)!write(STDERR_FILENO, ": ", 2);
    const char *reason = strerror((int)why.err);
    (void)!write(STDERR_FILENO, reason, strlen(reason));
    _exit(127);
}

/* ---- in init ---- */

static void swap(int pair[2]) {
    int first = pair[0];
    pair[0] = pair[1];
    pair[1] = first;
}

/* The ends of init in ends[], and those of the runtime in far_ends[]. 0 or -errno. */
static int open_streams(int ends[4], int far_ends[4]) {
    for (int i = 0; i < 4; i++) {
        int pair[2] = {-1, -1};
        int rc =
            i == SOCKET ? (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 ? 0 : -errno) : sp_pipe(pair);
        if (i == STDIN && rc == 0) {
            swap(pair);
        }
        ends[i] = pair[0];
        far_ends[i] = pair[1];
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int sp_runtime_start(struct sp_runtime *runtime, const struct sp_plan *plan, struct sp_rec_failed *why) {
    int far_ends[4] = {-1, -1, -1, -1};
    *runtime = (struct sp_runtime){.ends = {-1, -1, -1, -1}};
    int rc = open_streams(runtime->ends, far_ends);
    pid_t pid = rc == 0 ? fork() : -1;
    rc = rc == 0 && pid == -1 ? -errno : rc;
    if (pid == 0) {
        become(plan, far_ends);
    }
    for (int i = 0; i < 4; i++) {
        sp_fd_close(&far_ends[i]);
    }
    if (rc != 0) {
        sp_runtime_leave(runtime);
        return sp_failed(why, SP_STAGE_PRELOAD, -rc, "start of the runtime");
    }
    runtime->pid = pid;
    sp_tier_started(plan, pid);
    return 0;
}

/* What it has written to stderr explains a start that failed, its last line most briefly. */
static int explain(const struct sp_runtime *runtime, int err, struct sp_rec_failed *why) {
    char last[SP_DETAIL_SIZE];
    sp_diagnostics_read_all(runtime->ends[STDERR]);
    sp_diagnostics_last_line(sp_diagnostics_text(), last);
    const bool explains = *last != '\0' && err != ETIMEDOUT;
    return sp_failed(why, SP_STAGE_PRELOAD, err, explains ? last : "the runtime has not said that it is ready");
}

int sp_runtime_await(struct sp_runtime *runtime, int64_t until, struct sp_rec_failed *why) {
    char got[sizeof READY - 1];
    for (size_t have = 0; have < sizeof got;) {
        int rc = sp_wait_fd(runtime->ends[SOCKET], POLLIN, until);
        if (rc == -EINTR) { /* a child has ended: then the socket says so */
            continue;
        }
        ssize_t n = rc == 0 ? read(runtime->ends[SOCKET], got + have, sizeof got - have) : -1;
        if (n <= 0) {
            return explain(runtime, rc != 0 ? -rc : ECHILD, why);
        }
        have += (size_t)n;
        if (memcmp(got, READY, have) != 0) {
            return explain(runtime, EBADMSG, why);
        }
    }
    return 0;
}

/* ---- the request: one line of JSON ---- */

struct line {
    int socket;
    size_t len;
    char bytes[4096];
};

/*
 * If nobody reads any more, the runtime has ended, and init reports that. If the runtime does not read, this waits
 * until it is killed. The host has the same open file by now, and has made it non-blocking.
 */
static void flush(struct line *line) {
    for (size_t sent = 0; sent < line->len;) {
        ssize_t n = send(line->socket, line->bytes + sent, line->len - sent, MSG_NOSIGNAL);
        if (n == -1 && errno == EAGAIN) {
            (void)sp_wait_fd(line->socket, POLLOUT, SP_NEVER);
        } else if (n == -1 && errno != EINTR) {
            break;
        }
        sent += n > 0 ? (size_t)n : 0;
    }
    line->len = 0;
}

static void put(struct line *line, char byte) {
    if (line->len == sizeof line->bytes) {
        flush(line);
    }
    line->bytes[line->len++] = byte;
}

static void put_text(struct line *line, const char *text) {
    while (*text != '\0') {
        put(line, *text++);
    }
}

/* A string of JSON: the bytes up to `end`, which is not escaped, or to NUL. Returns what follows. */
static const char *put_string(struct line *line, const char *text, char end) {
    static const char digits[] = "0123456789abcdef";
    put(line, '"');
    for (; *text != '\0' && *text != end; text++) {
        const unsigned char byte = (unsigned char)*text;
        if (byte < 0x20) {
            put_text(line, "\\u00");
            put(line, digits[byte >> 4]);
            put(line, digits[byte & 15]);
            continue;
        }
        if (byte == '"' || byte == '\\') {
            put(line, '\\');
        }
        put(line, *text);
    }
    put(line, '"');
    return text;
}

int sp_runtime_request(const struct sp_runtime *runtime, const struct sp_command *command) {
    struct line line = {.socket = runtime->ends[SOCKET]};
    const char *code = command->argv[0] != NULL ? command->argv[1] : NULL;
    const char *options = code != NULL ? command->argv[2] : NULL;
    if (options == NULL) {
        return -EBADMSG;
    }
    put_text(&line, "{\"code\":");
    (void)put_string(&line, code, '\0');
    put_text(&line, ",\"env\":{");
    for (char **variable = command->env; *variable != NULL; variable++) {
        put_text(&line, variable == command->env ? "" : ",");
        const char *value = put_string(&line, *variable, '=');
        put(&line, ':');
        (void)put_string(&line, *value == '=' ? value + 1 : value, '\0');
    }
    put_text(&line, "},\"cwd\":");
    (void)put_string(&line, command->cwd, '\0');
    put_text(&line, ",\"options\":");
    put_text(&line, options);
    put_text(&line, "}\n");
    flush(&line);
    return 0;
}

/* ---- its end ---- */

void sp_runtime_leave(struct sp_runtime *runtime) {
    for (int i = 0; i < 4; i++) {
        sp_fd_close(&runtime->ends[i]);
    }
    runtime->pid = 0;
}

/* A command that traces it keeps it from being reaped, so init does not wait for that. */
void sp_runtime_end(struct sp_runtime *runtime) {
    if (runtime->pid != 0 && !runtime->ended) {
        (void)kill(runtime->pid, SIGKILL);
    }
    sp_runtime_leave(runtime);
}
