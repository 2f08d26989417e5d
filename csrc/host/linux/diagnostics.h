/*
 * The diagnostics of an interpreter that could not start: the text that the error of the caller ends with. A stem
 * writes it to the pipe of its stderr; an init sends it with FAILED. The latest text is kept, as several callers may
 * fail for the same reason. Called under the lock of the zygotes, but for the first and the last function.
 */
#ifndef SANDPOOL_HOST_LINUX_DIAGNOSTICS_H
#define SANDPOOL_HOST_LINUX_DIAGNOSTICS_H

#include <stddef.h>

#include "host/sys/own.h"

/* As much as a pipe holds. */
#define SP_DIAGNOSTICS_KEPT ((size_t)64 * 1024)

struct sp_diagnostics {
    int pipe; /* the end to read from; -1: there is no stem */
    struct sp_identity identity;
    char *text; /* NULL: there is no text, or there was no memory for it */
    size_t len;
};

/* Keeps a copy of the descriptor of a pipe, which does not block. 0 or -errno. */
int sp_diagnostics_open(struct sp_diagnostics *diagnostics, int pipe);
/* A zygote starts: the text of an earlier one does not explain its failures. */
void sp_diagnostics_forget(struct sp_diagnostics *diagnostics);
/* Another text takes the place of the one that is kept. */
void sp_diagnostics_set(struct sp_diagnostics *diagnostics, const char *text, size_t len);
/* Copies up to `size` bytes of the text. Returns their number. */
size_t sp_diagnostics_get(struct sp_diagnostics *diagnostics, char *into, size_t size);
void sp_diagnostics_free(struct sp_diagnostics *diagnostics);

#endif
