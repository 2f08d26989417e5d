/*
 * minherit(2) of macOS cannot clear a page in the child. So a handler of pthread_atfork() clears the mark in each child
 * that fork(2) of libc creates. All pools of a process share one mark. It is never freed, because a child may still
 * read the mark of its parent.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "host/sys/fork_mark.h"

static _Atomic(volatile uint8_t *) current;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int refused;

/* Runs in the child: all pools that it has inherited are the parent's. It takes no lock, because the thread that held
 * the lock at the fork may not exist in the child. */
static void clear_mark(void) {
    volatile uint8_t *mark = atomic_exchange(&current, NULL);
    if (mark != NULL) {
        *mark = 0;
    }
}

static void install_handler(void) { refused = pthread_atfork(NULL, NULL, clear_mark); }

volatile const uint8_t *sp_fork_mark_new(void) {
    pthread_once(&once, install_handler);
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
    free((void *)(uintptr_t)fresh); /* another thread has stored its mark first */
    return mark;
}

void sp_fork_mark_free(volatile const uint8_t *mark) { (void)mark; }
