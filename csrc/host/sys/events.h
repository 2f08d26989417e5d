/*
 * A bounded queue that brings events from C to the thread that logs them. Any thread may report an event, under any
 * lock of the pool; one reader takes the events. Reporting never waits for the reader, allocates nothing, and makes a
 * system call only to wake a reader that sleeps. Equal events that have not been taken yet are merged into one with a
 * count, so that a machine in trouble yields few lines of log. Events for which the queue has no place are only
 * counted.
 */
#ifndef SANDPOOL_HOST_SYS_EVENTS_H
#define SANDPOOL_HOST_SYS_EVENTS_H

#include "sandpool.h"

void sp_events_ref(sp_events *events);
/* Reports `event->count` events. Those with the same pool, kind, reason and err are merged. */
void sp_events_report(sp_events *events, const sp_event *event);

#endif
