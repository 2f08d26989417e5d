/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/common/text.c csrc/zygote/pending.c */
/* ATTACH requests that wait in the zygote: the test is the host and each init. */
#include "zygote/pending.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/stage.h"
#include "machine.h"
#include "zygote/zygote.h"

static unsigned attached;
static char last[SP_ATTACH_PATH_MAX];

void sp_zygote_attach_workspace(const struct sp_plan *plan, const struct sp_rec_attach *attach, const char *path,
                                const int *fds, unsigned n_fds) {
    (void)plan, (void)attach;
    CHECK(n_fds == 2 && fds[0] != -1 && fds[1] != -1);
    strcpy(last, path); /* NOLINT(clang-analyzer-security.insecureAPI.strcpy): it has the size of a path */
    attached++;
}

/* The host's and init's ends of one request. */
struct ends {
    int host, init;
};

static bool answered; /* its init has, before the zygote gets the request */

static struct ends ask(const char *path, int expected) {
    int reply[2];
    int init[2];
    make_pair(reply);
    make_pair(init);
    CHECK(!answered || write(init[0], "x", 1) == 1);
    struct sp_packet packet = {.record = {.type = SP_REC_ATTACH, .u.attach.payload_len = (uint32_t)strlen(path) + 1},
                               .payload_len = strlen(path) + 1,
                               .fds = {reply[1], init[1]},
                               .n_fds = 2};
    for (unsigned i = 2; i < SP_PACKET_FDS; i++) {
        packet.fds[i] = -1;
    }
    CHECK(sp_pending_add(NULL, &packet, path) == expected);
    return (struct ends){.host = reply[0], .init = init[0]};
}

static void hang_up(struct ends *ends) {
    sp_fd_close(&ends->host);
    sp_fd_close(&ends->init);
}

static bool was_refused(const struct ends *ends) {
    struct sp_packet packet;
    bool refused = sp_packet_recv(ends->host, &packet, NULL, 0) == 0 && packet.record.type == SP_REC_FAILED &&
                   packet.record.u.failed.err == ETIMEDOUT;
    sp_packet_close(&packet);
    return refused;
}

static void step(void) {
    struct pollfd p[SP_PENDING_MAX];
    unsigned n = sp_pending_polled(p);
    CHECK(poll(p, n, 0) >= 0);
    sp_pending_step(NULL, p);
}

static void one_is_attached_when_its_init_has_answered(void) {
    attached = 0;
    struct ends first = ask("/first", 0);
    struct ends second = ask("/second", 0);
    step();
    CHECK(attached == 0 && sp_pending_next() != SP_NEVER);
    CHECK(write(second.init, "x", 1) == 1);
    step();
    CHECK(attached == 1 && strcmp(last, "/second") == 0);
    sp_fd_close(&first.init); /* it is dead: the child reports that */
    step();
    CHECK(attached == 2 && strcmp(last, "/first") == 0 && sp_pending_next() == SP_NEVER);
    hang_up(&first);
    hang_up(&second);
}

static void one_whose_init_has_answered_before_is_attached_at_once(void) {
    attached = 0;
    answered = true;
    struct ends ends = ask("/at/once", 0);
    answered = false;
    CHECK(attached == 1 && strcmp(last, "/at/once") == 0 && sp_pending_next() == SP_NEVER);
    hang_up(&ends);
}

static void the_oldest_is_refused_when_too_many_wait(void) {
    static struct ends ends[SP_PENDING_MAX + 1];
    struct pollfd p[SP_PENDING_MAX];
    attached = 0;
    for (unsigned i = 0; i <= SP_PENDING_MAX; i++) {
        ends[i] = ask("/many", 0);
    }
    CHECK(was_refused(&ends[0]) && !was_refused(&ends[1]) && sp_pending_polled(p) == SP_PENDING_MAX);
    for (unsigned i = 0; i <= SP_PENDING_MAX; i++) {
        sp_fd_close(&ends[i].init);
    }
    step();
    CHECK(attached == SP_PENDING_MAX);
    for (unsigned i = 0; i <= SP_PENDING_MAX; i++) {
        hang_up(&ends[i]);
    }
}

static void one_that_waits_for_too_long_is_refused(void) {
    attached = 0;
    struct ends ends = ask("/late", 0);
    while (sp_now() <= sp_pending_next()) {
        sleep_ns(10 * MS);
    }
    step();
    CHECK(was_refused(&ends) && attached == 0 && sp_pending_next() == SP_NEVER);
    hang_up(&ends);
}

static void a_malformed_one_is_refused_to_the_host(void) {
    struct ends ends = ask("relative", -EBADMSG);
    CHECK(sp_pending_next() == SP_NEVER);
    hang_up(&ends);
}

int main(void) {
    check_deadline(60);
    unsigned fds = count_fds();
    RUN(one_is_attached_when_its_init_has_answered);
    RUN(one_whose_init_has_answered_before_is_attached_at_once);
    RUN(the_oldest_is_refused_when_too_many_wait);
    RUN(one_that_waits_for_too_long_is_refused);
    RUN(a_malformed_one_is_refused_to_the_host);
    CHECK(count_fds() == fds);
    return check_report();
}
