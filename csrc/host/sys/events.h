/*
 * What an operator should hear of, on its way from C to whoever logs it: a bounded queue. Any thread tells, under
 * whatever lock of the pool; one reader takes. Telling never waits for the reader, allocates nothing and makes no
 * syscall but to wake a reader that sleeps. Equal events that are not taken yet are one, with their number, so that a
 * machine in trouble yields few lines; what finds no place is only counted.
 */
#ifndef SANDPOOL_HOST_SYS_EVENTS_H
#define SANDPOOL_HOST_SYS_EVENTS_H

#include "sandpool.h"

void sp_events_ref(sp_events *events);
/* `event->count` of the same (pool, kind, reason, err). */
void sp_events_report(sp_events *events, const sp_event *event);

#endif
