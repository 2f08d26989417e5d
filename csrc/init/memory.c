#include "init/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/packet.h"

#define LOOK_NS (25 * INT64_C(1000000))
/*
 * A child between vfork and exec shows its parent's memory as its own. It is there for a moment, so a sum counts as too
 * much only when no look of a whole row finds less.
 */
#define CONFIRM_NS (4 * INT64_C(1000000))
#define ROW_NS (20 * INT64_C(1000000))
#define ROW_LOOKS 3

#define KIB 1024
#define MEMFDS_TOLD_APART 1024 /* a power of two */

/* ---- reading /proc without a heap ---- */

/* What getdents64(2) yields; the kernel's own declaration is not in its public headers. */
struct entry {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};

struct listing {
    int fd;
    long filled, at;
    char buffer[1024] __attribute__((aligned(8)));
};

/* The next name that is a number, or NULL at the end. */
static const char *next_number(struct listing *list) {
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

static int open_listing(struct listing *list, int dir, const char *name) {
    list->filled = list->at = 0;
    list->fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return list->fd;
}

static bool read_text(int dir, const char *name, char *text, size_t size) {
    sp_auto_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* The number behind "\nname:", in KiB, as bytes. A process's own name cannot hold a newline there. */
static bool find_kib(const char *text, const char *name, uint64_t *bytes) {
    const char *at = strstr(text, name);
    uint64_t kib = 0;
    if (at == NULL) {
        return false;
    }
    for (at += strlen(name); *at == ' ' || *at == '\t'; at++) {
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        kib = kib * 10 + (uint64_t)(*at - '0');
    }
    *bytes = kib * KIB;
    return true;
}

/* ---- one process ---- */

struct sum {
    uint64_t own;    /* anonymous, swap, page tables */
    uint64_t mapped; /* shared memory that is mapped */
    uint64_t memfds;
    uint64_t seen[MEMFDS_TOLD_APART]; /* inodes of memfds counted; 0: free */
    dev_t memfd_dev;
};

/* False when there is no memory behind this entry: a zombie, or a thread that is gone. */
static bool add_status(struct sum *sum, int dir, bool exact) {
    char text[4096];
    uint64_t anon = 0;
    uint64_t shared = 0;
    uint64_t swap = 0;
    uint64_t tables = 0;
    if (!read_text(dir, "status", text, sizeof text) || !find_kib(text, "\nRssAnon:", &anon)) {
        return false;
    }
    (void)find_kib(text, "\nRssShmem:", &shared);
    (void)find_kib(text, "\nVmSwap:", &swap);
    (void)find_kib(text, "\nVmPTE:", &tables);
    /* Refused for a process that made itself undumpable; then its share is taken as all its own. */
    if (exact && read_text(dir, "smaps_rollup", text, sizeof text)) {
        (void)find_kib(text, "\nPss_Anon:", &anon);
        (void)find_kib(text, "\nPss_Shmem:", &shared);
    }
    sum->own += anon + swap + tables;
    sum->mapped += shared;
    return true;
}

static bool is_new(struct sum *sum, uint64_t inode) {
    for (size_t i = 0; i < MEMFDS_TOLD_APART; i++) {
        uint64_t *seen = &sum->seen[(inode + i) & (MEMFDS_TOLD_APART - 1)];
        if (*seen == 0 || *seen == inode) {
            bool found = *seen == inode;
            *seen = inode;
            return !found;
        }
    }
    return true;
}

static void add_memfds(struct sum *sum, int dir) {
    struct listing list;
    sp_auto_fd int fd = open_listing(&list, dir, "fd");
    const char *name;
    while (fd != -1 && (name = next_number(&list)) != NULL) {
        struct stat st;
        if (fstatat(fd, name, &st, 0) == 0 && st.st_dev == sum->memfd_dev && st.st_blocks != 0 &&
            is_new(sum, st.st_ino)) {
            sum->memfds += (uint64_t)st.st_blocks * 512;
        }
    }
}

static void add_process(struct sum *sum, int proc, const char *pid, bool exact) {
    sp_auto_fd int dir = openat(proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir == -1) {
        return;
    }
    add_memfds(sum, dir);
    if (add_status(sum, dir, exact)) {
        return;
    }
    /* The first thread may have ended and left the memory to the others, who show it. */
    struct listing list;
    sp_auto_fd int tasks = open_listing(&list, dir, "task");
    const char *name;
    while (tasks != -1 && (name = next_number(&list)) != NULL) {
        sp_auto_fd int task = openat(tasks, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (task != -1 && add_status(sum, task, false)) {
            add_memfds(sum, task);
            return;
        }
    }
}

/* ---- the sandbox ---- */

/* All memfds live in one mount of the kernel's own; one of ours tells which. */
static dev_t find_memfd_dev(void) {
    static dev_t dev;
    struct stat st;
    if (dev == 0) {
        sp_auto_fd int fd = (int)syscall(SYS_memfd_create, "", MFD_CLOEXEC);
        dev = fd != -1 && fstat(fd, &st) == 0 ? st.st_dev : 0;
    }
    return dev;
}

static uint64_t scratch_used(void) {
    struct statfs fs;
    return statfs("/tmp", &fs) == 0 ? (uint64_t)fs.f_bsize * (fs.f_blocks - fs.f_bfree) : 0;
}

/* All segments of this ipc namespace, attached or not. */
static uint64_t segments_used(void) {
    struct shm_info info;
    memset(&info, 0, sizeof info);
    if (shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info) < 0) {
        return 0;
    }
    return ((uint64_t)info.shm_rss + info.shm_swp) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t sp_memory_used(bool exact) {
    static struct sum sum; /* too large for the stack */
    struct listing list;
    sp_auto_fd int proc = open_listing(&list, AT_FDCWD, "/proc");
    const char *pid;
    memset(&sum, 0, sizeof sum);
    sum.memfd_dev = find_memfd_dev();
    while (proc != -1 && (pid = next_number(&list)) != NULL) {
        if (strcmp(pid, "1") != 0) {
            add_process(&sum, proc, pid, exact);
        }
    }
    /* What is mapped is mostly what the second sum counts too, and nothing tells which: the larger one stands. */
    uint64_t shared = scratch_used() + segments_used() + sum.memfds;
    return sum.own + (shared > sum.mapped ? shared : sum.mapped);
}

void sp_memory_watch_begin(struct sp_memory_watch *watch, uint64_t limit) {
    *watch = (struct sp_memory_watch){.limit = limit, .next_look = limit != 0 ? sp_now() : SP_NEVER};
}

bool sp_memory_watch_look(struct sp_memory_watch *watch) {
    bool suspected = watch->breaches != 0;
    bool too_much = (suspected || sp_memory_used(false) > watch->limit) && sp_memory_used(true) > watch->limit;
    int64_t now = sp_now();
    watch->first_breach = suspected ? watch->first_breach : now;
    watch->breaches = too_much ? watch->breaches + 1 : 0;
    watch->next_look = now + (too_much ? CONFIRM_NS : LOOK_NS);
    return watch->breaches >= ROW_LOOKS && now - watch->first_breach >= ROW_NS;
}
