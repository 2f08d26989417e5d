/*
 * The process that stands between this one and a zygote: it starts the zygote, reaps it, and ends after it. So no
 * wait() of the application meets a process of ours, no SIGCHLD comes, and no zombie is left to a pid 1 that reaps
 * late, or to an application that is pid 1 (or the reaper of orphans) itself.
 *
 * For that it must be a child without an exit signal, which only one that never execs can be: wait() without __WCLONE
 * or __WALL passes over it. It shares this process's memory (CLONE_VM: a fork would copy page tables), has no
 * descriptor of ours, takes no signal but SIGKILL and SIGSTOP, and by its own filter can do nothing but wait and end.
 * It ends, too, when this process does.
 */
#ifndef SANDPOOL_HOST_LINUX_REAPER_H
#define SANDPOOL_HOST_LINUX_REAPER_H

#include <stdbool.h>
#include <sys/types.h>

struct sp_reaper;

/* What is started: without arguments or environment, in a session of its own, with default signals. */
struct sp_start {
    const char *path;
    const char *name; /* its argv[0] */
    int fd;           /* it gets this one */
    int number;       /* under this number, and is to close what else it finds above */
};

/*
 * 0 or -errno. *child is its pid, which stays its own until sp_reaper_go(). A reaper that is not told to go goes after
 * a second.
 */
int sp_reaper_start(const struct sp_start *what, struct sp_reaper **reaper, pid_t *child);
void sp_reaper_go(struct sp_reaper *reaper);

/* Readable once it has ended; -1: it was reaped, or cannot be waited for any more. */
int sp_reaper_fd(const struct sp_reaper *reaper);
/* Does not wait. True when there is nothing to be waited for, as for NULL. */
bool sp_reaper_reap(struct sp_reaper *reaper);
/* Safe on NULL. One that was not reaped keeps its memory. */
void sp_reaper_free(struct sp_reaper *reaper);

#endif
