/* sources: csrc/zygote/limits.c csrc/common/wire.c */
/* The limits that a zygote sets, whatever those of its host are, and what it reports where it cannot. */
#include <sys/resource.h>

#include "check.h"
#include "common/stage.h"
#include "nth.h"
#include "refused.h"
#include "zygote/zygote.h"

static struct sp_rec_failed why;

static void nothing(void) {}

static int set_limits(void) {
    int rc = sp_zygote_set_limits(&why);
    CHECK(rc == 0 || (why.stage == SP_STAGE_LIMITS && rc == -(int)why.err && strncmp(why.detail, "RLIMIT_", 7) == 0));
    return rc;
}

static void each_refused_call_is_reported(void) {
    const struct sweep sweep = {.prepare = nothing, .act = set_limits, .err = EINVAL, .most = 12};
    CHECK(count_fatal(&sweep, SYS_prlimit64) == 12);
}

/* A host without CAP_SYS_RESOURCE: its hard limit stays. */
static void without_a_right(void) {
    struct rlimit limit = {8192, 65536};
    CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
    refuse_nth(SYS_prlimit64, EPERM, 2); /* that which raises it, after the look at it */
    CHECK(set_limits() == 0 && getrlimit(RLIMIT_STACK, &limit) == 0);
    CHECK(limit.rlim_cur == 65536 && limit.rlim_max == 65536);
}

static void without_any_right(void) {
    refuse_flagged(SYS_prlimit64, EPERM, 2, UINT32_MAX); /* each that sets a limit */
    CHECK(set_limits() == -EPERM && strcmp(why.detail, "RLIMIT_STACK") == 0);
}

static void a_hard_limit_of_the_host_stays(void) {
    CHECK(in_child(without_a_right, 20) == 0 && in_child(without_any_right, 20) == 0);
}

static int leave_huge_pages(bool is_watched) {
    const struct sp_plan plan = {.config.memory_bytes = is_watched ? 1 << 20 : 0};
    return sp_zygote_leave_huge_pages(&plan, &why);
}

static void where_they_are_unknown(void) {
    refuse(SYS_prctl, EINVAL);
    CHECK(leave_huge_pages(true) == 0 && leave_huge_pages(false) == 0);
}

static void where_they_are_kept(void) {
    refuse(SYS_prctl, EPERM);
    CHECK(leave_huge_pages(true) == -EPERM && why.stage == SP_STAGE_LIMITS && leave_huge_pages(false) == 0);
}

static void huge_pages_are_left_where_memory_is_watched(void) {
    CHECK(leave_huge_pages(false) == 0 && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0);
    CHECK(leave_huge_pages(true) == 0 && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
    CHECK(in_child(where_they_are_unknown, 20) == 0 && in_child(where_they_are_kept, 20) == 0);
}

int main(void) {
    check_deadline(60);
    RUN(each_refused_call_is_reported);
    RUN(a_hard_limit_of_the_host_stays);
    RUN(huge_pages_are_left_where_memory_is_watched);
    return check_report();
}
