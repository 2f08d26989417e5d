/*
 * /sys/devices/system/cpu: which processors there are, what they share, and their caches. Programs that choose their
 * number of threads read it (lscpu, hwloc, ONNX Runtime, PyTorch).
 *
 * It is a copy of these values. The host's directory is not mounted: it also counts how often each processor sleeps and
 * wakes, which would show a tenant what others do, and some of its files act on the hardware when they are read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/stage.h"
#include "init/files.h"
#include "zygote/helpers.h"
#include "zygote/zygote.h"

#define SOURCE "/old/sys/devices/system/cpu"
#define BELOW_SYS "/devices/system/cpu"
#define LAID "/laid-sys" /* what is mounted at the /sys of a rootfs; it lies beside /old and /new */
#define MAX_CACHES 16
#define CPUS_PER_HELPER 8
#define MAX_HELPERS 8

static const char *const of_all[] = {"kernel_max", "offline", "online", "possible", "present", NULL};
static const char *const of_one[] = {"online", "cpu_capacity", NULL};
/* Not "ppin", the serial number of the processor. */
static const char *const of_topology[] = {"cluster_cpus",
                                          "cluster_cpus_list",
                                          "cluster_id",
                                          "core_cpus",
                                          "core_cpus_list",
                                          "core_id",
                                          "core_siblings",
                                          "core_siblings_list",
                                          "die_cpus",
                                          "die_cpus_list",
                                          "die_id",
                                          "package_cpus",
                                          "package_cpus_list",
                                          "physical_package_id",
                                          "thread_siblings",
                                          "thread_siblings_list",
                                          NULL};
static const char *const of_cache[] = {"coherency_line_size",
                                       "id",
                                       "level",
                                       "number_of_sets",
                                       "physical_line_partition",
                                       "shared_cpu_list",
                                       "shared_cpu_map",
                                       "size",
                                       "type",
                                       "ways_of_associativity",
                                       NULL};

/* A directory of the host and its copy. */
struct dirs {
    int from, to;
};

static int copy_value(struct dirs dirs, const char *name) {
    char text[4096];
    sp_auto_fd int in = openat(dirs.from, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = in != -1 ? read(in, text, sizeof text) : -1;
    if (n < 0) {
        return 0; /* not every kernel has each value */
    }
    sp_auto_fd int out = openat(dirs.to, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444);
    return out != -1 && write(out, text, (size_t)n) == n ? 0 : -errno;
}

static int copy_values(struct dirs dirs, const char *const *names) {
    int rc = 0;
    for (; *names != NULL && rc == 0; names++) {
        rc = copy_value(dirs, *names);
    }
    return rc;
}

/* 1 and both directories, 0 if the host has no such directory, or -errno. */
static int enter(struct dirs above, const char *name, struct dirs *dirs) {
    *dirs = (struct dirs){openat(above.from, name, O_PATH | O_DIRECTORY | O_CLOEXEC), -1};
    if (dirs->from == -1) {
        return 0;
    }
    if (mkdirat(above.to, name, 0755) == 0) {
        dirs->to = openat(above.to, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    return dirs->to != -1 ? 1 : -errno;
}

static void leave(struct dirs *dirs) {
    sp_fd_close(&dirs->from);
    sp_fd_close(&dirs->to);
}

static int copy_dir(struct dirs above, const char *name, const char *const *values) {
    struct dirs dirs;
    int rc = enter(above, name, &dirs);
    rc = rc == 1 ? copy_values(dirs, values) : rc;
    leave(&dirs);
    return rc;
}

static int copy_caches(struct dirs cpu) {
    struct dirs caches;
    int rc = enter(cpu, "cache", &caches);
    for (unsigned i = 0; i < MAX_CACHES && rc == 1; i++) {
        char name[16] = "index";
        (void)sp_append_number(name + strlen(name), name + sizeof name, i);
        int copied = copy_dir(caches, name, of_cache);
        rc = copied < 0 ? copied : 1;
    }
    leave(&caches);
    return rc < 0 ? rc : 0;
}

static int copy_cpu(struct dirs all, unsigned long number) {
    char name[32] = "cpu";
    struct dirs cpu;
    (void)sp_append_number(name + strlen(name), name + sizeof name, number);
    int rc = enter(all, name, &cpu);
    if (rc == 1) {
        rc = copy_values(cpu, of_one);
        rc = rc != 0 ? rc : copy_dir(cpu, "topology", of_topology);
        rc = rc != 0 ? rc : copy_caches(cpu);
    }
    leave(&cpu);
    return rc;
}

/* The largest number in a list such as "0-3,8-11\n". */
static unsigned long last_of(int dir, const char *name) {
    char text[4096];
    sp_auto_fd int list = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = list != -1 ? read(list, text, sizeof text - 1) : -1;
    text[n > 0 ? n : 0] = '\0';
    const char *at = text;
    for (const char *c = text; *c != '\0'; c++) {
        at = *c == '-' || *c == ',' ? c + 1 : at;
    }
    return strtoul(at, NULL, 10);
}

/* The processors number `first`, first + step, ... */
struct part {
    struct dirs all;
    unsigned long first, step, last;
};

static int failed(int rc, struct sp_rec_failed *why) {
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_ROOT, -rc, "/sys/devices/system/cpu");
}

static int copy_part(const void *arg, struct sp_rec_failed *why) {
    const struct part *part = arg;
    int rc = 0;
    for (unsigned long number = part->first; number <= part->last && rc == 0; number += part->step) {
        rc = copy_cpu(part->all, number);
    }
    return failed(rc, why);
}

static int copy_all(struct dirs all, struct sp_helpers *helpers, struct sp_rec_failed *why) {
    const unsigned long last = last_of(all.from, "possible");
    const unsigned long wanted = 1 + last / CPUS_PER_HELPER;
    const unsigned long parts = wanted < MAX_HELPERS ? wanted : MAX_HELPERS;
    int rc = failed(copy_values(all, of_all), why);
    for (unsigned long i = 0; i < parts && rc == 0; i++) {
        const struct part part = {all, i, parts, last};
        rc = sp_helpers_begin(helpers, copy_part, &part, why);
    }
    return rc;
}

int sp_zygote_copy_cpus(const struct sp_plan *plan, struct sp_helpers *helpers, struct sp_rec_failed *why) {
    char target[64];
    struct stat st;
    const char *base = plan->rootfs != NULL ? LAID : "/new/sys";
    (void)sp_append(sp_append(target, target + sizeof target, base), target + sizeof target, BELOW_SYS);
    sp_auto_fd int source = open(SOURCE, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (source == -1 || (plan->rootfs != NULL && (lstat("/new/sys", &st) != 0 || !S_ISDIR(st.st_mode)))) {
        return 0; /* the host shows no /sys, or the rootfs has no place for it */
    }
    int rc = sp_make_dirs(target, 0755);
    sp_auto_fd int to = rc == 0 ? open(target, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    rc = rc == 0 && to == -1 ? -errno : rc;
    return rc != 0 ? failed(rc, why) : copy_all((struct dirs){source, to}, helpers, why);
}

int sp_zygote_lay_cpus(const struct sp_plan *plan, struct sp_rec_failed *why) {
    const uint64_t attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    bool is_there = plan->rootfs != NULL && access(LAID, F_OK) == 0;
    return is_there ? failed(sp_bind(LAID, "/new/sys", attrs), why) : 0;
}
