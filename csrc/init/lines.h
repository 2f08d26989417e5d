/* Reading a text of the kernel's line by line, without a heap and in bounded memory. */
#ifndef SANDPOOL_INIT_LINES_H
#define SANDPOOL_INIT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_lines {
    int fd;
    bool cut; /* the line yielded last was longer than the buffer; the rest of it is passed over */
    size_t at, filled;
    char text[8192];
};

/* The file's descriptor, to be closed by the caller, or -1. */
int sp_lines_open(struct sp_lines *lines, int dir, const char *name);
/* The next line without its newline, or NULL at the end. */
const char *sp_lines_next(struct sp_lines *lines);

/* Reads a number at *at, and goes beyond it and the character behind it. */
uint64_t sp_number(const char **at, unsigned base);
/* Goes over blanks to the next word. */
const char *sp_next_word(const char *at);

#endif
