/*
 * A bell is one descriptor that becomes readable when any thread rings it, and stays readable: an event loop waits for
 * it. A bell rings once. There is one file for each system: bell_linux.c and bell_darwin.c.
 */
#ifndef SANDPOOL_HOST_SYS_BELL_H
#define SANDPOOL_HOST_SYS_BELL_H

#include "host/sys/own.h"

struct sp_bell {
    int fd;   /* to wait for; -1: none */
    int rope; /* what is closed to ring it, where the system needs a second descriptor; else -1 */
    bool rung;
    struct sp_identity identity; /* of fd */
    struct sp_identity rope_identity;
};

#define SP_BELL_NONE ((struct sp_bell){.fd = -1, .rope = -1})

/* 0 or -errno; after an error the bell is SP_BELL_NONE. */
int sp_bell_open(struct sp_bell *bell);
/* Never waits. Does nothing to a bell that is not open, or whose descriptor another part of the process has closed. */
void sp_bell_ring(struct sp_bell *bell);
void sp_bell_close(struct sp_bell *bell);

#endif
