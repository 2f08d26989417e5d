/*
 * minherit(2) of macOS cannot have a page cleared in the child, so a handler of pthread_atfork does it: in the child of
 * any fork(2) of libc. One mark serves all pools of a process; it is never freed, for a child may still look at its
 * parent's.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "host/sys/fork_mark.h"

static _Atomic(volatile uint8_t *) current;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int refused;

/* In the child: all that was opened before is the parent's. No lock, for a thread that held it may not be here. */
static void disown(void) {
    volatile uint8_t *mark = atomic_exchange(&current, NULL);
    if (mark != NULL) {
        *mark = 0;
    }
}

static void watch_forks(void) { refused = pthread_atfork(NULL, NULL, disown); }

volatile const uint8_t *sp_fork_mark_new(void) {
    pthread_once(&once, watch_forks);
    volatile uint8_t *mark = atomic_load(&current);
    if (mark != NULL || refused != 0) {
        return mark;
    }
    volatile uint8_t *fresh = malloc(1);
    if (fresh == NULL) {
        return NULL;
    }
    *fresh = 1;
    if (atomic_compare_exchange_strong(&current, &mark, fresh)) {
        return fresh;
    }
    free((void *)(uintptr_t)fresh); /* another thread was faster */
    return mark;
}

void sp_fork_mark_free(volatile const uint8_t *mark) { (void)mark; }
