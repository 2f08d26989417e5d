/*
 * What an interpreter that could not start has told: the text that the error of the caller ends with. A stem writes it
 * to the pipe of its stderr; an init sends it with FAILED. The latest text is kept, as several callers may fail for the
 * same reason. Called under the lock of the zygotes, but for the first and the last function.
 */
#ifndef SANDPOOL_HOST_LINUX_TOLD_H
#define SANDPOOL_HOST_LINUX_TOLD_H

#include <stddef.h>

#include "host/sys/own.h"

/* As much as a pipe holds. */
#define SP_TOLD_KEPT ((size_t)64 * 1024)

struct sp_told {
    int pipe; /* the end to read from; -1: there is no stem */
    struct sp_identity identity;
    char *text; /* NULL: nothing was told, or there was no memory for it */
    size_t len;
};

/* Keeps a copy of the descriptor of a pipe, which does not block. 0 or -errno. */
int sp_told_open(struct sp_told *told, int pipe);
/* A zygote starts: what an earlier one has told does not explain its failures. */
void sp_told_forget(struct sp_told *told);
/* Another text takes the place of the one that is kept. */
void sp_told_set(struct sp_told *told, const char *text, size_t len);
/* Copies up to `size` bytes of the text. Returns their number. */
size_t sp_told_get(struct sp_told *told, char *into, size_t size);
void sp_told_free(struct sp_told *told);

#endif
