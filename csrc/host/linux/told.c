#include "host/linux/told.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

int sp_told_open(struct sp_told *told, int pipe) {
    told->pipe = fcntl(pipe, F_DUPFD_CLOEXEC, 0);
    told->identity = sp_identity_of(told->pipe);
    return told->pipe != -1 ? 0 : -errno;
}

/* Another part of this process may have closed the number and opened a file with it. */
static ssize_t read_pipe(const struct sp_told *told, char *into, size_t size) {
    return sp_is_own(told->pipe, &told->identity) ? read(told->pipe, into, size) : 0;
}

void sp_told_forget(struct sp_told *told) {
    char dropped[4096];
    told->len = 0;
    while (read_pipe(told, dropped, sizeof dropped) > 0) {
    }
}

static bool has_room(struct sp_told *told) {
    told->text = told->text != NULL ? told->text : malloc(SP_TOLD_KEPT);
    return told->text != NULL;
}

void sp_told_set(struct sp_told *told, const char *text, size_t len) {
    told->len = 0;
    if (len != 0 && has_room(told)) {
        told->len = len < SP_TOLD_KEPT ? len : SP_TOLD_KEPT;
        memcpy(told->text, text, told->len);
    }
}

size_t sp_told_get(struct sp_told *told, char *into, size_t size) {
    for (ssize_t n = has_room(told) ? 1 : 0; n > 0; told->len += n > 0 ? (size_t)n : 0) {
        n = read_pipe(told, told->text + told->len, SP_TOLD_KEPT - told->len);
    }
    const size_t len = told->len < size ? told->len : size;
    if (len != 0) {
        memcpy(into, told->text, len);
    }
    return len;
}

void sp_told_free(struct sp_told *told) {
    sp_close_own(&told->pipe, &told->identity);
    free(told->text);
}
