/* sources: csrc/zygote/inherited.c csrc/init/proc.c csrc/common/fd.c csrc/common/text.c csrc/common/wire.c */
/* What the zygote does not take over from its host: privileges over the processor, and what makes attacks easier. */
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/stage.h"
#include "init/proc.h"
#include "nth.h"
#include "refused.h"
#include "zygote/zygote.h"

#define REALTIME_IO (1 << 13)

static char folder[] = "/tmp/sandpool-inherited-XXXXXX";
static char self[64], score[96];
static bool privileged; /* this process may give itself what the zygote leaves */

/* In a plain directory in place of /proc: not every root may lower the score. */
static void set_oom_score(const char *text) {
    const int fd = open(score, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    (void)close(fd);
}

static bool has_oom_score(char first) {
    char text[16] = "";
    CHECK(sp_read_text(SP_PROC_FD, "self/oom_score_adj", text, sizeof text));
    return text[0] == first;
}

static int leave(const char *detail) {
    struct sp_rec_failed why = {0};
    const int rc = sp_zygote_leave_inherited(&why);
    CHECK(rc == -(int)why.err && (rc == 0 || (why.stage == SP_STAGE_LIMITS && strcmp(why.detail, detail) == 0)));
    return rc;
}

static void take_all(void) {
    CHECK(setpriority(PRIO_PROCESS, 0, -5) == 0 && personality(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC) != -1);
    CHECK(syscall(SYS_ioprio_set, 1, 0, REALTIME_IO) == 0);
}

static void leave_all(void) {
    take_all();
    CHECK(leave("") == 0 && getpriority(PRIO_PROCESS, 0) == 0 && has_oom_score('0'));
    CHECK(personality(0xffffffff) == 0 && syscall(SYS_ioprio_get, 1, 0) >> 13 != 1);
    CHECK(leave("") == 0); /* nothing is left to leave */
}

static void leave_realtime(void) {
    const struct sched_param lowest = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &lowest) == 0) { /* not where a cgroup has no time for it */
        CHECK(leave("") == 0 && sched_getscheduler(0) == SCHED_OTHER);
        CHECK(sched_setscheduler(0, SCHED_FIFO, &lowest) == 0);
        refuse(SYS_sched_setscheduler, EPERM);
        CHECK(leave("real-time scheduling") == -EPERM);
    }
}

static void keep(int call, const char *detail) {
    take_all();
    refuse(call, EPERM);
    CHECK(leave(detail) == -EPERM);
}

static void keep_niceness(void) { keep(SYS_setpriority, "negative niceness"); }
static void keep_io_class(void) { keep(SYS_ioprio_set, "class of I/O"); }

static void keep_personality(void) {
    take_all();
    refuse_nth(SYS_personality, EPERM, 2); /* the first asks */
    CHECK(leave("personality") == -EPERM);
}

static void leave_oom_score(void) {
    set_oom_score("100"); /* less is not given back */
    CHECK(leave("") == 0 && has_oom_score('1'));
    set_oom_score("-500");
    CHECK(leave("") == 0 && has_oom_score('0'));
}

static void keep_oom_score(void) {
    set_oom_score("-500");
    refuse(SYS_write, EACCES);
    CHECK(leave("oom_score_adj") == -EACCES);
    refuse_flagged(SYS_openat, EROFS, 2, O_WRONLY);
    CHECK(leave("oom_score_adj") == -EROFS);
}

static void without_answers(void) {
    refuse(SYS_getpriority, EPERM);
    refuse(SYS_sched_getscheduler, EPERM);
    refuse(SYS_personality, EPERM);
    (void)close(SP_PROC_FD);
    CHECK(leave("") == 0);
}

static void privileges_are_left_or_the_failure_reported(void) {
    CHECK(in_child(without_answers, 10) == 0);
    CHECK(in_child(leave_oom_score, 10) == 0 && in_child(keep_oom_score, 10) == 0);
    if (privileged) {
        CHECK(in_child(leave_all, 10) == 0 && in_child(leave_realtime, 10) == 0);
        CHECK(in_child(keep_niceness, 10) == 0 && in_child(keep_io_class, 10) == 0);
        CHECK(in_child(keep_personality, 10) == 0);
    }
}

static void take_all_or_fail(void) {
    const bool may = setpriority(PRIO_PROCESS, 0, -5) == 0 && syscall(SYS_ioprio_set, 1, 0, REALTIME_IO) == 0;
    _exit(may && geteuid() == 0 ? 0 : 1);
}

int main(void) {
    check_deadline(60);
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(self, sizeof self, "%s/self", folder);
    (void)snprintf(score, sizeof score, "%s/oom_score_adj", self);
    const int proc = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(proc != -1 && dup2(proc, SP_PROC_FD) == SP_PROC_FD && mkdir(self, 0700) == 0);
    set_oom_score("0");
    privileged = in_child(take_all_or_fail, 10) == 0;
    RUN(privileges_are_left_or_the_failure_reported);
    CHECK(unlink(score) == 0 && rmdir(self) == 0 && rmdir(folder) == 0);
    return check_report();
}
