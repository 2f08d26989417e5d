/* Texts without stdio and without allocation, for processes that have neither. */
#ifndef SANDPOOL_COMMON_TEXT_H
#define SANDPOOL_COMMON_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* Append to a text. They return the new end, or NULL when the text does not fit or `at` is NULL. */
char *sp_append(char *at, const char *end, const char *text);
char *sp_append_number(char *at, const char *end, uint64_t value);

/* Whether `path` is `dir` or lies in it, judged by the text of the paths. */
bool sp_path_is_below(const char *path, const char *dir);

#endif
