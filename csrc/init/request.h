/* Receives an EXEC: the record, its descriptors and its payload. Shared by init and the agent. */
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
 * Waits for a request and reads all of it. 0, with *command pointing into memory that the next request reuses; or
 * -errno: the host is gone or has sent something malformed.
 */
int sp_request_recv(int control, struct sp_request *request, struct sp_command *command);
/* Unmaps the memory of the last large request. */
void sp_request_free_large(void);

#endif
