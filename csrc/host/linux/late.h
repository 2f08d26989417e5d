/*
 * Reapers that had not ended when their pool was closed, because the zygote took longer to end, such as one whose
 * interpreter has gigabytes to free. Each of them is reaped when the next reaper starts or is freed, so that a host
 * that opens and closes pools collects no zombies.
 */
#ifndef SANDPOOL_HOST_LINUX_LATE_H
#define SANDPOOL_HOST_LINUX_LATE_H

#include <stdbool.h>

/* A part of what waits; its owner is the list from sp_late_keep() on. */
struct sp_late {
    struct sp_late *next;
    bool (*reap)(struct sp_late *self); /* true when it has ended; nothing of it is used afterwards */
};

void sp_late_keep(struct sp_late *late);
/* Reaps what has ended. Does not wait. */
void sp_late_reap(void);

#endif
