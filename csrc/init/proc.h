/* Reading /proc without a heap: pid 1 of a sandbox has none, and looks often. */
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

/* The directory's descriptor, to be closed by the caller, or -1. */
int sp_listing_open(struct sp_listing *list, int dir, const char *name);
/* The same of an open directory, from its start; its descriptor stays the caller's. */
void sp_listing_again(struct sp_listing *list, int dir);
/* The next name that is a number, or NULL at the end. */
const char *sp_listing_next(struct sp_listing *list);

/* As much of a file as `text` holds, NUL-terminated. False when it cannot be read, or is empty. */
bool sp_read_text(int dir, const char *name, char *text, size_t size);
/* The same of an open file, from its start. */
bool sp_read_again(int fd, char *text, size_t size);
/* The number behind `name`, which should hold the newline before it: no process's own name can have that. */
bool sp_find_number(const char *text, const char *name, uint64_t *value);

#endif
