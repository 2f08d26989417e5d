#include "host/linux/diagnostics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

int sp_diagnostics_open(struct sp_diagnostics *diagnostics, int pipe) {
    diagnostics->pipe = fcntl(pipe, F_DUPFD_CLOEXEC, 0);
    diagnostics->identity = sp_identity_of(diagnostics->pipe);
    return diagnostics->pipe != -1 ? 0 : -errno;
}

/* Another part of this process may have closed the number and opened a file with it. */
static ssize_t read_pipe(const struct sp_diagnostics *diagnostics, char *into, size_t size) {
    return sp_is_own(diagnostics->pipe, &diagnostics->identity) ? read(diagnostics->pipe, into, size) : 0;
}

void sp_diagnostics_forget(struct sp_diagnostics *diagnostics) {
    char dropped[4096];
    diagnostics->len = 0;
    while (read_pipe(diagnostics, dropped, sizeof dropped) > 0) {
    }
}

static bool has_room(struct sp_diagnostics *diagnostics) {
    diagnostics->text = diagnostics->text != NULL ? diagnostics->text : malloc(SP_DIAGNOSTICS_KEPT);
    return diagnostics->text != NULL;
}

void sp_diagnostics_set(struct sp_diagnostics *diagnostics, const char *text, size_t len) {
    diagnostics->len = 0;
    if (len != 0 && has_room(diagnostics)) {
        diagnostics->len = len < SP_DIAGNOSTICS_KEPT ? len : SP_DIAGNOSTICS_KEPT;
        memcpy(diagnostics->text, text, diagnostics->len);
    }
}

size_t sp_diagnostics_get(struct sp_diagnostics *diagnostics, char *into, size_t size) {
    for (ssize_t n = has_room(diagnostics) ? 1 : 0; n > 0; diagnostics->len += n > 0 ? (size_t)n : 0) {
        n = read_pipe(diagnostics, diagnostics->text + diagnostics->len, SP_DIAGNOSTICS_KEPT - diagnostics->len);
    }
    const size_t len = diagnostics->len < size ? diagnostics->len : size;
    if (len != 0) {
        memcpy(into, diagnostics->text, len);
    }
    return len;
}

void sp_diagnostics_free(struct sp_diagnostics *diagnostics) {
    sp_close_own(&diagnostics->pipe, &diagnostics->identity);
    free(diagnostics->text);
}
