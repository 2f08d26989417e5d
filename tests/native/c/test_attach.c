/* sources: csrc/host/linux/attach.c csrc/host/sys/own.c csrc/host/sandbox/error.c
 * csrc/common/tree_linux.c csrc/common/idmap_linux.c csrc/common/vfork_linux.c csrc/common/packet.c csrc/common/wire.c
 * csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/text.c */
/* The host's half of attaching a workspace: what is asked of a zygote, which a process of this program plays, and what
 * comes of each of its answers. */
#include "host/linux/attach.h"

#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "common/stage.h"
#include "host/sandbox/session.h"
#include "lacks.h"
#include "nth.h"
#include "refused.h"

#define OURS "/tmp/ours"

static bool has_ended;
static int of_request; /* what init says, or does not */

bool sp_zygote_has_ended(const struct sp_zygote *z) { return z == NULL || has_ended; }

int sp_session_request(struct sp_session *session, const struct sp_session_request *request, int64_t deadline,
                       int *reply) {
    (void)session, (void)deadline;
    CHECK(request->record.type == SP_REC_NAMESPACES);
    *reply = of_request == 0 ? fcntl(0, F_DUPFD_CLOEXEC, 10) : -1;
    return of_request;
}

int sp_control_pair(int pair[2]) {
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0 ? 0 : -errno;
}

/* ---- the zygote ---- */

static enum { SAYS_YES, SAYS_NO, SAYS_DEAD, SAYS_NONSENSE, SAYS_TOO_MUCH, SAYS_NOTHING, WAITS } zygote_says;

static void answer(const struct sp_packet *order) {
    struct sp_record record = {.type = zygote_says == SAYS_NONSENSE ? SP_REC_STARTED : SP_REC_ACK};
    const struct sp_outgoing out = {
        .record = &record, .fds = order->fds, .n_fds = zygote_says == SAYS_TOO_MUCH ? 1 : 0};
    const struct sp_rec_failed no = {
        .stage = SP_STAGE_WORKSPACE, .err = zygote_says == SAYS_DEAD ? ECONNRESET : EMFILE, .detail = "there"};
    if (zygote_says == SAYS_NO || zygote_says == SAYS_DEAD) {
        sp_packet_fail(order->fds[0], 0, &no);
    } else if (zygote_says != SAYS_NOTHING) {
        (void)sp_packet_send(order->fds[0], &out, sp_now() + 1000 * MS);
    }
}

static void serve(int sock) {
    static char path[SP_ATTACH_PATH_MAX];
    struct sp_packet order;
    if (sp_wait_fd(sock, POLLIN, sp_now() + 10000 * MS) == 0 && sp_packet_recv(sock, &order, path, sizeof path) == 0) {
        bool as_ordered = order.record.type == SP_REC_ATTACH && strcmp(path, OURS) == 0 && order.n_fds >= 2;
        zygote_says = as_ordered ? zygote_says : SAYS_NONSENSE;
        if (zygote_says == WAITS) {
            (void)pause();
        }
        answer(&order);
    }
}

static struct sp_workspaces workspaces;
static struct sp_zygote zygote;
static sp_workspace wanted;
static sp_error error;

static void prepare(void) {
    int pair[2];
    const pid_t parent = getpid();
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755") == 0 && mkdir(OURS, 0755) == 0);
    make_pair(pair);
    if (fork() == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(pair[0]);
        if (getppid() == parent) {
            serve(pair[1]);
        }
        _exit(0);
    }
    (void)close(pair[1]);
    zygote.sock = pair[0];
    sp_workspaces_init(&workspaces);
    wanted = (sp_workspace){.size = sizeof wanted, .mode = SP_WORKSPACE_RO, .path = OURS};
}

static int attach_until(int64_t deadline) {
    error = (sp_error){0};
    return sp_attach_workspace(&workspaces, NULL, &zygote, &wanted, deadline, &error);
}

static int attach(void) { return attach_until(sp_now() + 10000 * MS); }

/* ---- answers ---- */

static void in_each_mode(void) {
    static const uint32_t modes[] = {SP_WORKSPACE_RW, SP_WORKSPACE_RO, SP_WORKSPACE_COW};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        prepare();
        unsigned fds = count_low_fds();
        wanted.mode = modes[i];
        CHECK(attach() == 0);
        sp_workspaces_close(&workspaces);
        CHECK(count_low_fds() == fds);
    }
}

static void answers(void) {
    static const int codes[] = {[SAYS_YES] = 0,
                                [SAYS_NO] = SP_E_EXEC,
                                [SAYS_DEAD] = SP_E_LOST,
                                [SAYS_NONSENSE] = SP_E_EXEC,
                                [SAYS_TOO_MUCH] = SP_E_EXEC,
                                [SAYS_NOTHING] = SP_E_LOST};
    for (int i = 0; i <= SAYS_NOTHING; i++) {
        zygote_says = i;
        prepare();
        unsigned fds = count_low_fds();
        CHECK(attach() == codes[i] && count_low_fds() == fds);
        CHECK(i != SAYS_NO || (error.err == EMFILE && error.stage == SP_STAGE_WORKSPACE));
        CHECK(i < SAYS_NONSENSE || i > SAYS_TOO_MUCH || (error.err == EBADMSG && error.stage == SP_STAGE_PROTOCOL));
    }
}

static void too_late(void) {
    zygote_says = WAITS;
    prepare();
    CHECK(attach_until(0) == SP_E_EXEC && error.err == ETIMEDOUT && error.stage == SP_STAGE_WORKSPACE);
}

static void of_the_dead(void) {
    prepare();
    has_ended = true;
    CHECK(attach() == SP_E_LOST);
    has_ended = false;
    of_request = -ECONNRESET;
    CHECK(attach() == SP_E_LOST);
    of_request = -EMFILE;
    CHECK(attach() == SP_E_EXEC && error.err == EMFILE && error.stage == SP_STAGE_WORKSPACE);
}

static void of_nothing(void) {
    prepare();
    wanted.path = "/tmp/nothing";
    CHECK(attach() == SP_E_EXEC && error.err == ENOENT && strcmp(error.detail, "/tmp/nothing") == 0);
    wanted.path = "/proc";
    CHECK(attach() == SP_E_EXEC && error.err == EINVAL);
}

/* Root of a container: the zygote makes the tree. */
static void without_a_right(void) {
    prepare();
    refuse(SYS_open_tree, EPERM);
    CHECK(attach() == 0);
}

static void each_answer_has_its_meaning(void) {
    CHECK(in_child(in_each_mode, 10) == 0 && in_child(answers, 20) == 0 && in_child(too_late, 10) == 0);
    CHECK(in_child(of_the_dead, 10) == 0 && in_child(of_nothing, 10) == 0 && in_child(without_a_right, 10) == 0);
}

/* ---- calls that are refused ---- */

static int attach_and_check(void) {
    int rc = attach();
    sp_workspaces_close(&workspaces);
    CHECK(rc == 0 || (rc == SP_E_EXEC && error.stage == SP_STAGE_WORKSPACE && strcmp(error.detail, OURS) == 0));
    return -error.err;
}

static void each_refused_call_is_reported(void) {
    static const long calls[] = {SYS_openat,     SYS_openat2,       SYS_open_tree,  SYS_fstatfs,
                                 SYS_readlinkat, SYS_mount_setattr, SYS_socketpair, SYS_sendmsg};
    const struct sweep sweep = {.prepare = prepare, .act = attach_and_check, .err = ENOMEM, .other = {EINVAL}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(60);
    RUN_WITHOUT(lack, each_answer_has_its_meaning);
    RUN_WITHOUT(lack, each_refused_call_is_reported);
    return check_report();
}
