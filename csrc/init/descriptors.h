/* The descriptors of this process. */
#ifndef SANDPOOL_INIT_DESCRIPTORS_H
#define SANDPOOL_INIT_DESCRIPTORS_H

/* Closes all descriptors from this number on but `proc`, a descriptor of a /proc in which "self" is this process. 0 or
 * -errno. */
int sp_close_from(int proc, int first);

#endif
