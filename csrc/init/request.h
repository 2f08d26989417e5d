/* Receives requests: the record, its descriptors and its payload. Shared by init and the agent. */
#ifndef SANDPOOL_INIT_REQUEST_H
#define SANDPOOL_INIT_REQUEST_H

#include "common/packet.h"
#include "init/command.h"

struct sp_request {
    struct sp_rec_exec exec; /* of EXEC and SPAWN */
    struct sp_packet
        packet; /* owns the descriptors that the command gets, and before them that of the process socket */
    char *payload;
    char **vector;
};

/* Performs a FILE: see init/file.h. */
typedef int sp_file_server(const struct sp_packet *packet, const char *payload);

/*
 * Receives one record and reads all of it: EXEC, SPAWN, KILL, SERVE or NAMESPACES, or a FILE, which `serve_file`
 * performs; NULL: there is none. 0, with *command of the first two pointing into memory that the next request reuses;
 * -EAGAIN: nothing has come; or -errno: the host is gone or has sent something malformed.
 */
int sp_request_next(int control, struct sp_request *request, struct sp_command *command, sp_file_server *serve_file);
/* Waits for an EXEC, SERVE or NAMESPACES. Skips KILLs that came too late for their command: no command runs now. */
int sp_request_recv(int control, struct sp_request *request, struct sp_command *command, sp_file_server *serve_file);
/* Unmaps the memory of the last large request. */
void sp_request_free_large(void);

#endif
