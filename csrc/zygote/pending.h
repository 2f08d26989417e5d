/*
 * ATTACH requests that wait for the namespaces of an init. An init sends them at once, unless its sandbox is frozen;
 * the zygote serves others meanwhile.
 */
#ifndef SANDPOOL_ZYGOTE_PENDING_H
#define SANDPOOL_ZYGOTE_PENDING_H

#include <poll.h>

#include "common/packet.h"
#include "init/plan.h"

#define SP_PENDING_MAX 128

/* Takes over the descriptors of an ATTACH, and attaches at once if init has sent its namespaces already. When too many
 * wait, the oldest is refused. 0, or -EBADMSG for a malformed record. */
int sp_pending_add(const struct sp_plan *plan, struct sp_packet *packet, const char *path);
/* Fills in what to poll. Returns the number, at most SP_PENDING_MAX. */
unsigned sp_pending_polled(struct pollfd *p);
/* When the next one has waited for too long; SP_NEVER: none waits. */
int64_t sp_pending_next(void);
/* Attaches those whose init has answered, and refuses those that have waited for too long. `p`: what was polled. */
void sp_pending_step(const struct sp_plan *plan, const struct pollfd *p);

#endif
