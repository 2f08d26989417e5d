/* sources: csrc/host/sys/fork_mark_darwin.c */
/* The fork mark of macOS, which is plain POSIX: it is 1 here and 0 in a child, which may create a mark of its own. */
#include "host/sys/fork_mark.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/wait.h>

#include "check.h"

static bool in_child(bool (*test)(void)) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(test() ? 0 : 1);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static volatile const uint8_t *mark;

static uint8_t value(volatile const uint8_t *of) { return of != NULL ? *of : 255; }

static bool is_cleared(void) { return value(mark) == 0; }

static bool has_its_own(void) {
    volatile const uint8_t *parents = mark;
    mark = sp_fork_mark_new();
    return value(mark) == 1 && value(parents) == 0 && in_child(is_cleared) && value(mark) == 1;
}

static void the_mark_is_cleared_in_a_child(void) {
    mark = sp_fork_mark_new();
    CHECK(value(mark) == 1);
    CHECK(in_child(is_cleared));
    CHECK(in_child(has_its_own));
    CHECK(value(mark) == 1);
    sp_fork_mark_free(mark);
}

static void freeing_a_mark_keeps_other_marks(void) {
    volatile const uint8_t *one = sp_fork_mark_new();
    volatile const uint8_t *other = sp_fork_mark_new();
    sp_fork_mark_free(one);
    CHECK(value(other) == 1);
}

int main(void) {
    check_deadline(30);
    RUN(the_mark_is_cleared_in_a_child);
    RUN(freeing_a_mark_keeps_other_marks);
    return check_report();
}
