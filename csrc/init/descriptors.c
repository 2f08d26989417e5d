#include "init/descriptors.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "init/proc.h"

/* For a kernel before 5.9, or a filter that does not know close_range(2). */
static int close_listed(int proc, int first) {
    struct sp_listing list;
    const char *name;
    sp_auto_fd int dir = sp_listing_open(&list, proc, "self/fd");
    if (dir == -1) {
        return -errno;
    }
    while ((name = sp_listing_next(&list)) != NULL) {
        int fd = atoi(name); /* NOLINT(cert-err34-c): a descriptor's number, as the kernel writes it */
        if (fd >= first && fd != proc && fd != dir) {
            (void)close(fd);
        }
    }
    return list.filled < 0 ? -errno : 0;
}

int sp_close_from(int proc, int first) {
    int rc = 0;
    if (proc < first) {
        rc = syscall(SYS_close_range, first, ~0u, 0) == 0 ? 0 : -errno;
    } else {
        bool closed = (proc == first || syscall(SYS_close_range, first, proc - 1, 0) == 0) &&
                      syscall(SYS_close_range, proc + 1, ~0u, 0) == 0;
        rc = closed ? 0 : -errno;
    }
    return rc == -ENOSYS || rc == -EPERM ? close_listed(proc, first) : rc;
}
