/*
 * Finds out whether a descriptor is still ours. Other code of the process may close a number that it did not open
 * (os.closerange(), a number closed twice), and a file of its own may then get that number: whoever writes to it or
 * closes it here would hit the application's file. So the device and inode of each descriptor that is kept are stored
 * beside it, and compared before it is used:
 *
 *   the pool's poller             at each kick and each turn of the janitor
 *   control sockets, pidfds       at each send, receive and signal; at the birth's steps; before the close
 *   pipes of a running command    at each turn of reading or writing, and before the close
 *   the zygote's socket, pidfds   at each request, at its end, and before the close
 *
 * fstat(2) takes 0.2 us, which all of these can afford. acquire and the release of an unused lease make no system call
 * and compare nothing: they use no descriptor. Another thread may still close the number between the comparison and the
 * use; nothing can prevent that. Two descriptors that share an inode look the same: those of anon_inode all share one,
 * and so did pidfds before Linux 6.9.
 */
#ifndef SANDPOOL_HOST_SYS_OWN_H
#define SANDPOOL_HOST_SYS_OWN_H

#include <stdbool.h>
#include <sys/types.h>

/* All zero: unknown; such a descriptor counts as ours. */
struct sp_identity {
    dev_t dev;
    ino_t ino;
};

struct sp_identity sp_identity_of(int fd);
/* False for -1 as well. */
bool sp_is_own(int fd, const struct sp_identity *identity);
/* Closes the descriptor if it is ours. Sets *fd to -1 in any case. */
void sp_close_own(int *fd, const struct sp_identity *identity);

#endif
