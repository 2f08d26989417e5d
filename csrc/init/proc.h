/* Functions that read /proc without a heap, for init, which has none and reads often. */
#ifndef SANDPOOL_INIT_PROC_H
#define SANDPOOL_INIT_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_listing {
    int fd;
    long filled, at;
    char buffer[4096] __attribute__((aligned(8)));
};

/* Opens a directory for listing. Its descriptor, to be closed by the caller, or -1. */
int sp_listing_open(struct sp_listing *list, int dir, const char *name);
/* Lists an open directory from its start. The caller keeps the descriptor. */
void sp_listing_again(struct sp_listing *list, int dir);
/* The next name that is a number, or NULL: at the end `filled` is 0, and after a failure it is negative. */
const char *sp_listing_next(struct sp_listing *list);

/*
 * Whether a process in /proc is a tenant. With a pid namespace, all but init (1) are. In the Landlock tier /proc shows
 * the host's processes, and `is_tenant` tells; it is set once, before init serves.
 */
bool sp_proc_is_tenant(int pid);
/* This process is none of the tenant's from now on; 0: there is no such process any more. */
void sp_proc_hide(int pid);
bool sp_proc_is_shared(void);
void sp_proc_share(bool (*is_tenant)(int pid));

/* Reads as much of a file as `text` can hold, and ends it with NUL. False when it cannot be read or is empty. */
bool sp_read_text(int dir, const char *name, char *text, size_t size);
/* The same for an open file, from its start. */
bool sp_read_again(int fd, char *text, size_t size);
/* Finds the number that follows `name`. `name` should start with the newline before it, which the name of a process, as
 * the kernel prints it, cannot contain. */
bool sp_find_number(const char *text, const char *name, uint64_t *value);

#endif
