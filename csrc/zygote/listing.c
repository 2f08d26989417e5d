#include "zygote/listing.h"

#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* An entry of getdents64(2); the kernel's own declaration is not in its public headers. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

const char *sp_next_name(int dir, struct sp_listing *list) {
    for (;;) {
        if (list->at >= list->filled) {
            list->filled = syscall(SYS_getdents64, dir, list->buffer, sizeof list->buffer);
            list->at = 0;
        }
        if (list->filled <= 0) {
            return NULL;
        }
        const struct entry *entry = (const struct entry *)(const void *)(list->buffer + list->at);
        list->at += entry->size;
        list->type = entry->type;
        if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0) {
            return entry->name;
        }
    }
}
