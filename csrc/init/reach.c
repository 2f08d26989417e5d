#include "init/reach.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fd.h"

/* Reads a number and the character behind it. */
static uint64_t number(const char **at, unsigned base) {
    uint64_t value = 0;
    for (;; (*at)++) {
        char c = **at;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : base;
        if (digit >= base) {
            *at += c != '\0';
            return value;
        }
        value = value * base + digit;
    }
}

static void add_file(struct sp_reach *reach, uint64_t inode, uint64_t end) {
    for (size_t i = 0; i < SP_REACH_FILES; i++) {
        size_t at = (inode + i) & (SP_REACH_FILES - 1);
        if (reach->files[at].inode == 0 || reach->files[at].inode == inode) {
            uint64_t before = reach->files[at].end;
            reach->files[at].inode = inode;
            reach->files[at].end = end > before ? end : before;
            reach->bytes += end > before ? end - before : 0;
            return;
        }
    }
    reach->bytes += end;
}

/* "7fa84aa32000-7fa84ab32000 rw-s 00000000 00:01 636791    /dev/zero (deleted)", see proc_pid_maps(5). */
static void add_line(struct sp_reach *reach, const char *line, dev_t dev) {
    uint64_t start = number(&line, 16);
    uint64_t end = number(&line, 16);
    bool shared = strnlen(line, 5) == 5 && line[3] == 's';
    if (!shared) {
        return;
    }
    line += 5;
    uint64_t offset = number(&line, 16);
    unsigned major = (unsigned)number(&line, 16);
    unsigned minor = (unsigned)number(&line, 16);
    uint64_t inode = number(&line, 10);
    if (inode != 0 && makedev(major, minor) == dev) {
        add_file(reach, inode, offset + end - start);
    }
}

void sp_reach_add(struct sp_reach *reach, int dir, dev_t dev) {
    char text[2048];
    size_t filled = 0;
    ssize_t n;
    sp_auto_fd int fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC);
    while (fd != -1 && reach->lines < SP_REACH_LINES && (n = read(fd, text + filled, sizeof text - 1 - filled)) > 0) {
        text[filled + (size_t)n] = '\0';
        char *line = text;
        for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            reach->lines++;
            *end = '\0';
            add_line(reach, line, dev);
        }
        filled = strlen(line);
        if (filled == sizeof text - 1) { /* a very long name: what matters was in front */
            add_line(reach, line, dev);
            filled = 0;
        }
        memmove(text, line, filled);
    }
}
