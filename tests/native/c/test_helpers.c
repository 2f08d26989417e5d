/* sources: csrc/common/wire.c csrc/common/text.c csrc/zygote/helpers.c */
/* The helpers of the zygote: who does the work, and what is known of one that fails. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "common/stage.h"
#include "zygote/helpers.h"

static _Atomic(pid_t) *by; /* who has done the work */

static int note(const void *arg, struct sp_rec_failed *why) {
    (void)why;
    by[*(const int *)arg] = getpid();
    return 0;
}

static int fail(const void *arg, struct sp_rec_failed *why) { return sp_failed(why, SP_STAGE_ROOT, ENOSPC, arg); }

static int die(const void *arg, struct sp_rec_failed *why) {
    (void)arg, (void)why;
    return raise(SIGKILL);
}

static void each_part_has_a_helper(void) {
    struct sp_helpers helpers = {.n = 0};
    struct sp_rec_failed why;
    for (int i = 0; i < 3; i++) {
        CHECK(sp_helpers_begin(&helpers, note, &i, &why) == 0);
    }
    CHECK(helpers.n == 3 && sp_helpers_end(&helpers, &why) == 0 && helpers.n == 0);
    CHECK(by[0] != 0 && by[0] != getpid() && by[1] != by[0] && by[2] != 0);
}

static void what_has_no_helper_is_done_at_once(void) {
    struct sp_helpers helpers = {.n = SP_HELPERS_MAX};
    struct sp_rec_failed why;
    const int part = 0;
    CHECK(sp_helpers_begin(&helpers, note, &part, &why) == 0 && by[0] == getpid());
    CHECK(sp_helpers_begin(&helpers, fail, "here", &why) == -ENOSPC && strcmp(why.detail, "here") == 0);
    helpers.n = 0;
    CHECK(sp_helpers_end(&helpers, &why) == 0);
}

static void the_first_reason_is_reported(void) {
    struct sp_helpers helpers = {.n = 0};
    struct sp_rec_failed why;
    CHECK(sp_helpers_begin(&helpers, fail, "/etc/a", &why) == 0);
    CHECK(sp_helpers_begin(&helpers, fail, "/etc/b", &why) == 0);
    CHECK(sp_helpers_end(&helpers, &why) == -ENOSPC);
    CHECK(why.stage == SP_STAGE_ROOT && why.err == ENOSPC && strcmp(why.detail, "/etc/a") == 0);
}

static void a_helper_that_is_killed_has_failed(void) {
    struct sp_helpers helpers = {.n = 0};
    struct sp_rec_failed why;
    CHECK(sp_helpers_begin(&helpers, die, NULL, &why) == 0);
    CHECK(sp_helpers_end(&helpers, &why) == -EIO && why.err == EIO);
}

int main(void) {
    check_deadline(60);
    by = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (by == MAP_FAILED) {
        return EXIT_FAILURE;
    }
    RUN(each_part_has_a_helper);
    RUN(what_has_no_helper_is_done_at_once);
    RUN(the_first_reason_is_reported);
    RUN(a_helper_that_is_killed_has_failed);
    return check_report();
}
