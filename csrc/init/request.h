/* EXEC as it arrives: the record, its descriptors and its payload. The same for every system. */
#ifndef SANDPOOL_INIT_REQUEST_H
#define SANDPOOL_INIT_REQUEST_H

#include "common/packet.h"
#include "init/command.h"

struct sp_request {
    struct sp_rec_exec exec;
    struct sp_packet packet; /* owns the descriptors that the command gets */
    char *payload;
    char **vector;
};

/*
 * Waits for a request and reads all of it. 0 with *command pointing into the request's memory, which the next request
 * takes over; or -errno: the host is gone or not to be understood.
 */
int sp_request_recv(int control, struct sp_request *request, struct sp_command *command);
/* Unmaps what the last large request needed. */
void sp_request_free_large(void);

#endif
