/* The cgroup directory of one sandbox: its limits, its processes, and what it has used. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/wire.h"
#include "host/linux/cgroup.h"
#include "host/linux/cgroup_state.h"

/* The largest pids.max that the kernel accepts: it cannot have more pids on 64 bits. */
#define PIDS_MOST (4 * 1024 * 1024)

const char *sp_cgroup_name(char name[64], uint32_t number, const char *file) {
    (void)snprintf(name, 64, file != NULL ? "s%u/%s" : "s%u", number, file);
    return name;
}

int sp_cgroup_write(int dir, const char *name, const char *text) {
    sp_auto_fd int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : write(fd, text, strlen(text));
    return n == -1 ? -errno : (size_t)n == strlen(text) ? 0 : -EIO;
}

int sp_cgroup_read(int dir, const char *name, char *text, size_t size) {
    sp_auto_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    return n >= 0 ? 0 : -errno;
}

bool sp_cgroup_has_word(const char *list, const char *word) {
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += len) {
        if ((at == list || at[-1] == ' ' || at[-1] == '\n') && (at[len] == ' ' || at[len] == '\n' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

/*
 * The kernel checks the zygote's permission when it creates a sandbox in the cgroup, and the zygote of a host that runs
 * as root is not root. If the unprivileged id does not exist (EINVAL), or the capability to change the owner is missing
 * (EPERM), the zygote keeps its id, and the owner may stay: see zygote/enter.c.
 */
int sp_cgroup_give_to_zygote(int dir, const char *procs) {
    if (geteuid() != 0 && getuid() != 0) {
        return 0;
    }
    bool given = fchownat(dir, procs, SP_UNPRIVILEGED_ID, SP_UNPRIVILEGED_ID, 0) == 0;
    return given || errno == EINVAL || errno == EPERM ? 0 : -errno;
}

/* Reads back what was written: the kernel may have stored another value. It ends each value with a newline. */
static int confirm(const struct sp_cgroups *c, uint32_t number, const char *file, const char *wanted) {
    char name[64];
    char text[64];
    size_t len = strlen(wanted);
    int rc = sp_cgroup_read(c->dir, sp_cgroup_name(name, number, file), text, sizeof text);
    bool same = strncmp(text, wanted, len) == 0 && text[len] == '\n';
    return rc != 0 ? rc : same ? 0 : -EPROTO;
}

static int write_and_confirm(const struct sp_cgroups *c, uint32_t number, const char *file, const char *text) {
    char name[64];
    int rc = sp_cgroup_write(c->dir, sp_cgroup_name(name, number, file), text);
    return rc != 0 ? rc : confirm(c, number, file, text);
}

static int set_number(const struct sp_cgroups *c, uint32_t number, const char *file, uint64_t value) {
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return write_and_confirm(c, number, file, text);
}

static int set_limits(const struct sp_cgroups *c, uint32_t number) {
    char text[64];
    int rc = 0;
    if ((c->enforced & SP_CGROUP_MEMORY) != 0) {
        rc = set_number(c, number, "memory.max", c->limits.memory_bytes);
        rc = rc != 0 ? rc : set_number(c, number, "memory.oom.group", 1);
        rc = rc != 0 ? rc : set_number(c, number, "memory.swap.max", 0);
        rc = rc == -ENOENT ? 0 : rc; /* this kernel has no swap */
    }
    if (rc == 0 && (c->enforced & SP_CGROUP_PIDS) != 0) {
        uint64_t pids = c->limits.max_processes + c->limits.other_processes;
        rc = pids <= PIDS_MOST ? set_number(c, number, "pids.max", pids)
                               : write_and_confirm(c, number, "pids.max", "max");
    }
    if (rc == 0 && (c->enforced & SP_CGROUP_CPU) != 0) {
        (void)snprintf(text, sizeof text, "%llu %llu", (unsigned long long)c->limits.cpu_quota_us,
                       (unsigned long long)c->limits.cpu_period_us);
        rc = write_and_confirm(c, number, "cpu.max", text);
    }
    return rc;
}

int sp_cgroup_make(struct sp_cgroups *c, uint32_t number) {
    char name[64];
    if (mkdirat(c->dir, sp_cgroup_name(name, number, NULL), 0755) != 0) {
        return -errno;
    }
    int rc = set_limits(c, number);
    rc = rc != 0 ? rc : sp_cgroup_give_to_zygote(c->dir, sp_cgroup_name(name, number, "cgroup.procs"));
    if (rc != 0) {
        (void)unlinkat(c->dir, sp_cgroup_name(name, number, NULL), AT_REMOVEDIR);
    }
    return rc;
}

bool sp_cgroup_contains(struct sp_cgroups *c, uint32_t number, pid_t pid) {
    char name[64];
    char procs[256];
    char wanted[32];
    sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);
    (void)snprintf(wanted, sizeof wanted, "%d", (int)pid);
    return in != NULL &&
           sp_cgroup_read(c->dir, sp_cgroup_name(name, number, "cgroup.procs"), procs, sizeof procs) == 0 &&
           sp_cgroup_has_word(procs, wanted);
}

static uint64_t find_number(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}

int sp_cgroup_usage(struct sp_cgroups *c, uint32_t number, struct sp_usage *usage) {
    char name[64];
    char text[1024];
    memset(usage, 0, sizeof *usage);
    sp_auto_leave struct sp_cgroups *in = sp_cgroups_enter(c);
    int rc =
        in == NULL ? -ESHUTDOWN : sp_cgroup_read(c->dir, sp_cgroup_name(name, number, "cpu.stat"), text, sizeof text);
    if (rc != 0) {
        return rc;
    }
    usage->user_us = find_number(text, "\nuser_usec ");
    usage->system_us = find_number(text, "\nsystem_usec ");
    if ((c->enforced & SP_CGROUP_MEMORY) != 0) {
        (void)sp_cgroup_read(c->dir, sp_cgroup_name(name, number, "memory.peak"), text, sizeof text); /* Linux 5.19 */
        usage->peak_bytes = strtoull(text, NULL, 10);
        rc = sp_cgroup_read(c->dir, sp_cgroup_name(name, number, "memory.events"), text, sizeof text);
        usage->oom_kills = find_number(text, "\noom_kill ");
        if (usage->peak_bytes == 0 && usage->oom_kills != 0) { /* the limit is reached then, and not known without */
            (void)sp_cgroup_read(c->dir, sp_cgroup_name(name, number, "memory.max"), text, sizeof text);
            usage->peak_bytes = strtoull(text, NULL, 10);
        }
    }
    return rc;
}
