/* User namespaces for idmapped mounts: nobody lives in them, they only hold a map. Linux only: idmap_linux.c. */
#ifndef SANDPOOL_COMMON_IDMAP_H
#define SANDPOOL_COMMON_IDMAP_H

#include <stdint.h>

/* `uid` on the file system appears as `shown_uid`, and the group likewise. */
struct sp_idmap {
    uint64_t uid, shown_uid;
    uint64_t gid, shown_gid;
};

/* A namespace that is kept for the next use. Nobody else uses it meanwhile. */
struct sp_idmap_kept {
    struct sp_idmap map;
    int fd; /* -1: none */
};

/* A descriptor of a new user namespace with this map, or -errno. Only root may map another id than its own. */
int sp_idmap_open(const struct sp_idmap *map);

#endif
