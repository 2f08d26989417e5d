/*
 * File operations for the host. init performs them, so that every path is resolved inside the sandbox, with the rights
 * of its user and under its confinement. The host gets descriptors of files and never resolves a path itself.
 */
#ifndef SANDPOOL_INIT_FILE_H
#define SANDPOOL_INIT_FILE_H

#include "common/packet.h"

/*
 * Performs the operation of a FILE record and answers over the socket that came with it. `payload`: the bytes that came
 * in its packet. Never waits for a tenant. 0; -EBADMSG: malformed, and nothing was done. The packet stays the caller's.
 */
int sp_file_serve(const struct sp_packet *packet, const char *payload);

#endif
