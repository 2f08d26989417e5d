/*
 * Failures at the start of a zygote: each call is refused at the open of the launcher, and again when a dead zygote has
 * to be replaced. The launcher's files are part of this program with other names for their functions, and with these
 * calls replaced. The zygote is the real one.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "check.h"
#include "common/clock.h"
#include "common/packet.h"
#include "common/stage.h"
#include "host/linux/cgroup.h"
#include "host/linux/reaper.h"
#include "host/sandbox/launch.h"
#include "host/seccomp/seccomp.h"
#include "lacks.h"
#include "machine.h"

#ifndef ZYGOTE /* c_build.py compiles one for these tests */
#define ZYGOTE "pysandpool/_bin/sandpool-zygote"
#endif

static enum what {
    NOTHING,
    CALLOC,
    STRDUP,
    FILTER,
    PAIR,
    SPAWN,
    PIDFD,
    SEND,
    RECV,
    ADOPT,
    TAKE,
    HOLD,
    END,  /* the end of a process is not visible yet */
    ENDS  /* the same, the first time */
} refuse; /* every call of this kind is refused */

static void *faulty_calloc(size_t n, size_t size) { return refuse == CALLOC ? NULL : calloc(n, size); }

static char *faulty_strdup(const char *text) { return refuse == STRDUP ? NULL : strdup(text); }

static int faulty_filter(const struct sp_seccomp_policy *policy, struct sp_filter *filter) {
    return refuse == FILTER ? -ENOMEM : sp_seccomp_exec(policy, filter);
}

static int faulty_pair(int pair[2]) {
    pair[0] = pair[1] = -1;
    return refuse == PAIR ? -EMFILE : sp_control_pair(pair);
}

static int faulty_reaper_start(const struct sp_start *what, struct sp_reaper **reaper, pid_t *child) {
    return refuse == SPAWN ? -EAGAIN : sp_reaper_start(what, reaper, child);
}

static int faulty_send(int sock, const struct sp_outgoing *out, int64_t deadline) {
    return refuse == SEND ? -ENOBUFS : sp_packet_send(sock, out, deadline);
}

static int recv_error = -EMFILE;

static int faulty_recv(int sock, struct sp_packet *packet, void *payload, size_t size) {
    return refuse == RECV ? recv_error : sp_packet_recv(sock, packet, payload, size);
}

static int faulty_add_zygote(struct sp_cgroups *cgroups, pid_t pid) {
    return refuse == ADOPT ? -EBUSY : sp_cgroups_add_zygote(cgroups, pid);
}

static int64_t faulty_take(struct sp_cgroups *cgroups, int *fd) {
    return refuse == TAKE ? -ENOSPC : sp_cgroup_take(cgroups, fd);
}

static bool faulty_contains(struct sp_cgroups *cgroups, uint32_t number, pid_t pid) {
    return refuse != HOLD && sp_cgroup_contains(cgroups, number, pid);
}

static int faulty_poll(struct pollfd *fds, nfds_t n, int timeout) {
    const bool hidden = refuse == END || refuse == ENDS;
    refuse = refuse == ENDS ? NOTHING : refuse;
    return hidden ? 0 : poll(fds, n, timeout);
}

#define sp_launcher_open faulty_launcher_open
#define sp_zygote_spawn faulty_zygote_spawn
#define sp_zygote_ref faulty_zygote_ref
#define sp_zygote_unref faulty_zygote_unref
#define sp_zygote_receive faulty_zygote_receive
#define sp_zygote_await faulty_zygote_await
#define sp_zygote_no_answer faulty_zygote_no_answer
#define sp_zygote_has_ended faulty_zygote_has_ended
#define sp_zygote_kill faulty_zygote_kill
#define sp_zygote_reap faulty_zygote_reap
#define sp_zygote_end faulty_zygote_end
#define sp_zygote_order_make faulty_zygote_order_make
#define sp_zygote_order_free faulty_zygote_order_free
#define sp_zygotes_init faulty_zygotes_init
#define sp_zygotes_start faulty_zygotes_start
#define sp_zygotes_choose faulty_zygotes_choose
#define sp_zygotes_is_current faulty_zygotes_is_current
#define sp_zygotes_bind_failed faulty_zygotes_bind_failed
#define sp_zygotes_discard faulty_zygotes_discard
#define sp_zygotes_receive_start faulty_zygotes_receive_start
#define sp_zygotes_tend faulty_zygotes_tend
#define sp_zygotes_has_started faulty_zygotes_has_started
#define sp_zygotes_diagnostics faulty_zygotes_diagnostics
#define sp_zygotes_note_diagnostics faulty_zygotes_note_diagnostics
#define sp_zygotes_pid faulty_zygotes_pid
#define sp_zygotes_close faulty_zygotes_close
#define sp_zygotes_free faulty_zygotes_free
#define sp_zygotes_kill faulty_zygotes_kill
#define sp_zygotes_outdate_current faulty_zygotes_outdate_current
#define sp_zygotes_spawn faulty_zygotes_spawn
sp_launcher *sp_launcher_open(const sp_sandbox_options *options, sp_error *error);
#define calloc faulty_calloc
#define strdup faulty_strdup
#define sp_seccomp_exec faulty_filter
#define sp_control_pair faulty_pair
#define sp_reaper_start faulty_reaper_start
#define sp_packet_send faulty_send
#define sp_packet_recv faulty_recv
#define sp_cgroups_add_zygote faulty_add_zygote
#define sp_cgroup_take faulty_take
#define sp_cgroup_contains faulty_contains
#define poll faulty_poll
#define syscall(number, ...) \
    (refuse == PIDFD && (number) == SYS_pidfd_open ? (errno = EMFILE, -1L) : syscall(number, __VA_ARGS__))
/* NOLINTBEGIN(bugprone-suspicious-include): renamed symbols, see above */
#include "host/linux/order.c"
#define start start_zygote
#include "host/linux/zygote.c"
#undef start
#include "host/linux/launcher.c"
#include "host/linux/zygotes.c"
/* NOLINTEND(bugprone-suspicious-include) */

static sp_sandbox_options options_for(const char *zygote) {
    return (sp_sandbox_options){.size = sizeof(sp_sandbox_options),
                                .network = SP_NET_NONE,
                                .zygote_path = zygote,
                                .scratch_bytes = 16 << 20,
                                .scratch_inodes = 1024,
                                .allow_fork = 1,
                                .landlock_abi_max = UINT32_MAX};
}

/* No children of any kind, not even a reaper. */
static bool no_children(void) { return waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD; }

static void open_fails(const char *zygote, enum what what, int stage, int err) {
    const sp_sandbox_options options = options_for(zygote);
    const unsigned fds_before = count_fds();
    sp_error error = {0};
    refuse = what;
    CHECK(sp_launcher_open(&options, &error) == NULL);
    refuse = NOTHING;
    CHECK((stage == 0 || error.stage == stage) && (err == 0 || error.err == err));
    CHECK(count_fds() == fds_before && no_children());
}

static void a_start_fails_when_one_of_its_calls_fails(void) {
    open_fails(ZYGOTE, CALLOC, 0, 0);
    open_fails(ZYGOTE, STRDUP, SP_STAGE_SPAWN_ZYGOTE, ENOMEM);
    open_fails(ZYGOTE, FILTER, SP_STAGE_SPAWN_ZYGOTE, ENOMEM);
    open_fails(ZYGOTE, PAIR, SP_STAGE_HOST_SOCKET, EMFILE);
    open_fails(ZYGOTE, SPAWN, SP_STAGE_SPAWN_ZYGOTE, EAGAIN);
    open_fails(ZYGOTE, PIDFD, SP_STAGE_SPAWN_ZYGOTE, EMFILE);
    open_fails(ZYGOTE, SEND, SP_STAGE_SPAWN_ZYGOTE, ENOBUFS);
    open_fails(ZYGOTE, RECV, SP_STAGE_SPAWN_ZYGOTE, EMFILE);
}

static void a_program_that_is_no_zygote_is_reported(void) {
    open_fails("/no/such/program", NOTHING, SP_STAGE_SPAWN_ZYGOTE, ENOENT);
    open_fails("/etc/passwd", NOTHING, SP_STAGE_SPAWN_ZYGOTE, EACCES);
    open_fails("/bin/true", NOTHING, SP_STAGE_SPAWN_ZYGOTE, ECONNRESET);
}

static void an_interpreter_without_its_descriptors_is_reported(void) {
    static const struct {
        const char *module;
        int error, errors, err;
    } missing[] = {{"/no/such/module", 2, 2, ENOENT}, {"/dev/null", -1, 2, EBADF}, {"/dev/null", 2, -1, EBADF}};
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        sp_sandbox_options options = options_for(ZYGOTE);
        const unsigned fds_before = count_fds();
        sp_error error = {0};
        options.interpreter = "/usr/bin/python3";
        options.stem_module = missing[i].module;
        options.stem_stderr = missing[i].error;
        options.stem_errors = missing[i].errors;
        options.stem_source = options.stem_parameters = "";
        CHECK(sp_launcher_open(&options, &error) == NULL && error.stage == SP_STAGE_SPAWN_ZYGOTE);
        CHECK(error.err == missing[i].err && strcmp(error.detail, "CONFIG") == 0 && count_fds() == fds_before);
    }
}

/* A zygote that says nothing, or whose answer does not come in. */
static void reports(bool preloads, enum what what, int rc, int stage, const char *detail) {
    int pair[2];
    sp_error error = {0};
    make_pair(pair);
    struct sp_zygote z = {.sock = pair[0], .first = -1, .pidfd = -1, .preloads = preloads, .started = sp_now()};
    z.sock_identity = sp_identity_of(pair[0]);
    CHECK(what != RECV || write(pair[1], "x", 1) == 1);
    refuse = what;
    recv_error = rc;
    CHECK(sp_zygote_await(&z, what == RECV ? SP_NEVER : sp_now(), &error) == SP_E_CREATE);
    refuse = NOTHING;
    CHECK(error.stage == stage && error.err == -rc && strncmp(error.detail, detail, strlen(detail)) == 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void what_a_zygote_does_not_say_is_reported(void) {
    reports(false, NOTHING, -ETIMEDOUT, SP_STAGE_SPAWN_ZYGOTE, "no answer");
    reports(true, NOTHING, -ETIMEDOUT, SP_STAGE_PRELOAD, "the interpreter is not ready after ");
    reports(false, RECV, -EMFILE, SP_STAGE_SPAWN_ZYGOTE, "an answer of the zygote");
    reports(true, RECV, -EMFILE, SP_STAGE_PRELOAD, "an answer of the zygote");
    reports(true, RECV, -EPIPE, SP_STAGE_PRELOAD, "the zygote ended before it was ready");
    reports(false, RECV, -ECONNRESET, SP_STAGE_SPAWN_ZYGOTE, "the zygote ended before it was ready");
    recv_error = -EMFILE;
}

static sp_launcher *open_with(const sp_sandbox_options *options) {
    sp_error error = {0};
    sp_launcher *launcher = sp_launcher_open(options, &error);
    if (launcher == NULL) {
        abort();
    }
    sp_launcher_enter(launcher);
    return launcher;
}

static sp_launcher *open_launcher(void) {
    const sp_sandbox_options options = options_for(ZYGOTE);
    return open_with(&options);
}

static void close_launcher(sp_launcher *launcher) {
    sp_launcher_leave(launcher, sp_now() + 5000 * MS);
    sp_launcher_unref(launcher);
    sp_launcher_unref(launcher);
}

/* The zygote may answer before the process that has cloned it ends. The open does not wait for that end. */
static void the_first_process_may_end_last(void) {
    const unsigned fds_before = count_fds();
    refuse = END;
    sp_launcher *launcher = open_launcher();
    refuse = NOTHING;
    close_launcher(launcher);
    CHECK(count_fds() == fds_before && no_children());
}

/* Creates one sandbox and ends it. 0 or SP_E_CREATE. */
static int make_one(sp_launcher *launcher, sp_error *error) {
    struct sp_birth birth;
    int rc = sp_birth_begin(launcher, &birth, error);
    while (rc == 0 && (rc = sp_birth_wait(&birth, SP_NEVER, error)) == SP_AGAIN) {
        rc = 0;
    }
    if (rc == 0) {
        sp_session_end(birth.session);
    }
    return rc;
}

static void kill_zygote(sp_launcher *launcher) {
    sp_error error = {0};
    CHECK(make_one(launcher, &error) == 0);
    CHECK(kill((pid_t)sp_launcher_pid(launcher), SIGKILL) == 0);
    while (!sp_zygote_has_ended(((struct linux_launcher *)launcher)->zygotes.current)) {
        sleep_ns(MS);
    }
}

static void restart_fails(enum what what, int stage, int err) {
    const unsigned fds_before = count_fds();
    sp_launcher *launcher = open_launcher();
    sp_error error = {0};
    kill_zygote(launcher);
    refuse = what;
    sp_error again = {0};
    for (unsigned i = 0; i < 3; i++) { /* a later birth fails with the first error, or with that of another attempt */
        CHECK(make_one(launcher, &again) == SP_E_CREATE && again.stage == stage && again.err == err);
    }
    refuse = NOTHING;
    const int64_t give_up = sp_now() + 10000 * MS;
    while (make_one(launcher, &error) != 0 && sp_now() < give_up) {
        sleep_ns(MS);
    }
    CHECK(sp_now() < give_up && atomic_load(&launcher->restarts) == 1);
    close_launcher(launcher);
    CHECK(count_fds() == fds_before && no_children());
}

static void a_restart_fails_when_one_of_its_calls_fails(void) {
    restart_fails(CALLOC, SP_STAGE_SPAWN_ZYGOTE, ENOMEM);
    restart_fails(PAIR, SP_STAGE_HOST_SOCKET, EMFILE);
    restart_fails(SPAWN, SP_STAGE_SPAWN_ZYGOTE, EAGAIN);
    restart_fails(PIDFD, SP_STAGE_SPAWN_ZYGOTE, EMFILE);
    restart_fails(SEND, SP_STAGE_SPAWN_ZYGOTE, ENOBUFS);
}

/* ---- a zygote that ends or hangs while it is asked ---- */

/* It was alive when it was chosen. */
static void one_that_ends_before_it_is_asked_is_replaced(void) {
    sp_launcher *launcher = open_launcher();
    sp_error error = {0};
    kill_zygote(launcher);
    refuse = ENDS;
    CHECK(make_one(launcher, &error) == 0 && atomic_load(&launcher->restarts) == 1 && refuse == NOTHING);
    close_launcher(launcher);
}

/* Only one that has answered nobody since hangs, and is replaced; an interpreter that `loads` has its own time. */
static void one_hangs(bool loads) {
    sp_launcher *launcher = open_launcher();
    struct linux_launcher *l = (struct linux_launcher *)launcher;
    struct sp_birth birth;
    sp_error error = {0};
    CHECK(sp_birth_begin(launcher, &birth, &error) == 0);
    struct sp_zygote *z = l->zygotes.current;
    CHECK(birth_timed_out(launcher, &birth, &error) == SP_AGAIN); /* there is time */
    birth.began -= SP_CREATE_TIMEOUT_NS;
    atomic_store(&z->last_answer_at, sp_now());
    CHECK(birth_timed_out(launcher, &birth, &error) == SP_E_CREATE && l->zygotes.current == z);
    atomic_store(&z->last_answer_at, birth.began);
    z->preloads = loads;
    z->pid = loads ? 0 : z->pid; /* it is not ready */
    CHECK(birth_timed_out(launcher, &birth, &error) == SP_E_CREATE && l->zygotes.current == NULL);
    CHECK(!loads || (error.stage == SP_STAGE_PRELOAD && error.err == ETIMEDOUT));
    sp_birth_abandon(&birth);
    close_launcher(launcher);
}

static void one_that_hangs_is_replaced(void) {
    one_hangs(false);
    one_hangs(true);
}

/* ---- a cgroup for each sandbox, which needs no controller ---- */

static void opens_not(const sp_sandbox_options *options, enum what what, int stage, int err, const char *detail) {
    sp_error error = {0};
    refuse = what;
    CHECK(sp_launcher_open(options, &error) == NULL);
    refuse = NOTHING;
    CHECK(error.stage == stage && error.err == err && (detail == NULL || strcmp(error.detail, detail) == 0));
    CHECK(access(options->cgroup_dir, F_OK) != 0);
}

static void makes_not(sp_launcher *launcher, enum what what, int stage, int err, const char *detail) {
    sp_error error = {0};
    refuse = what;
    CHECK(make_one(launcher, &error) == SP_E_CREATE);
    refuse = NOTHING;
    CHECK(error.stage == stage && error.err == err && strcmp(error.detail, detail) == 0);
}

static void a_sandbox_without_its_cgroup_fails(void) {
    const char *mount = find_cgroup_mount();
    const unsigned fds_before = count_fds();
    sp_sandbox_options options = options_for(ZYGOTE);
    sp_error error = {0};
    char dir[128];
    if (mount == NULL) {
        printf("(no cgroup v2 that can be written) ");
        return;
    }
    (void)snprintf(dir, sizeof dir, "%s/pysandpool-faults-%d", mount, (int)getpid());
    options.cgroup_dir = dir;
    opens_not(&options, ADOPT, SP_STAGE_CGROUP, EBUSY, NULL);
    opens_not(&options, SPAWN, SP_STAGE_SPAWN_ZYGOTE, EAGAIN, NULL);
    sp_launcher *launcher = open_with(&options);
    CHECK(sp_launcher_cgroup(launcher) == 0 && make_one(launcher, &error) == 0);
    makes_not(launcher, TAKE, SP_STAGE_CGROUP, ENOSPC, "directory of a sandbox");
    makes_not(launcher, HOLD, SP_STAGE_PROOF, ENOTSUP, "a cgroup of its own");
    CHECK(make_one(launcher, &error) == 0);
    close_launcher(launcher);
    CHECK(access(dir, F_OK) != 0 && count_fds() == fds_before && no_children());
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(90);
    RUN(a_start_fails_when_one_of_its_calls_fails);
    RUN(a_program_that_is_no_zygote_is_reported);
    RUN(an_interpreter_without_its_descriptors_is_reported);
    RUN(what_a_zygote_does_not_say_is_reported);
    RUN_WITHOUT(lack, the_first_process_may_end_last);
    RUN_WITHOUT(lack, a_restart_fails_when_one_of_its_calls_fails);
    RUN_WITHOUT(lack, one_that_ends_before_it_is_asked_is_replaced);
    RUN_WITHOUT(lack, one_that_hangs_is_replaced);
    RUN_WITHOUT(lack, a_sandbox_without_its_cgroup_fails);
    return check_report();
}
