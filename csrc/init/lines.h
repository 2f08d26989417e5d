/* Reads a text file of the kernel line by line, without a heap and in bounded memory. */
#ifndef SANDPOOL_INIT_LINES_H
#define SANDPOOL_INIT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_lines {
    int fd;
    bool cut; /* the last line was longer than the buffer; the next call skips the rest of it */
    int err;  /* of the read that failed, after which there are no more lines; else 0 */
    size_t at, filled;
    char text[8192];
};

/* The file's descriptor, to be closed by the caller, or -1. */
int sp_lines_open(struct sp_lines *lines, int dir, const char *name);
/* The next line without its newline, or NULL at the end. */
const char *sp_lines_next(struct sp_lines *lines);

/* Parses the number at *at, and moves *at past it and the character that follows it. */
uint64_t sp_number(const char **at, unsigned base);
/* Returns the start of the next word, after blanks. */
const char *sp_next_word(const char *at);

#endif
