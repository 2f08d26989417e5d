#include "host/execute/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The device of every master, /dev/ptmx: pts(4). TIOCGPTN fails for whatever else has this number. */
#define PTMX makedev(5, 2)

bool sp_is_terminal_master(int fd) {
    struct stat st;
    unsigned number;
    const int flags = fcntl(fd, F_GETFL);
    return flags != -1 && (flags & O_ACCMODE) == O_RDWR && (flags & O_PATH) == 0 && fstat(fd, &st) == 0 &&
           S_ISCHR(st.st_mode) && st.st_rdev == PTMX && ioctl(fd, TIOCGPTN, &number) == 0;
}
