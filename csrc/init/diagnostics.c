#include "init/diagnostics.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/packet.h"

static struct {
    size_t len;
    char bytes[SP_DIAGNOSTICS_MAX + 1];
} text;

ssize_t sp_diagnostics_read(int fd) {
    ssize_t n = read(fd, text.bytes, SP_DIAGNOSTICS_MAX);
    text.len = n > 0 ? (size_t)n : 0;
    text.bytes[text.len] = '\0';
    return n;
}

void sp_diagnostics_read_all(int fd) {
    ssize_t n = 0;
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    text.len = 0;
    while ((n = read(fd, text.bytes + text.len, SP_DIAGNOSTICS_MAX - text.len)) > 0) {
        text.len += (size_t)n;
        if (text.len == SP_DIAGNOSTICS_MAX) { /* the second half is enough */
            memmove(text.bytes, text.bytes + SP_DIAGNOSTICS_MAX / 2, SP_DIAGNOSTICS_MAX / 2);
            text.len = SP_DIAGNOSTICS_MAX / 2;
        }
    }
    text.bytes[text.len] = '\0';
}

const char *sp_diagnostics_text(void) { return text.bytes; }

void sp_diagnostics_last_line(const char *from, char line[SP_DETAIL_SIZE]) {
    size_t len = strlen(from);
    while (len != 0 && strchr(" \r\n", from[len - 1]) != NULL) {
        len--;
    }
    const char *start = from + len;
    while (start != from && start[-1] != '\n') {
        start--;
    }
    len -= (size_t)(start - from);
    len = len < SP_DETAIL_SIZE - 1 ? len : SP_DETAIL_SIZE - 1;
    memcpy(line, start, len);
    line[len] = '\0';
}

void sp_diagnostics_fail(int control, const struct sp_rec_failed *why) {
    const struct sp_record record = {.type = SP_REC_FAILED, .u.failed = *why};
    const struct sp_outgoing out = {.record = &record, .payload = text.bytes, .payload_len = text.len};
    (void)sp_packet_send(control, &out, sp_now() + SP_SEC(1));
}
