/*
 * The supervisor, for the tier without namespaces. Landlock judges who may open, create and remove files, but not who
 * may change their mode, owner and times, and there the files of the host's user are in reach and belong to the
 * tenant's own user. So a seccomp filter stops these calls, and a thread of init performs them for the tenant, on files
 * inside given directories only. Every other file looks as if it belonged to somebody else: EPERM.
 *
 * A thread: init's waits stay as they are, kill(-1) and waitpid(-1) of init pass over it, and nobody who cannot signal
 * or trace init can signal or trace it. What it does for a tenant may take long, on a file system that hangs, for one;
 * that holds up the tenants of this init, but not init.
 *
 * It needs Linux 5.6, for openat2(2). A process that already has a listener, as in some containers, cannot get another:
 * then sp_supervise_listen() fails with EBUSY.
 */
#ifndef SANDPOOL_INIT_SUPERVISE_H
#define SANDPOOL_INIT_SUPERVISE_H

#include <stdbool.h>

/* A directory, or a file, that may be changed. */
struct sp_supervised {
    int fd;           /* O_PATH, the supervisor's from then on */
    const char *name; /* by which tenants call it; has to stay */
};

/* The largest number of places. Files in further ones cannot be changed. */
#define SP_SUPERVISED_MAX 64

/*
 * Starts the thread, which keeps the rights that the calling thread has now. It has to be called once, without
 * capabilities and with no_new_privs. A thread that is started before Landlock is entered can read the memory of
 * tenants, whatever the ruleset says of /proc; one that is started later needs a rule for /proc. 0 or -errno.
 *
 * From then on glibc's setuid() and its like would wait for the thread: children have to use the system calls.
 */
int sp_supervise_start(const struct sp_supervised *places, unsigned n);

/*
 * From now on the thread answers the calls of the calling thread and of all processes that it starts. 0 or -errno; then
 * nothing is supervised, and the caller should call sp_supervise_refuse().
 *
 * `signals`: also those that send signals, where Landlock does not keep these inside. Then all tenants have to be in
 * one process group, alone, and another filter has to keep them from leaving it, from pidfd_send_signal() and from
 * SP_KILL_MARK. kill(-1) is refused; a group that a tenant believes to have opened is its leader alone.
 */
int sp_supervise_listen(bool signals);

/* Without a supervisor: these calls are answered with EPERM, whatever the file or the receiver; signals to the group of
 * all tenants pass. 0 or -errno. */
int sp_supervise_refuse(bool signals);

#endif
