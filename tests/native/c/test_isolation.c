/* Which facts a sandbox must prove before it is handed out, and that a birth without them fails. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "check.h"
#include "common/clock.h"
#include "common/fact.h"
#include "common/fd.h"
#include "common/packet.h"
#include "fake_pool.h"
#include "host/sandbox/launch.h"

static const sp_sandbox_options plain = {.size = sizeof plain, .memory_bytes = 1 << 20, .max_processes = 4};

#define OF_AGENTS                                                                                      \
    (SP_FACT_HOST_UNREAD | SP_FACT_HOST_UNWRITTEN | SP_FACT_HOST_UNSIGNALLED | SP_FACT_NO_CONNECTION | \
     SP_FACT_NO_SET_ID)

static uint32_t demanded(sp_sandbox_options o, uint32_t by_cgroup) { return sp_facts_demanded(&o, by_cgroup); }

static void test_demanded(void) {
    sp_sandbox_options o = plain;
    uint32_t all = demanded(o, 0);
    const uint32_t not_asked_for =
        SP_FACT_UTS_NS | SP_FACT_LANDLOCK_DENIES | SP_FACT_NO_LINK | SP_FACT_LIMIT_DATA | OF_AGENTS;
    CHECK(all == (SP_FACT_ALL & ~not_asked_for));
    CHECK(demanded(o, SP_CGROUP_MEMORY) == (all & ~(uint32_t)SP_FACT_MEMORY_WATCH));
    o.data_bytes = 1 << 20;
    CHECK(demanded(o, 0) == (all | SP_FACT_LIMIT_DATA));
    CHECK((demanded(o, SP_CGROUP_MEMORY) & SP_FACT_LIMIT_DATA) != 0);
    o.data_bytes = o.memory_bytes = o.max_processes = 0;
    CHECK(demanded(o, 0) == (all & ~(uint32_t)(SP_FACT_MEMORY_WATCH | SP_FACT_LIMIT_NPROC)));
}

static void test_demanded_of_the_network(void) {
    const uint32_t of_network = SP_FACT_NET_NS | SP_FACT_NO_INET | SP_FACT_NO_LINK;
    sp_sandbox_options o = plain;
    CHECK((demanded(o, 0) & of_network) == (SP_FACT_NET_NS | SP_FACT_NO_INET));
    o.network = SP_NET_LOOPBACK;
    CHECK((demanded(o, 0) & of_network) == (SP_FACT_NET_NS | SP_FACT_NO_LINK));
    o.network = SP_NET_NONE;
    o.seccomp_profile = SP_SECCOMP_NETWORK;
    CHECK((demanded(o, 0) & of_network) == (SP_FACT_NET_NS | SP_FACT_NO_LINK));
    o.network = SP_NET_HOST;
    CHECK((demanded(o, 0) & of_network) == 0);
}

static void test_demanded_of_unix_sockets(void) {
    const uint32_t of_unix = SP_FACT_NO_UNIX | SP_FACT_UNIX_SCOPED;
    sp_sandbox_options o = plain;
    CHECK((demanded(o, 0) & of_unix) == of_unix);
    o.network = SP_NET_HOST;
    CHECK((demanded(o, 0) & of_unix) == of_unix);
    o.allow_unix_sockets = SP_UNIX_SCOPED;
    CHECK((demanded(o, 0) & of_unix) == SP_FACT_UNIX_SCOPED);
    o.allow_unix_sockets = SP_UNIX_ANY;
    CHECK((demanded(o, 0) & of_unix) == 0);
}

static void test_demanded_of_agents(void) {
    sp_agent_options o = {.size = sizeof o, .network = SP_NET_NONE};
    CHECK(sp_facts_demanded_of_agent(&o) == (OF_AGENTS | SP_FACT_LIMITS));
    o.network = SP_NET_HOST;
    CHECK(sp_facts_demanded_of_agent(&o) == ((OF_AGENTS | SP_FACT_LIMITS) & ~(uint32_t)SP_FACT_NO_CONNECTION));
    o.unproved = 1;
    CHECK(sp_facts_demanded_of_agent(&o) == 0);
}

static void test_degraded(void) {
    sp_sandbox_options o = plain;
    uint32_t all = demanded(o, 0);
    o.allow_degradation = 1;
    CHECK((all & ~demanded(o, 0)) ==
          (SP_FACT_CGROUP_NS | SP_FACT_OWN_PROC | SP_FACT_NET_NS | SP_FACT_MEMORY_WATCH | SP_FACT_LIMIT_NPROC));
    /* A sandbox that can bind or connect a socket must not run in the host's network namespace. */
    o.allow_unix_sockets = SP_UNIX_ANY;
    CHECK((demanded(o, 0) & SP_FACT_NET_NS) != 0);
    o.allow_unix_sockets = SP_UNIX_SCOPED; /* the zygote refuses them where the namespace is left out */
    CHECK((demanded(o, 0) & SP_FACT_NET_NS) == 0);
    o.allow_unix_sockets = SP_UNIX_NONE;
    o.seccomp_profile = SP_SECCOMP_NETWORK;
    CHECK((demanded(o, 0) & SP_FACT_NET_NS) != 0);
}

static void test_each_fact_counts(void) {
    sp_error error;
    for (int fact = 0; fact < SP_FACT_COUNT; fact++) {
        sp_isolation proved = {.facts = SP_FACT_ALL & ~(1u << fact), .landlock_abi = 1};
        bool of_landlock = 1 << fact == SP_FACT_LANDLOCK_DENIES;
        CHECK(sp_isolation_check(SP_FACT_ALL & ~(1u << fact), &proved, &error) == (of_landlock ? SP_E_CREATE : 0));
        CHECK(sp_isolation_check(1u << fact, &proved, &error) == SP_E_CREATE);
        CHECK(error.stage == SP_STAGE_PROOF && error.err == ENOTSUP && error.detail[0] != '\0');
        CHECK(strcmp(sp_fact_name(fact), "unknown") != 0);
    }
    CHECK(sp_isolation_check(0, &(sp_isolation){0}, &error) == 0);
    CHECK(strcmp(sp_fact_name(SP_FACT_COUNT), "unknown") == 0 && strcmp(sp_fact_name(-1), "unknown") == 0);
}

/* A birth that demands `wanted`; init sends READY with `facts`, `times` times. */
static int run_birth(uint32_t wanted, uint32_t facts, int times, sp_error *error, sp_isolation *isolation) {
    struct sp_launcher *launcher = sp_launcher_fake();
    struct sp_birth birth = {.session = sp_session_new(launcher)};
    int pair[2];
    launcher->demanded = wanted;
    CHECK(sp_control_pair(pair) == 0);
    birth.session->control = pair[0];
    struct sp_record ready = {.type = SP_REC_READY, .u.ready = {.facts = facts, .landlock_abi = 3}};
    struct sp_record created = {.type = SP_REC_CREATED};
    for (int i = 0; i < times; i++) {
        CHECK(sp_packet_send(pair[1], &(struct sp_outgoing){.record = &ready}, SP_NEVER) == 0);
    }
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(sp_packet_send(pair[1], &(struct sp_outgoing){.record = &created, .fds = &fd, .n_fds = 1}, SP_NEVER) == 0);
    int rc = sp_birth_receive(launcher, &birth, error);
    *isolation = birth.session->isolation;
    sp_session_end(birth.session);
    sp_launcher_unref(launcher);
    sp_fd_close(&fd);
    sp_fd_close(&pair[1]);
    return rc;
}

static void test_births(void) {
    const uint32_t enough = SP_FACT_USER_NS | SP_FACT_LANDLOCK_DENIES;
    sp_isolation isolation;
    sp_error error;
    unsigned fds = count_fds();
    CHECK(run_birth(SP_FACT_USER_NS, enough, 1, &error, &isolation) == 0);
    CHECK(isolation.facts == enough && isolation.landlock_abi == 3 && isolation.cgroup == 0);
    CHECK(run_birth(SP_FACT_PID_NS, enough, 1, &error, &isolation) == SP_E_CREATE && error.stage == SP_STAGE_PROOF);
    CHECK(run_birth(0, SP_FACT_USER_NS, 1, &error, &isolation) == SP_E_CREATE && error.stage == SP_STAGE_PROOF);
    CHECK(run_birth(0, enough, 2, &error, &isolation) == SP_E_CREATE && error.stage == SP_STAGE_PROTOCOL);
    CHECK(count_fds() == fds);
}

/* One record of a birth with `len` bytes behind it. */
static int receive_one(const struct sp_record *record, size_t len, sp_error *error) {
    static char text[SP_DIAGNOSTICS_MAX + 1];
    struct sp_launcher *launcher = sp_launcher_fake();
    struct sp_birth birth = {.session = sp_session_new(launcher)};
    int pair[2];
    CHECK(sp_control_pair(pair) == 0);
    birth.session->control = pair[0];
    const struct sp_outgoing out = {.record = record, .payload = text, .payload_len = len};
    CHECK(sp_packet_send(pair[1], &out, SP_NEVER) == 0);
    int rc = sp_birth_receive(launcher, &birth, error);
    sp_session_end(birth.session);
    sp_launcher_unref(launcher);
    sp_fd_close(&pair[1]);
    return rc;
}

static void test_text_behind_a_record(void) {
    const struct sp_record ready = {.type = SP_REC_READY, .u.ready = {.facts = SP_FACT_LANDLOCK_DENIES}};
    const struct sp_record failed = {.type = SP_REC_FAILED, .u.failed = {.stage = SP_STAGE_PRELOAD, .err = ECANCELED}};
    sp_error error;
    CHECK(receive_one(&ready, 0, &error) == SP_AGAIN); /* CREATED is missing */
    CHECK(receive_one(&ready, 1, &error) == SP_E_CREATE && error.err == EBADMSG);
    CHECK(receive_one(&failed, 0, &error) == SP_E_CREATE && error.err == ECANCELED);
    CHECK(receive_one(&failed, SP_DIAGNOSTICS_MAX, &error) == SP_E_CREATE && error.err == ECANCELED);
    CHECK(receive_one(&failed, SP_DIAGNOSTICS_MAX + 1, &error) == SP_E_CREATE && error.err == EBADMSG);
}

int main(void) {
    check_deadline(60);
    RUN(test_demanded);
    RUN(test_demanded_of_the_network);
    RUN(test_demanded_of_unix_sockets);
    RUN(test_demanded_of_agents);
    RUN(test_degraded);
    RUN(test_each_fact_counts);
    RUN(test_births);
    RUN(test_text_behind_a_record);
    return check_report();
}
