/* sources: csrc/init/descriptors.c csrc/init/proc.c csrc/common/fd.c */
/* Descriptors are closed where close_range(2) is there, and where it is not. */
#include "init/descriptors.h"

#include "check.h"
#include "common/fd.h"
#include "refused.h"

#define FIRST 20

static int refusal, proc;

static bool is_open(int fd) { return fcntl(fd, F_GETFD) != -1; }

static void open_many(void) {
    for (int fd = FIRST; fd < 400; fd++) {
        CHECK(dup2(0, fd) == fd);
    }
    int found = open("/proc", O_PATH | O_DIRECTORY);
    CHECK(found != -1 && dup2(found, proc) == proc);
    if (refusal != 0) {
        refuse(SYS_close_range, refusal);
    }
}

static void close_them(void) {
    open_many();
    CHECK(sp_close_from(proc, FIRST) == 0 && is_open(proc) && is_open(FIRST - 1));
    for (int fd = FIRST; fd < 1000; fd++) {
        CHECK(fd == proc || !is_open(fd));
    }
}

static void all_are_closed_from_a_number_on(void) {
    static const int refusals[] = {0, ENOSYS, EPERM};
    static const int places[] = {FIRST - 1, FIRST, 200, 399};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        for (size_t k = 0; k < sizeof places / sizeof places[0]; k++) {
            refusal = refusals[i];
            proc = places[k];
            CHECK(in_child(close_them, 10) == 0);
        }
    }
}

static void no_list(void) {
    open_many();
    CHECK(dup2(0, proc) == proc && sp_close_from(proc, FIRST) == -ENOTDIR);
}

static void no_entries(void) {
    open_many();
    refuse(SYS_getdents64, EIO);
    CHECK(sp_close_from(proc, FIRST) == -EIO);
}

static void another_error(void) {
    open_many();
    CHECK(sp_close_from(proc, FIRST) == -ENOMEM && is_open(FIRST));
}

static void a_failure_is_reported(void) {
    proc = 200;
    refusal = ENOSYS;
    CHECK(in_child(no_list, 10) == 0 && in_child(no_entries, 10) == 0);
    refusal = ENOMEM;
    CHECK(in_child(another_error, 10) == 0);
}

int main(void) {
    check_deadline(60);
    CHECK(dup2(0, FIRST - 1) == FIRST - 1);
    RUN(all_are_closed_from_a_number_on);
    RUN(a_failure_is_reported);
    return check_report();
}
