/*
 * The diagnostics of an interpreter or a runtime that did not get ready: the text that it wrote, such as a traceback.
 * init sends it to the host behind FAILED, which itself has room for one line.
 */
#ifndef SANDPOOL_INIT_DIAGNOSTICS_H
#define SANDPOOL_INIT_DIAGNOSTICS_H

#include <stddef.h>
#include <sys/types.h>

#include "common/wire.h"

/* Reads up to SP_DIAGNOSTICS_MAX bytes, once, and keeps them as the text. Returns what read(2) returned. */
ssize_t sp_diagnostics_read(int fd);
/* Reads what there is, without waiting, and keeps the end of it as the text. */
void sp_diagnostics_read_all(int fd);
/* The text, which ends with NUL. */
const char *sp_diagnostics_text(void);
/* The last line of a text that is not empty, shortened. */
void sp_diagnostics_last_line(const char *text, char line[SP_DETAIL_SIZE]);
/* Sends {FAILED, stage, err, detail} with the text. */
void sp_diagnostics_fail(int control, const struct sp_rec_failed *why);

#endif
