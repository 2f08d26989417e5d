/*
 * Which descriptors are still ours. A host may close numbers that it did not open (os.closerange(), a number closed
 * twice), and files of its own then take them: what is written to such a number, or closed, is the application's. So
 * each descriptor that is kept is remembered by what it is, device and inode, and looked at before it is used:
 *
 *   the pool's poller             at each kick and each turn of the janitor
 *   control sockets, pidfds       at each send, receive and signal; at the birth's steps; before the close
 *   pipes of a running command    at each turn of reading or writing, and before the close
 *   the zygote's socket, pidfds   at each request, at its end, and before the close
 *
 * fstat(2) takes 0.2 us, which all of these can pay. acquire and the release of an unused lease make no system call,
 * and do not look: they use no descriptor. Between the look and the use another thread may still close the number: that
 * cannot be helped. Nor are two descriptors told apart that share an inode, as all of anon_inode do; pidfds did so
 * before Linux 6.9.
 */
#ifndef SANDPOOL_HOST_SYS_OWN_H
#define SANDPOOL_HOST_SYS_OWN_H

#include <stdbool.h>
#include <sys/types.h>

/* All zero: not known, which counts as ours. */
struct sp_identity {
    dev_t dev;
    ino_t ino;
};

struct sp_identity sp_identity_of(int fd);
/* False for -1, too. */
bool sp_is_own(int fd, const struct sp_identity *identity);
/* Closes it if it is ours; it is -1 then in any case. */
void sp_close_own(int *fd, const struct sp_identity *identity);

#endif
