/* What the module does to its process, without the interpreter: from the hand-over of the zygote to the tenant. */
#ifndef SANDPOOL_STEM_PROCESS_H
#define SANDPOOL_STEM_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "init/plan.h"

/*
 * Takes over what the zygote has left in the descriptor `plan`; no other process may look into this one from now on,
 * nothing that it starts gets a capability, and it has none in force. NULL, or what has failed, with errno.
 */
const char *sp_stem_begin(int module, int plan);
/* What the stem's Python code is given; NULL before sp_stem_begin(), and in a tenant. */
const char *sp_stem_source(void);
const char *sp_stem_parameters(void);

/* The threads of this process but the calling one, by name, as "a, b"; "" if there is none. */
void sp_stem_threads(char *names, size_t size);
/* The memory that copies of this process would have in common, and that they could write to, by name; "" if there is
 * none. */
void sp_stem_shared_memory(char *names, size_t size);
/* Where a file will be seen once the interpreter has left its /tmp: `path`, or *elsewhere, of `size` bytes. NULL:
 * nowhere that is known. */
const char *sp_stem_lasting_path(const char *path, char *elsewhere, size_t size);
/* Remembers the state of a file that the interpreter has imported. A later change makes it stale. 0 or -errno. */
int sp_stem_note_file(const char *path);
/* Whether such a file was changed since. It looks once a second at most. */
bool sp_stem_is_stale(void);
/* The steps before the loop: capabilities, signals, descriptors, /tmp. NULL, or what has failed, with errno. */
const char *sp_stem_make_ready(struct sp_stem *stem);
/* A part of memory: all pages from the one with `start` to the one before `end`. */
struct sp_stem_part {
    uintptr_t start, end;
};
/* Where the interpreter has much memory: shares it with all copies as a mapping of a file, but for `n` parts. If that
 * fails, it is copied as other memory is. Returns the bytes that are shared. */
uint64_t sp_stem_make_image(const struct sp_stem_part *kept_out, size_t n);
/* The zygote's loop. The host gets HELLO. It returns when the host is gone. */
void sp_stem_loop(struct sp_stem *stem);
/* Reports a failure to the host, in place of HELLO. */
void sp_stem_report(const struct sp_rec_failed *why);

/* In a process that is about to run a tenant's code. `channel`: the only descriptor but 0 to 2 that stays open, perhaps
 * with a higher number, which is returned; -1: none. */
int sp_stem_keep_descriptors(int channel);
/* Overwrites all that the zygote and init have left in memory; nothing of them can be used afterwards. */
void sp_stem_wipe(void);
/* Restores the interpreter's signal handlers, and makes the process dumpable, as every command is: other processes of
 * the sandbox may look into it. */
void sp_stem_open_up(void);

#endif
