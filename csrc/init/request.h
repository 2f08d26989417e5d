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

/* Performs a FILE: see init/file.h. */
typedef int sp_file_server(const struct sp_packet *packet, const char *payload);

/*
 * Waits for an EXEC and reads all of it. A FILE that comes before it goes to `serve_file`; NULL: there is none. 0, with
 * *command pointing into memory that the next request reuses; or -errno: the host is gone or has sent something
 * malformed.
 */
int sp_request_recv(int control, struct sp_request *request, struct sp_command *command, sp_file_server *serve_file);
/* Unmaps the memory of the last large request. */
void sp_request_free_large(void);

#endif
