/* sources: csrc/init/lines.c */
/* Reads texts and lines of any length with a buffer of fixed size. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "check.h"
#include "init/lines.h"

static char path[] = "/tmp/sandpool-lines-XXXXXX";

static void write_text(const char *text, size_t n, const char *rest) {
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        (void)fputs(text, file);
    }
    (void)fputs(rest, file);
    (void)fclose(file);
}

static void every_line_comes_once(void) {
    struct sp_lines lines;
    char expected[64];
    FILE *file = fopen(path, "we");
    for (int i = 0; file != NULL && i < 5000; i++) {
        (void)fprintf(file, "line %d%.*s\n", i, i % 20, "xxxxxxxxxxxxxxxxxxxx");
    }
    (void)(file != NULL && fclose(file));
    int fd = sp_lines_open(&lines, AT_FDCWD, path);
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(expected, sizeof expected, "line %d%.*s", i, i % 20, "xxxxxxxxxxxxxxxxxxxx");
        const char *line = sp_lines_next(&lines);
        CHECK(line != NULL && strcmp(line, expected) == 0 && !lines.cut);
    }
    CHECK(sp_lines_next(&lines) == NULL && sp_lines_next(&lines) == NULL);
    (void)close(fd);
}

static void a_long_line_is_cut_once(void) {
    struct sp_lines lines;
    write_text("x", 100000, "\nshort\n");
    int fd = sp_lines_open(&lines, AT_FDCWD, path);
    const char *line = sp_lines_next(&lines);
    CHECK(line != NULL && lines.cut && strlen(line) == sizeof lines.text - 1);
    line = sp_lines_next(&lines);
    CHECK(line != NULL && !lines.cut && strcmp(line, "short") == 0);
    CHECK(sp_lines_next(&lines) == NULL);
    (void)close(fd);
    write_text("x", 100000, ""); /* with nothing behind it */
    fd = sp_lines_open(&lines, AT_FDCWD, path);
    CHECK(sp_lines_next(&lines) != NULL && lines.cut && sp_lines_next(&lines) == NULL);
    (void)close(fd);
}

static void the_last_line_needs_no_newline(void) {
    struct sp_lines lines;
    write_text("", 0, "first\n\nlast");
    int fd = sp_lines_open(&lines, AT_FDCWD, path);
    CHECK(strcmp(sp_lines_next(&lines), "first") == 0);
    CHECK(strcmp(sp_lines_next(&lines), "") == 0);
    CHECK(strcmp(sp_lines_next(&lines), "last") == 0 && !lines.cut);
    CHECK(sp_lines_next(&lines) == NULL);
    (void)close(fd);
}

static void a_missing_file_has_no_lines(void) {
    struct sp_lines lines;
    CHECK(sp_lines_open(&lines, AT_FDCWD, "/tmp/sandpool-lines-none") == -1);
}

static void a_read_that_fails_is_told(void) {
    struct sp_lines lines;
    int fd = sp_lines_open(&lines, AT_FDCWD, "/tmp"); /* a directory */
    CHECK(fd != -1 && lines.err == 0 && sp_lines_next(&lines) == NULL && lines.err == EISDIR);
    (void)close(fd);
    write_text("line\n", 5000, "");
    fd = sp_lines_open(&lines, AT_FDCWD, path);
    int dir = open("/tmp", O_RDONLY | O_CLOEXEC);
    CHECK(sp_lines_next(&lines) != NULL && dup2(dir, fd) == fd);
    while (sp_lines_next(&lines) != NULL) {
    }
    CHECK(lines.err == EISDIR);
    write_text("line\n", 5000, "");
    int again = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(dup2(again, fd) == fd && sp_lines_next(&lines) == NULL); /* what follows would not be the next line */
    (void)close(again);
    (void)close(dir);
    (void)close(fd);
}

static void numbers_and_words_are_parsed(void) {
    const char *text = "1f-2A x  last";
    const char *at = text;
    CHECK(sp_number(&at, 16) == 0x1f && sp_number(&at, 16) == 0x2a && *at == 'x');
    CHECK(strcmp(sp_next_word(at), "last") == 0);
    CHECK(*sp_next_word(sp_next_word(at)) == '\0');
    at = "12";
    CHECK(sp_number(&at, 10) == 12 && *at == '\0' && sp_number(&at, 10) == 0 && *at == '\0');
}

int main(void) {
    check_deadline(60);
    int fd = mkstemp(path);
    if (fd == -1) {
        return EXIT_FAILURE;
    }
    (void)close(fd);
    RUN(every_line_comes_once);
    RUN(a_long_line_is_cut_once);
    RUN(the_last_line_needs_no_newline);
    RUN(a_missing_file_has_no_lines);
    RUN(a_read_that_fails_is_told);
    RUN(numbers_and_words_are_parsed);
    (void)unlink(path);
    return check_report();
}
