/*
 * A lease whose sandbox the test plays: it has init's end of the control socket. For programs that include a file of
 * host/execute, and need no pool for it.
 */
#ifndef SANDPOOL_TESTS_LEASED_H
#define SANDPOOL_TESTS_LEASED_H

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/packet.h"
#include "host/pool/state.h"
#include "host/sandbox/session.h"
#include "machine.h"

static struct {
    sp_pool *pool;
    struct sp_session *session; /* NULL: the lease has ended */
    int init;                   /* init's end of the control socket */
    unsigned fds_before;
    unsigned kills, oom_kills;
} leased;

static uint8_t is_mine;

static void nothing(struct sp_session *session) { (void)session; }

static void count_kill(struct sp_session *session) {
    (void)session;
    leased.kills++;
}

static int count_oom_kills(struct sp_session *session, struct sp_usage *used) {
    (void)session;
    *used = (struct sp_usage){.oom_kills = leased.oom_kills};
    return 0;
}

static void never_freed(sp_launcher *launcher) {
    (void)launcher;
    CHECK(!"the launcher is freed");
}

static const struct sp_launch_ops leased_ops = {.has_init = true,
                                                .session_size = sizeof(struct sp_session),
                                                .kill_sandbox = count_kill,
                                                .watch_memory = nothing,
                                                .usage = count_oom_kills,
                                                .free = never_freed};
static struct sp_launcher leased_launcher = {.ops = &leased_ops, .refs = 1};

bool sp_lease_is_out_of_memory(sp_pool *pool, int64_t handle) {
    (void)pool, (void)handle;
    return false;
}

struct sp_session *sp_lease_share(sp_pool *pool, int64_t handle, int *code) {
    CHECK(pool == leased.pool && handle == 1);
    *code = leased.session != NULL ? SP_OK : SP_E_RELEASED;
    if (leased.session != NULL) {
        atomic_fetch_add(&leased.session->refs, 1);
    }
    return leased.session;
}

static inline void begin_lease(void) {
    int pair[2];
    leased.fds_before = count_fds();
    leased.kills = leased.oom_kills = 0;
    leased.pool = calloc(1, sizeof *leased.pool);
    leased.session = sp_session_new(&leased_launcher);
    if (leased.pool == NULL || leased.session == NULL || sp_control_pair(pair) != 0) {
        abort();
    }
    is_mine = 1;
    leased.pool->mine = &is_mine;
    leased.session->control = pair[0];
    leased.session->control_identity = sp_identity_of(pair[0]);
    leased.init = pair[1];
}

static inline void release_lease(void) {
    sp_session_end(leased.session);
    leased.session = NULL;
}

/* Nothing of it is left. */
static inline void end_lease(void) {
    release_lease();
    sp_fd_close(&leased.init);
    free(leased.pool);
    CHECK(leased_launcher.refs == 1 && count_fds() == leased.fds_before);
}

/* Another part of the process closes this number, and opens another file with it. */
static inline void replace_descriptor(int fd) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(null != -1 && dup2(null, fd) == fd && close(null) == 0);
}

/* Until the limit that this returns is set again, the process can open nothing. */
static inline struct rlimit take_free_descriptors(void) {
    struct rlimit before;
    const int lowest = fcntl(0, F_DUPFD, 0);
    CHECK(lowest != -1 && close(lowest) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max}) == 0);
    return before;
}

static inline void send_answer(int sock, const struct sp_record *record, const char *text, size_t len, int fd) {
    const struct sp_outgoing out = {
        .record = record, .payload = text, .payload_len = len, .fds = &fd, .n_fds = fd != -1 ? 1 : 0};
    CHECK(sp_packet_send(sock, &out, sp_now() + 10000 * MS) == 0);
}

#endif
