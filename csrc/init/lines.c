#include "init/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int sp_lines_open(struct sp_lines *lines, int dir, const char *name) {
    lines->cut = false;
    lines->err = 0;
    lines->at = lines->filled = 0;
    lines->fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    return lines->fd;
}

/* Moves the unread rest to the front of the buffer and reads on. False at the end of the file, or when the buffer is
 * full. */
static bool fill(struct sp_lines *l) {
    memmove(l->text, l->text + l->at, l->filled - l->at);
    l->filled -= l->at;
    l->at = 0;
    size_t room = l->err == 0 ? sizeof l->text - 1 - l->filled : 0;
    ssize_t n = room != 0 ? read(l->fd, l->text + l->filled, room) : 0;
    l->err = n < 0 ? errno : l->err;
    l->filled += n > 0 ? (size_t)n : 0;
    l->text[l->filled] = '\0';
    return n > 0;
}

static char *find_end(struct sp_lines *l) { return memchr(l->text + l->at, '\n', l->filled - l->at); }

static void pass_over_rest(struct sp_lines *l) {
    char *end = find_end(l);
    while (end == NULL) {
        l->at = l->filled;
        if (!fill(l)) {
            return;
        }
        end = find_end(l);
    }
    l->at = (size_t)(end - l->text) + 1;
}

const char *sp_lines_next(struct sp_lines *l) {
    if (l->cut) {
        pass_over_rest(l);
        l->cut = false;
    }
    char *end = find_end(l);
    while (end == NULL && fill(l)) {
        end = find_end(l);
    }
    const char *line = l->text + l->at;
    if (end == NULL) { /* the last line has no newline, or this line does not fit into the buffer */
        l->cut = l->filled - l->at == sizeof l->text - 1;
        bool is_end = l->at == l->filled;
        l->at = l->filled;
        return is_end ? NULL : line;
    }
    *end = '\0';
    l->at = (size_t)(end - l->text) + 1;
    return line;
}

uint64_t sp_number(const char **at, unsigned base) {
    uint64_t value = 0;
    for (;; (*at)++) {
        char c = **at;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : base;
        if (digit >= base) {
            *at += c != '\0';
            return value;
        }
        value = value * base + digit;
    }
}

const char *sp_next_word(const char *at) {
    at += strspn(at, " ");
    at += strcspn(at, " ");
    return at + strspn(at, " ");
}
