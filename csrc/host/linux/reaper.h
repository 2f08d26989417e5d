/*
 * The reaper is a process between this one and a zygote: it starts the zygote, reaps it and the orphans that it leaves,
 * and ends after them. So no wait() of the application returns a process of ours, the application gets no SIGCHLD, and
 * no zombie is left for a pid 1 that reaps late, or for an application that is pid 1 or a subreaper itself.
 *
 * To achieve this the reaper is a child without an exit signal: wait() ignores it unless called with __WCLONE or
 * __WALL. It must not exec, because exec restores the exit signal. It shares this process's memory (CLONE_VM: a fork
 * would copy page tables), has no descriptor of this process, accepts no signal but SIGKILL and SIGSTOP, and its own
 * seccomp filter lets it only wait and end. It also ends when this process ends.
 */
#ifndef SANDPOOL_HOST_LINUX_REAPER_H
#define SANDPOOL_HOST_LINUX_REAPER_H

#include <stdbool.h>
#include <sys/types.h>

struct sp_reaper;

/* The program to start. It gets no arguments and no environment, a session of its own, and default signal handling. */
struct sp_start {
    const char *path;
    const char *name; /* its argv[0] */
    int fd;           /* it inherits this descriptor */
    int number;       /* as this number, and it closes any other that is higher */
};

/*
 * 0 or -errno. *child is the pid of the program. The reaper reaps nothing before sp_reaper_release(), so that no other
 * process can get that pid. A reaper that is not released within a second continues by itself.
 */
int sp_reaper_start(const struct sp_start *what, struct sp_reaper **reaper, pid_t *child);
void sp_reaper_release(struct sp_reaper *reaper);

/* A pidfd, readable once the reaper has ended; -1: the reaper was reaped, or cannot be waited for any more. */
int sp_reaper_fd(const struct sp_reaper *reaper);
/* Reaps the reaper if it has ended. Does not wait. True when nothing is left to wait for, as for NULL. */
bool sp_reaper_reap(struct sp_reaper *reaper);
/* Does nothing on NULL. A reaper that has not ended is kept with its descriptor, and reaped by a later call of
 * sp_reaper_start() or sp_reaper_free(). */
void sp_reaper_free(struct sp_reaper *reaper);

#endif
