/* sources: csrc/host/linux/renewal.c csrc/host/sandbox/error.c csrc/common/clock.c csrc/common/fd.c
 * csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/text.c */
/* A zygote beside the current one: when it takes its place, and what becomes of one that cannot. Single zygotes are
 * replaced. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "common/clock.h"
#include "common/stage.h"
#include "host/linux/zygotes.h"

static struct {
    struct sp_zygote zygotes[4]; /* in the order of their start */
    unsigned spawned, killed, outdated;
    bool unspawnable;
} the;

static struct sp_zygotes zs;
static sp_error error;

struct sp_zygote *sp_zygotes_spawn(struct sp_zygotes *of, int64_t deadline, sp_error *why) {
    CHECK(of == &zs && deadline > sp_now());
    if (the.unspawnable) {
        (void)sp_error_set(why, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, EAGAIN, "no process");
        return NULL;
    }
    struct sp_zygote *z = &the.zygotes[the.spawned++];
    z->pidfd = -1;
    return z;
}
void sp_zygotes_kill(struct sp_zygotes *of, struct sp_zygote *z) {
    CHECK(of == &zs && z != NULL);
    the.killed++;
}
void sp_zygotes_outdate_current(struct sp_zygotes *of) {
    CHECK(of == &zs);
    the.outdated++;
}
void sp_zygote_receive(struct sp_zygote *z) { CHECK(z == zs.renewal.next); }
int sp_zygote_no_answer(const struct sp_zygote *z, int err, sp_error *why) {
    CHECK(z == zs.renewal.next);
    return sp_error_set(why, SP_E_CREATE, SP_STAGE_SPAWN_ZYGOTE, err, "no answer");
}
static void begin(void) {
    memset(&the, 0, sizeof the);
    memset(&zs, 0, sizeof zs);
    zs.order.module = -1;
    CHECK(pthread_mutex_init(&zs.lock, NULL) == 0);
}

static int renew(uint32_t *number) {
    error = (sp_error){0};
    return sp_zygotes_renew(&zs, number, &error);
}

static void it_takes_the_place_of_the_current_one(void) {
    static struct sp_zygote current;
    uint32_t number = 0;
    begin();
    zs.current = &current;
    CHECK(renew(&number) == SP_AGAIN && number == 1 && the.spawned == 1 && the.zygotes[0].renews);
    the.zygotes[0].pid = 1;
    the.zygotes[0].pidfd = 0;
    CHECK(renew(&number) == 0 && zs.current == &the.zygotes[0] && the.outdated == 1 && the.killed == 0);
    CHECK(atomic_load(&current.superseded) && !sp_zygotes_advance(&zs));
}

/* Whoever asks later wants what is there then: the one under way does not count. */
static void one_that_has_begun_before_is_given_up(void) {
    uint32_t numbers[2] = {0, 0};
    begin();
    CHECK(renew(&numbers[0]) == SP_AGAIN && renew(&numbers[1]) == SP_AGAIN && the.spawned == 2 && the.killed == 1);
    CHECK(zs.renewal.next == &the.zygotes[1]);
}

static void one_that_fails_says_why(void) {
    for (int late = 0; late < 2; late++) {
        uint32_t number = 0;
        begin();
        CHECK(renew(&number) == SP_AGAIN);
        if (late == 0) {
            (void)sp_error_set(&the.zygotes[0].start_error, SP_E_CREATE, SP_STAGE_PRELOAD, EPERM, "a preload");
        } else {
            zs.renewal.until = sp_now();
        }
        CHECK(renew(&number) == SP_E_CREATE && error.err == (late != 0 ? ETIMEDOUT : EPERM) && the.killed == 1);
        CHECK(zs.current == NULL && zs.renewal.next == NULL);
    }
}

static void one_that_cannot_be_started_is_reported(void) {
    uint32_t number = 0;
    begin();
    the.unspawnable = true;
    CHECK(renew(&number) == SP_E_CREATE && error.err == EAGAIN && zs.renewal.next == NULL && the.killed == 0);
    sp_zygotes_note_stale(&zs, NULL); /* nobody is told; the next sandbox tries again */
    CHECK(zs.renewal.next == NULL);
    the.unspawnable = false;
    sp_zygotes_note_stale(&zs, &the.zygotes[3]); /* not of the current one */
    CHECK(zs.renewal.next == NULL);
    sp_zygotes_note_stale(&zs, NULL);
    CHECK(zs.renewal.next == &the.zygotes[0]);
}

static void a_closed_launcher_renews_nothing(void) {
    uint32_t number = 0;
    begin();
    CHECK(renew(&number) == SP_AGAIN);
    zs.closed = true;
    CHECK(renew(&number) == SP_E_CREATE && error.err == ESHUTDOWN);
    number = 0;
    CHECK(renew(&number) == SP_E_CREATE && error.err == ESHUTDOWN && the.spawned == 1);
}

int main(void) {
    check_deadline(60);
    RUN(it_takes_the_place_of_the_current_one);
    RUN(one_that_has_begun_before_is_given_up);
    RUN(one_that_fails_says_why);
    RUN(one_that_cannot_be_started_is_reported);
    RUN(a_closed_launcher_renews_nothing);
    return check_report();
}
