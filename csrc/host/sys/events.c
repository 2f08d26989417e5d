#include "host/sys/events.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/clock.h"
#include "host/sys/clock.h"

/* How many different events can wait at a time, over all pools of the process. */
#define PLACES 64

struct sp_events {
    atomic_int refs;
    pthread_mutex_t lock; /* whoever holds it takes no other lock */
    pthread_cond_t changed;
    uint32_t reporters;  /* 0: the queue has ended */
    int64_t quiet_until; /* the reader has just taken some events; further ones are collected until then */
    uint32_t n;
    uint64_t dropped;         /* events for which there was no place */
    sp_event waiting[PLACES]; /* in the order of their first report */
};

sp_events *sp_events_new(void) {
    sp_events *events = calloc(1, sizeof *events);
    if (events != NULL) {
        sp_cond_init(&events->changed);
        pthread_mutex_init(&events->lock, NULL);
        events->refs = 1;
        events->reporters = 1;
    }
    return events;
}

void sp_events_ref(sp_events *events) {
    if (events != NULL) {
        /* relaxed: the caller already holds a reference */
        atomic_fetch_add_explicit(&events->refs, 1, memory_order_relaxed);
    }
}

void sp_events_unref(sp_events *events) {
    /* acq_rel: everything that the other owners did with the queue happens before the last owner frees it */
    if (events != NULL && atomic_fetch_sub_explicit(&events->refs, 1, memory_order_acq_rel) == 1) {
        pthread_cond_destroy(&events->changed);
        pthread_mutex_destroy(&events->lock);
        free(events);
    }
}

bool sp_events_enter(sp_events *events) {
    pthread_mutex_lock(&events->lock);
    bool open = events->reporters != 0;
    events->reporters += open;
    pthread_mutex_unlock(&events->lock);
    return open;
}

void sp_events_leave(sp_events *events) {
    pthread_mutex_lock(&events->lock);
    if (--events->reporters == 0) {
        pthread_cond_broadcast(&events->changed);
    }
    pthread_mutex_unlock(&events->lock);
}

static bool is_same(const sp_event *a, const sp_event *b) {
    return a->pool == b->pool && a->kind == b->kind && a->reason == b->reason && a->err == b->err;
}

void sp_events_report(sp_events *events, const sp_event *event) {
    pthread_mutex_lock(&events->lock);
    uint32_t i = 0;
    while (i < events->n && !is_same(&events->waiting[i], event)) {
        i++;
    }
    if (i < events->n) {
        events->waiting[i].count += event->count;
    } else if (i < PLACES) {
        events->waiting[events->n++] = *event;
    } else {
        events->dropped += event->count;
    }
    if (events->n == 1) { /* with more events the reader is awake already, or is collecting */
        pthread_cond_signal(&events->changed);
    }
    pthread_mutex_unlock(&events->lock);
}

/* Under the lock. */
static void wait_until(sp_events *events, int64_t time) {
    if (time == SP_NEVER) {
        pthread_cond_wait(&events->changed, &events->lock);
    } else {
        (void)sp_cond_wait_until(&events->changed, &events->lock, time);
    }
}

static bool is_empty(const sp_events *events) { return events->n == 0 && events->dropped == 0; }

/* Takes the oldest events, then the number of those that were dropped, if there is room for it. Under the lock. */
static int take_some(sp_events *events, sp_event *out, int n) {
    uint32_t taken = 0;
    for (; taken < events->n && taken < (uint32_t)n; taken++) {
        out[taken] = events->waiting[taken];
    }
    events->n -= taken;
    for (uint32_t i = 0; i < events->n; i++) {
        events->waiting[i] = events->waiting[taken + i];
    }
    if (events->dropped != 0 && taken < (uint32_t)n) {
        out[taken++] = (sp_event){.kind = SP_EVENT_DROPPED, .count = events->dropped};
        events->dropped = 0;
    }
    return (int)taken;
}

int sp_events_take(sp_events *events, sp_event *out, int n, int64_t pause_ns) {
    pthread_mutex_lock(&events->lock);
    while (pause_ns >= 0 && events->reporters != 0 && (is_empty(events) || sp_now() < events->quiet_until)) {
        wait_until(events, is_empty(events) ? SP_NEVER : events->quiet_until);
    }
    int taken = take_some(events, out, n);
    events->quiet_until = sp_now() + pause_ns;
    pthread_mutex_unlock(&events->lock);
    return taken;
}
