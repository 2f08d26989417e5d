/* sources: none */
/* A variable that leaves its scope is closed once, and only if it holds a descriptor. */
#include <errno.h>
#include <unistd.h>

#include "check.h"

static unsigned closed;

static int count_close(int fd) {
    closed++;
    errno = fd < 0 ? EBADF : EIO;
    return -1;
}

/* NOLINTBEGIN(bugprone-suspicious-include): with one call renamed */
#define close count_close
#include "common/fd.c"
#undef close
/* NOLINTEND(bugprone-suspicious-include) */

static void a_descriptor_is_closed_once(void) {
    int fd = 0;
    errno = ENOENT;
    sp_fd_close(&fd);
    CHECK(closed == 1 && fd == -1 && errno == ENOENT);
    sp_fd_close(&fd);
    CHECK(closed == 1);
}

/* Many functions return a descriptor or -errno. */
static void a_negative_errno_is_not_closed(void) {
    closed = 0;
    {
        sp_auto_fd int error = -EACCES;
        sp_auto_fd int none = -1;
        CHECK(error == -EACCES && none == -1);
    }
    int error = -EMFILE;
    sp_fd_close(&error);
    CHECK(closed == 0 && error == -1);
}

int main(void) {
    RUN(a_descriptor_is_closed_once);
    RUN(a_negative_errno_is_not_closed);
    return check_report();
}
