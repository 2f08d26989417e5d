/*
 * What an interpreter or a runtime has told that did not get ready, such as a traceback. It goes to the host behind
 * FAILED, which itself has room for one line.
 */
#ifndef SANDPOOL_INIT_TOLD_H
#define SANDPOOL_INIT_TOLD_H

#include <stddef.h>
#include <sys/types.h>

#include "common/wire.h"

/* Reads up to SP_TOLD_MAX bytes, once, and keeps them as the text. What read(2) returns. */
ssize_t sp_told_read(int fd);
/* Reads what there is, without waiting, and keeps the end of it as the text. */
void sp_told_read_all(int fd);
/* The text, which ends with NUL. */
const char *sp_told_text(void);
/* The last line of a text that is not empty, shortened. */
void sp_told_last_line(const char *text, char line[SP_DETAIL_SIZE]);
/* Sends {FAILED, stage, err, detail} with the text. */
void sp_told_fail(int control, const struct sp_rec_failed *why);

#endif
