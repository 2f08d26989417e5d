/* What time brings while init serves requests itself: looks at the memory, deadlines, ends that a tracer holds up. */
#ifndef SANDPOOL_INIT_ATTEND_CLOCK_H
#define SANDPOOL_INIT_ATTEND_CLOCK_H

#include "init/attend.h"

/* Something has been started: the memory watch begins some time later, unless it has begun, or there is none. */
void sp_attend_watch_soon(struct sp_attend *attend);
/* A look at the memory, if one is due. Too much of it ends all that lives. */
void sp_attend_look_at_memory(struct sp_attend *attend, int64_t now);
/* All that is due now. */
void sp_attend_look(struct sp_attend *attend);
/* When something is due next, or SP_NEVER. */
int64_t sp_attend_next_look(const struct sp_attend *attend);

#endif
