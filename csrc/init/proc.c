#include "init/proc.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"

/* An entry of getdents64(2); the kernel's own declaration is not in its public headers. */
struct entry {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};

int sp_listing_open(struct sp_listing *list, int dir, const char *name) {
    list->filled = list->at = 0;
    list->fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return list->fd;
}

void sp_listing_again(struct sp_listing *list, int dir) {
    list->filled = list->at = 0;
    list->fd = dir;
    (void)lseek(dir, 0, SEEK_SET);
}

const char *sp_listing_next(struct sp_listing *list) {
    for (;;) {
        if (list->at >= list->filled) {
            list->filled = syscall(SYS_getdents64, list->fd, list->buffer, sizeof list->buffer);
            list->at = 0;
            if (list->filled <= 0) {
                return NULL;
            }
        }
        const struct entry *e = (const struct entry *)(const void *)(list->buffer + list->at);
        list->at += e->len;
        if (e->name[0] >= '0' && e->name[0] <= '9') {
            return e->name;
        }
    }
}

bool sp_read_text(int dir, const char *name, char *text, size_t size) {
    sp_auto_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

bool sp_read_again(int fd, char *text, size_t size) {
    ssize_t n = pread(fd, text, size - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

bool sp_find_number(const char *text, const char *name, uint64_t *value) {
    const char *at = strstr(text, name);
    if (at == NULL) {
        return false;
    }
    *value = 0;
    for (at += strlen(name); *at == ' ' || *at == '\t'; at++) {
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        *value = *value * 10 + (uint64_t)(*at - '0');
    }
    return true;
}

static bool (*is_tenant_here)(int pid);

void sp_proc_share(bool (*is_tenant)(int pid)) { is_tenant_here = is_tenant; }

bool sp_proc_is_shared(void) { return is_tenant_here != NULL; }

static int hidden;

void sp_proc_hide(int pid) { hidden = pid; }

bool sp_proc_is_tenant(int pid) { return is_tenant_here != NULL ? is_tenant_here(pid) : pid > 1 && pid != hidden; }
