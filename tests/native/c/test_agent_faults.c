/*
 * Failures of the launcher of agents: at its open and at a birth each system call is refused, and a stand-in for
 * `sandbox-exec` fails in each way. The launcher's files are part of this program with other names for their functions,
 * and with these calls replaced.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "host/sandbox/launch.h"
#include "host/sandbox/strays.h"
#include "machine.h"

/* Which call is refused. The first `skip` calls of its kind still succeed. */
static enum what {
    NOTHING,
    CALLOC,
    MALLOC,
    STRDUP,
    PAIR,
    PIPE,
    FLAGS,
    MOVE,
    MAKE,
    SPAWN,
    SEND,
    LOCK,
    LIST,
    LIST_ONCE,
    /* These calls succeed, but something happens before them. */
    SWEEP_BEFORE_OPEN,
    SWEEP_BEFORE_LOCK,
    DEATH_BEFORE_SEND,
    CLOSE_BEFORE_SPAWN
} refuse;
static unsigned skip;

static void shut_down(sp_launcher *launcher, int64_t deadline);
static sp_launcher *newest;

static bool refused(enum what what) {
    if (refuse == what && skip != 0) {
        skip--;
        return false;
    }
    return refuse == what;
}

static void *faulty_calloc(size_t n, size_t size) { return refused(CALLOC) ? NULL : calloc(n, size); }
static void *faulty_malloc(size_t size) { return refused(MALLOC) ? NULL : malloc(size); }
static char *faulty_strdup(const char *text) { return refused(STRDUP) ? NULL : strdup(text); }

static int faulty_pair(int pair[2]) {
    pair[0] = pair[1] = -1;
    if (refused(CLOSE_BEFORE_SPAWN)) {
        shut_down(newest, sp_now());
    }
    return refused(PAIR) ? -EMFILE : sp_stream_pair(pair);
}

static int faulty_pipe(int pair[2]) {
    pair[0] = pair[1] = -1;
    return refused(PIPE) ? -ENFILE : sp_pipe(pair);
}

static int faulty_fcntl(int fd, int command, int value) {
    if ((command == F_SETFL && refused(FLAGS)) || (command == F_DUPFD_CLOEXEC && refused(MOVE))) {
        errno = EINVAL;
        return -1;
    }
    return fcntl(fd, command, value);
}

static int faulty_mkdirat(int dir, const char *name, mode_t mode) {
    if (refused(MAKE)) {
        errno = ENOSPC;
        return -1;
    }
    return mkdirat(dir, name, mode);
}

static int faulty_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attr, char *const argv[], char *const env[]) {
    return refused(SPAWN) ? EAGAIN : posix_spawn(pid, path, actions, attr, argv, env);
}

static int faulty_send(int sock, const struct sp_outgoing *out, int64_t deadline) {
    if (refused(DEATH_BEFORE_SEND)) {
        CHECK(sp_wait_fd(sock, POLLIN, SP_NEVER) == 0);
    }
    return refused(SEND) ? -ENOBUFS : sp_packet_send(sock, out, deadline);
}

/* Does what a sweep does to one directory. */
static void sweep(const char *path) {
    refuse = NOTHING;
    CHECK(rmdir(path) == 0);
}

static int faulty_open(const char *path, int flags) {
    if (refused(SWEEP_BEFORE_OPEN)) {
        sweep(path);
    }
    return open(path, flags);
}

static int lock_errno = EWOULDBLOCK;

static int faulty_flock(int fd, int operation) {
    if (refused(SWEEP_BEFORE_LOCK)) {
        char link[32];
        char path[64] = "";
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        CHECK(readlink(link, path, sizeof path - 1) > 0);
        sweep(path);
    }
    if (refused(LOCK)) {
        errno = lock_errno;
        return -1;
    }
    return flock(fd, operation);
}

static DIR *faulty_fdopendir(int fd) {
    const bool once = refused(LIST_ONCE);
    refuse = once ? NOTHING : refuse;
    if (once || refused(LIST)) {
        errno = ENOMEM;
        return NULL;
    }
    return fdopendir(fd);
}

#define sp_agents_open faulty_agents_open
#define sp_agent_begin faulty_agent_begin
#define sp_agent_step faulty_agent_step
#define sp_agent_scratch_path faulty_agent_scratch_path
#define sp_scratch_root_make faulty_scratch_root_make
#define sp_scratch_root_sweep faulty_scratch_root_sweep
#define sp_scratch_root_remove faulty_scratch_root_remove
#define sp_scratch_remove faulty_scratch_remove
sp_launcher *sp_agents_open(const sp_agent_options *options, sp_error *error);
#define calloc faulty_calloc
#define malloc faulty_malloc
#define strdup faulty_strdup
#define sp_stream_pair faulty_pair
#define sp_pipe faulty_pipe
#define fcntl faulty_fcntl
#define mkdirat faulty_mkdirat
#define posix_spawn faulty_spawn
#define sp_packet_send faulty_send
#define open faulty_open
#define flock faulty_flock
#define fdopendir faulty_fdopendir
/* NOLINTBEGIN(bugprone-suspicious-include): renamed symbols, see above */
#include "host/agent/birth.c"
#include "host/agent/launcher.c"
#include "host/sandbox/scratch.c"
#include "host/sandbox/scratch_root.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef calloc
#undef malloc
#undef strdup
#undef fcntl
#undef mkdirat
#undef open
#undef flock
#undef fdopendir

static char folder[] = "/tmp/sandpool-faults-XXXXXX";

static bool no_children(void) { return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD; }

static unsigned left_in(const char *path) {
    unsigned n = 0;
    DIR *list = opendir(path);
    if (list == NULL) {
        abort();
    }
    for (const struct dirent *e; (e = readdir(list)) != NULL;) {
        n += strncmp(e->d_name, "pysandpool-", 11) == 0;
    }
    closedir(list);
    return n;
}

/* Creates a stand-in for `sandbox-exec`: a shell script that runs `body`. */
static const char *stand_in(const char *body) {
    static char path[64];
    (void)snprintf(path, sizeof path, "%s/sandbox-exec", folder);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        CHECK(!"it can be written");
        return path;
    }
    (void)fprintf(file, "#!/bin/sh\n%s\n", body);
    (void)fclose(file);
    CHECK(chmod(path, 0755) == 0);
    return path;
}

static sp_agent_options options_for(const char *sandbox_exec) {
    return (sp_agent_options){.size = sizeof(sp_agent_options),
                              .unproved = 1,
                              .sandbox_exec = sandbox_exec,
                              .profile = "(version 1)",
                              .program = "/bin/true",
                              .scratch_parent = folder};
}

static void open_fails(enum what what, unsigned after, int stage, int err) {
    const sp_agent_options options = options_for("/bin/true");
    const unsigned fds_before = count_fds();
    sp_error error = {0};
    refuse = what;
    skip = after;
    CHECK(sp_agents_open(&options, &error) == NULL);
    refuse = NOTHING;
    CHECK(error.stage == stage && (stage == 0 || error.err == err));
    CHECK(count_fds() == fds_before && left_in(folder) == 0);
}

static void an_open_fails_when_one_of_its_calls_fails(void) {
    open_fails(CALLOC, 0, 0, 0);
    open_fails(MALLOC, 0, SP_STAGE_SCRATCH, ENOMEM);
    for (unsigned i = 0; i < 3; i++) {
        open_fails(STRDUP, i, SP_STAGE_SCRATCH, ENOMEM);
    }
    lock_errno = EOPNOTSUPP; /* as on a file system without locks */
    open_fails(LOCK, 0, SP_STAGE_SCRATCH, EOPNOTSUPP);
    sp_error error;
    sp_agent_options wrong = options_for("/bin/true");
    wrong.size--;
    CHECK(sp_agents_open(&wrong, &error) == NULL && error.code == SP_E_INVAL);
}

/* A sweep holds the lock of each new directory. */
static void a_directory_that_a_sweep_has_locked_is_abandoned(void) {
    const sp_agent_options options = options_for("/bin/true");
    sp_error error;
    lock_errno = EWOULDBLOCK;
    refuse = LOCK;
    skip = 0;
    CHECK(sp_agents_open(&options, &error) == NULL && error.err == EAGAIN && left_in(folder) == 0);
    refuse = NOTHING;
    char other[64];
    (void)snprintf(other, sizeof other, "%s/other", folder);
    CHECK(mkdir(other, 0700) == 0);
    int dir = open(other, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(is_at(dir, other));
    CHECK(rmdir(other) == 0 && !is_at(dir, other));
    CHECK(mkdir(other, 0700) == 0 && !is_at(dir, other)); /* another directory with the same name */
    CHECK(rmdir(other) == 0);
    sp_fd_close(&dir);
}

/* A sweep removes the directory between two steps of its creation: the launcher tries again. */
static void a_directory_swept_during_its_creation_is_created_again(void) {
    const sp_agent_options options = options_for("/bin/true");
    for (enum what what = SWEEP_BEFORE_OPEN; what <= SWEEP_BEFORE_LOCK; what++) {
        sp_error error;
        refuse = what;
        skip = what == SWEEP_BEFORE_OPEN; /* the first call opens the parent */
        sp_launcher *launcher = sp_agents_open(&options, &error);
        CHECK(launcher != NULL && refuse == NOTHING && left_in(folder) == 1);
        refuse = NOTHING;
        sp_launcher_unref(launcher);
        CHECK(left_in(folder) == 0);
    }
}

static sp_launcher *open_launcher(const char *sandbox_exec) {
    const sp_agent_options options = options_for(sandbox_exec);
    sp_error error;
    sp_launcher *launcher = sp_agents_open(&options, &error);
    CHECK(launcher != NULL);
    sp_launcher_enter(launcher);
    newest = launcher;
    return launcher;
}

static void close_launcher(sp_launcher *launcher) {
    sp_launcher_leave(launcher, sp_now() + 5000 * MS);
    sp_launcher_unref(launcher);
    sp_launcher_unref(launcher);
}

/* Runs one birth until `timeout`. 0 or SP_E_CREATE. */
static int run_birth(sp_launcher *launcher, int64_t timeout, sp_error *error) {
    struct sp_birth birth;
    int rc = sp_birth_begin(launcher, &birth, error);
    if (rc != 0) {
        return rc;
    }
    birth.deadline = sp_now() + timeout;
    while ((rc = sp_birth_wait(&birth, SP_NEVER, error)) == SP_AGAIN) {
    }
    if (rc == 0) {
        sp_session_end(birth.session);
    }
    return rc;
}

static void birth_fails(enum what what, unsigned after, int stage, int err) {
    const unsigned fds_before = count_fds();
    sp_launcher *launcher = open_launcher("/bin/true");
    sp_error error = {0};
    refuse = what;
    skip = after;
    CHECK(run_birth(launcher, 5000 * MS, &error) == SP_E_CREATE);
    refuse = NOTHING;
    CHECK(error.stage == stage && error.err == err);
    close_launcher(launcher);
    CHECK(count_fds() == fds_before && no_children() && left_in(folder) == 0);
}

static void a_birth_fails_when_one_of_its_calls_fails(void) {
    birth_fails(CALLOC, 0, SP_STAGE_HOST_SOCKET, ENOMEM);
    birth_fails(PAIR, 0, SP_STAGE_HOST_SOCKET, EMFILE);
    birth_fails(PIPE, 0, SP_STAGE_HOST_SOCKET, ENFILE);
    birth_fails(FLAGS, 0, SP_STAGE_HOST_SOCKET, EINVAL);
    birth_fails(MOVE, 0, SP_STAGE_HOST_SOCKET, EINVAL);
    birth_fails(MOVE, 1, SP_STAGE_HOST_SOCKET, EINVAL);
    birth_fails(MALLOC, 0, SP_STAGE_SCRATCH, ENOMEM);
    birth_fails(MAKE, 0, SP_STAGE_SCRATCH, ENOSPC);
    birth_fails(SPAWN, 0, SP_STAGE_SPAWN_ZYGOTE, EAGAIN);
    birth_fails(SEND, 0, SP_STAGE_PROTOCOL, ENOBUFS);
}

static void a_death_or_a_close_ends_a_birth(void) {
    birth_fails(DEATH_BEFORE_SEND, 0, SP_STAGE_SEATBELT, EPROTO); /* the error says why the agent ended */
    birth_fails(CLOSE_BEFORE_SPAWN, 0, SP_STAGE_SCRATCH, EPIPE);
}

/* The application has closed the descriptor of the directory and opened another file under its number. */
static void a_foreign_descriptor_in_place_of_the_directory_is_left_alone(void) {
    const unsigned fds_before = count_fds();
    sp_launcher *launcher = open_launcher("/bin/true");
    struct sp_agents *agents = (struct sp_agents *)launcher;
    sp_error error = {0};
    int own = dup(agents->root_fd);
    int foreign = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(dup2(foreign, agents->root_fd) != -1);
    CHECK(run_birth(launcher, 5000 * MS, &error) == SP_E_CREATE);
    CHECK(error.stage == SP_STAGE_SCRATCH && error.err == EBADF);
    CHECK(dup2(own, agents->root_fd) != -1 && close(own) == 0 && close(foreign) == 0);
    close_launcher(launcher);
    CHECK(count_fds() == fds_before && no_children() && left_in(folder) == 0);
}

/* The same while an agent ends: what it has left is removed by the start of a later launcher. */
static void a_later_start_removes_what_an_agent_has_left(void) {
    const unsigned fds_before = count_fds();
    sp_launcher *launcher = open_launcher(stand_in("exec sleep 600"));
    struct sp_agents *agents = (struct sp_agents *)launcher;
    sp_error error = {0};
    struct sp_birth birth;
    CHECK(sp_birth_begin(launcher, &birth, &error) == 0);
    const int number = agents->root_fd;
    const int foreign = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(dup2(foreign, number) == number);
    sp_birth_abandon(&birth);
    close_launcher(launcher);
    CHECK(no_children() && left_in(folder) == 1 && fcntl(number, F_GETFD) != -1);
    CHECK(close(number) == 0 && close(foreign) == 0 && count_fds() == fds_before);
    close_launcher(open_launcher("/bin/true"));
    CHECK(left_in(folder) == 0);
}

/* It cannot be listed at first, and is not empty. */
static void a_directory_is_removed_at_the_second_try(void) {
    char *path = NULL;
    int root = sp_scratch_root_make(folder, &path);
    CHECK(root >= 0 && mkdirat(root, "left", 0700) == 0);
    refuse = LIST_ONCE;
    skip = 0;
    sp_scratch_root_remove(root, path);
    CHECK(refuse == NOTHING && left_in(folder) == 0);
    sp_fd_close(&root);
    free(path);
}

static void stand_in_fails(const char *body, int stage, int err, const char *words) {
    const unsigned fds_before = count_fds();
    sp_launcher *launcher = open_launcher(stand_in(body));
    sp_error error = {0};
    CHECK(run_birth(launcher, 1000 * MS, &error) == SP_E_CREATE);
    if (error.stage != stage || error.err != err || strstr(error.detail, words) == NULL) {
        (void)fprintf(stderr, "%s: stage %d, errno %d, %s\n", body, error.stage, error.err, error.detail);
        CHECK(!"it fails as it should");
    }
    close_launcher(launcher);
    CHECK(count_fds() == fds_before && no_children() && left_in(folder) == 0);
}

static void a_program_that_is_not_sandbox_exec_is_reported(void) {
    stand_in_fails("exit 1", SP_STAGE_SEATBELT, EPROTO, "ended before it was ready");
    stand_in_fails("kill -9 $$", SP_STAGE_SEATBELT, EPROTO, "ended before it was ready");
    stand_in_fails("echo first >&2; echo second >&2", SP_STAGE_SEATBELT, EPROTO, "first");
    stand_in_fails("echo x: Operation not permitted >&2", SP_STAGE_SEATBELT, EPERM, "not permitted");
    stand_in_fails("exec sleep 600", SP_STAGE_TIMEOUT, ETIMEDOUT, "");
    stand_in_fails("trap '' TERM; while :; do sleep 1; done", SP_STAGE_TIMEOUT, ETIMEDOUT, ""); /* is killed */
    stand_in_fails("head -c 128 /dev/zero >&3; exec sleep 600", SP_STAGE_PROTOCOL, EBADMSG, "unexpected");
    stand_in_fails("echo short >&3; exec sleep 600", SP_STAGE_PROTOCOL, EBADMSG, "unexpected");
    sp_launcher *launcher = open_launcher("/no/such/program");
    sp_error error = {0};
    CHECK(run_birth(launcher, 1000 * MS, &error) == SP_E_CREATE && error.err == ENOENT);
    CHECK(error.stage == SP_STAGE_SPAWN_ZYGOTE && strcmp(error.detail, "/no/such/program") == 0);
    close_launcher(launcher);
}

/* The agent sends this record in place of READY. */
static void record_fails(const struct sp_record *record, int stage, int err, const char *words) {
    uint8_t bytes[SP_RECORD_SIZE];
    char body[64 + 5 * SP_RECORD_SIZE] = "printf '";
    sp_wire_pack(record, bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        (void)snprintf(body + strlen(body), 8, "\\%03o", bytes[i]);
    }
    (void)snprintf(body + strlen(body), 32, "' >&3; exec sleep 600");
    stand_in_fails(body, stage, err, words);
}

static void only_expected_records_are_accepted(void) {
    struct sp_record failed = {.type = SP_REC_FAILED};
    (void)sp_failed(&failed.u.failed, SP_STAGE_LIMITS, EPERM, "RLIMIT_CORE");
    record_fails(&failed, SP_STAGE_LIMITS, EPERM, "RLIMIT_CORE");
    record_fails(&(struct sp_record){.type = SP_REC_ACK, .u.id.id = 1}, SP_STAGE_PROTOCOL, EBADMSG, "unexpected");
}

/* The agent ignores SIGTERM, and the deadline of the close has passed: the launcher kills it. */
static void a_close_without_time_kills_the_agents(void) {
    sp_launcher *launcher = open_launcher(stand_in("trap '' TERM; while :; do sleep 1; done"));
    sp_error error = {0};
    struct sp_birth birth;
    CHECK(sp_birth_begin(launcher, &birth, &error) == 0);
    sp_birth_abandon(&birth);
    sp_launcher_leave(launcher, sp_now());
    CHECK(no_children());
    sp_launcher_unref(launcher);
    sp_launcher_unref(launcher);
    CHECK(left_in(folder) == 0);
}

static void a_closed_launcher_creates_no_sandbox(void) {
    sp_launcher *launcher = open_launcher("/bin/true");
    sp_error error = {0};
    sp_launcher_leave(launcher, sp_now());
    CHECK(run_birth(launcher, 1000 * MS, &error) == SP_E_CREATE);
    CHECK(error.stage == SP_STAGE_PROTOCOL && error.err == EPIPE);
    sp_launcher_unref(launcher);
    sp_launcher_unref(launcher);
}

/* A directory cannot be listed: the tree stays until the next sweep. */
static void a_tree_that_cannot_be_listed_is_kept(void) {
    char root[64];
    char inner[80];
    (void)snprintf(root, sizeof root, "%s/pysandpool-dead", folder);
    (void)snprintf(inner, sizeof inner, "%s/s1", root);
    CHECK(mkdir(root, 0700) == 0 && mkdir(inner, 0700) == 0);
    (void)snprintf(inner, sizeof inner, "%s/s1/d", root);
    CHECK(mkdir(inner, 0700) == 0);
    for (unsigned i = 0; i < 3; i++) { /* the parent, the root, the scratch directory */
        refuse = LIST;
        skip = i;
        sp_scratch_root_sweep(folder);
        refuse = NOTHING;
        CHECK(left_in(folder) == 1 || i == 2);
    }
    sp_scratch_root_sweep(folder);
    CHECK(left_in(folder) == 0);
    sp_scratch_root_sweep("/no/such/directory");
}

int main(void) {
    check_deadline(90);
    if (mkdtemp(folder) == NULL) {
        return EXIT_FAILURE;
    }
    RUN(an_open_fails_when_one_of_its_calls_fails);
    RUN(a_directory_that_a_sweep_has_locked_is_abandoned);
    RUN(a_directory_swept_during_its_creation_is_created_again);
    RUN(a_birth_fails_when_one_of_its_calls_fails);
    RUN(a_death_or_a_close_ends_a_birth);
    RUN(a_foreign_descriptor_in_place_of_the_directory_is_left_alone);
    RUN(a_later_start_removes_what_an_agent_has_left);
    RUN(a_directory_is_removed_at_the_second_try);
    RUN(a_program_that_is_not_sandbox_exec_is_reported);
    RUN(only_expected_records_are_accepted);
    RUN(a_close_without_time_kills_the_agents);
    RUN(a_closed_launcher_creates_no_sandbox);
    RUN(a_tree_that_cannot_be_listed_is_kept);
    (void)unlink(stand_in("exit 0"));
    (void)rmdir(folder);
    return check_report();
}
