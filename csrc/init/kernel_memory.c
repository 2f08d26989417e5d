#include "init/kernel_memory.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"
#include "init/files.h"
#include "init/proc.h"

#define KIB UINT64_C(1024)
#define PERIOD_NS (1000 * INT64_C(1000000))
#define PERIOD_RATIO 64 /* of the time that init may spend with counting */

/* Each with the slack of its slab. A lock may have its inode's list, a mapping a file that nothing else holds. */
#define OBJECT_COST 256
#define MAPPING_COST 512
#define LIST_COST (512 * KIB) /* SP_KERNEL_OBJECTS lines */
/* So many are not counted: that is what programs have. */
#define FREE_MAPPINGS 8192
#define FREE_LISTS 16

/* Bytes, or 0 where it cannot be told: then there is only the period. */
static uint64_t slab_of_all(void) {
    char text[4096];
    uint64_t kib = 0;
    if (sp_read_text(AT_FDCWD, "/proc/meminfo", text, sizeof text)) {
        (void)sp_find_number(text, "\nSUnreclaim:", &kib);
    }
    return kib * KIB;
}

bool sp_kernel_is_due(struct sp_kernel_watch *watch, uint64_t slack) {
    uint64_t slab = slab_of_all();
    bool grown = slab > watch->slab + slack;
    watch->slab = slab < watch->slab ? slab : watch->slab;
    return grown || sp_now() >= watch->next;
}

void sp_kernel_count_begins(struct sp_kernel_watch *watch) {
    watch->slab = slab_of_all(); /* what comes while it counts is growth */
    watch->counted = sp_now();
}

void sp_kernel_count_ends(struct sp_kernel_watch *watch) {
    int64_t now = sp_now();
    int64_t pause = (now - watch->counted) * PERIOD_RATIO;
    watch->counted = now;
    watch->next = now + (pause > PERIOD_NS ? pause : PERIOD_NS);
}

/* "lock:\t1: POSIX  ADVISORY  WRITE ..." and "tfd: ...", a line each: see proc_pid_fdinfo(5). */
static void add_lines(struct sp_kernel_sum *sum, int fd) {
    char text[4096];
    char before = '\n';
    ssize_t n;
    while (sum->objects <= SP_KERNEL_OBJECTS && (n = read(fd, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            sum->objects += before == '\n' && (text[i] == 'l' || text[i] == 't');
            before = text[i];
        }
    }
}

void sp_kernel_add_file(struct sp_kernel_sum *sum, int dir, const char *fd, bool of_proc) {
    char path[32];
    char target[64];
    if (of_proc) {
        (void)sp_append(sp_append(path, path + sizeof path, "fd/"), path + sizeof path, fd);
        ssize_t n = readlinkat(dir, path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        sum->lists += strstr(target, "/fdinfo/") != NULL;
    }
    (void)sp_append(sp_append(path, path + sizeof path, "fdinfo/"), path + sizeof path, fd);
    sp_auto_fd int info = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (info != -1) {
        add_lines(sum, info);
    }
}

static uint64_t above(unsigned n, unsigned free) { return n > free ? n - free : 0; }

uint64_t sp_kernel_bytes(const struct sp_kernel_sum *sum, unsigned mappings, unsigned mappings_max) {
    if (sum->objects > SP_KERNEL_OBJECTS || mappings >= mappings_max) {
        return UINT64_MAX / 2;
    }
    return (uint64_t)sum->objects * OBJECT_COST + above(mappings, FREE_MAPPINGS) * MAPPING_COST +
           above(sum->lists, FREE_LISTS) * LIST_COST;
}
