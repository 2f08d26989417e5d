/* Reads supervised calls: what their arguments mean, and what these point to in the tenant's memory. Some of the calls
 * do not exist on all architectures. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include "common/fd.h"
#include "init/supervise_call.h"

/* The headers of the building machine may be older. The number is the same on all architectures. */
#define NR_FCHMODAT2 452

#define NONE SP_NO_ARG

const struct sp_call_form sp_call_forms[] = {
/* call, change, dir, path, value, flags, no_follow, times */
#ifdef SYS_chmod
    {SYS_chmod, SP_CHANGE_MODE, NONE, 0, 1, NONE, false, 0},
    {SYS_chown, SP_CHANGE_OWNER, NONE, 0, 1, NONE, false, 0},
    {SYS_lchown, SP_CHANGE_OWNER, NONE, 0, 1, NONE, true, 0},
    {SYS_utime, SP_CHANGE_TIMES, NONE, 0, 1, NONE, false, SP_TIMES_SECONDS},
    {SYS_utimes, SP_CHANGE_TIMES, NONE, 0, 1, NONE, false, SP_TIMES_MICRO},
    {SYS_futimesat, SP_CHANGE_TIMES, 0, 1, 2, NONE, false, SP_TIMES_MICRO},
#endif
    {SYS_fchmod, SP_CHANGE_MODE, 0, NONE, 1, NONE, false, 0},
    {SYS_fchmodat, SP_CHANGE_MODE, 0, 1, 2, NONE, false, 0},
    {NR_FCHMODAT2, SP_CHANGE_MODE, 0, 1, 2, 3, false, 0},
    {SYS_fchown, SP_CHANGE_OWNER, 0, NONE, 1, NONE, false, 0},
    {SYS_fchownat, SP_CHANGE_OWNER, 0, 1, 2, 4, false, 0},
    {SYS_utimensat, SP_CHANGE_TIMES, 0, 1, 2, 3, false, SP_TIMES_NANO},
};
const unsigned sp_call_forms_count = sizeof sp_call_forms / sizeof sp_call_forms[0];

static const struct sp_call_form *form_of(int nr) {
    for (unsigned i = 0; i < sp_call_forms_count; i++) {
        if (sp_call_forms[i].nr == nr) {
            return &sp_call_forms[i];
        }
    }
    return NULL;
}

/* For an address that pread() cannot express, the kernel itself would answer EFAULT, too. */
static int read_bytes(int memory, uint64_t address, void *bytes, size_t len) {
    ssize_t n = address <= INT64_MAX ? pread(memory, bytes, len, (off_t)address) : -1;
    return n == (ssize_t)len ? 0 : -EFAULT;
}

/* Reads as far as the memory goes: the text may end shortly before an unmapped page. */
static int read_path(int memory, uint64_t address, char *path) {
    ssize_t n = address <= INT64_MAX ? pread(memory, path, PATH_MAX, (off_t)address) : -1;
    if (n <= 0) {
        return -EFAULT;
    }
    if (memchr(path, '\0', (size_t)n) != NULL) {
        return 0;
    }
    return n == PATH_MAX ? -ENAMETOOLONG : -EFAULT;
}

static int read_seconds(int memory, uint64_t address, struct sp_call *call) {
    struct utimbuf times;
    int rc = read_bytes(memory, address, &times, sizeof times);
    call->times[0] = (struct timespec){.tv_sec = rc == 0 ? times.actime : 0};
    call->times[1] = (struct timespec){.tv_sec = rc == 0 ? times.modtime : 0};
    return rc;
}

static int read_micro(int memory, uint64_t address, struct sp_call *call) {
    struct timeval times[2];
    int rc = read_bytes(memory, address, times, sizeof times);
    for (int i = 0; i < 2 && rc == 0; i++) {
        if (times[i].tv_usec < 0 || times[i].tv_usec >= 1000000) {
            return -EINVAL;
        }
        call->times[i] = (struct timespec){.tv_sec = times[i].tv_sec, .tv_nsec = times[i].tv_usec * 1000};
    }
    return rc;
}

static int read_times(enum sp_times form, int memory, uint64_t address, struct sp_call *call) {
    call->now = address == 0;
    if (call->now) {
        return 0;
    }
    switch (form) {
    case SP_TIMES_SECONDS:
        return read_seconds(memory, address, call);
    case SP_TIMES_MICRO:
        return read_micro(memory, address, call);
    default: /* the kernel checks them */
        return read_bytes(memory, address, call->times, sizeof call->times);
    }
}

static bool needs_memory(const struct sp_call_form *form, const uint64_t *args) {
    bool has_path = form->path != NONE && args[form->path] != 0;
    return has_path || (form->change == SP_CHANGE_TIMES && args[form->value] != 0);
}

/* With a null address in place of the path, the calls for times mean the descriptor, as with AT_EMPTY_PATH and "". */
static int read_name(const struct sp_call_form *form, const uint64_t *args, int memory, struct sp_call *call) {
    const uint32_t flags = form->flags == NONE ? 0 : (uint32_t)args[form->flags];
    if ((flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) {
        return -EINVAL;
    }
    call->follow = !form->no_follow && (flags & AT_SYMLINK_NOFOLLOW) == 0;
    call->dir = form->dir == NONE ? AT_FDCWD : (int)args[form->dir];
    call->path[0] = '\0';
    bool is_null = form->path != NONE && args[form->path] == 0;
    if (form->path == NONE || (is_null && form->change == SP_CHANGE_TIMES && form->dir != NONE)) {
        call->is_file = true;
        return call->dir >= 0 ? 0 : is_null && call->dir == AT_FDCWD ? -EFAULT : -EBADF;
    }
    int rc = is_null ? -EFAULT : read_path(memory, args[form->path], call->path);
    call->is_file = rc == 0 && call->path[0] == '\0';
    return rc == 0 && call->is_file && (flags & AT_EMPTY_PATH) == 0 ? -ENOENT : rc;
}

int sp_call_read(const struct seccomp_data *data, int task, struct sp_call *call) {
    uint64_t args[6];
    const struct sp_call_form *form = form_of(data->nr);
    if (form == NULL) {
        return -ENOSYS;
    }
    for (int i = 0; i < 6; i++) {
        args[i] = data->args[i];
    }
    sp_auto_fd int memory = -1;
    if (needs_memory(form, args)) {
        memory = openat(task, "mem", O_RDONLY | O_CLOEXEC);
        if (memory == -1) {
            return -EPERM;
        }
    }
    call->change = (enum sp_change)form->change;
    int rc = read_name(form, args, memory, call);
    if (rc != 0) {
        return rc;
    }
    switch (call->change) {
    case SP_CHANGE_MODE:
        call->mode = (mode_t)args[form->value] & 07777;
        return 0;
    case SP_CHANGE_OWNER:
        call->uid = (uid_t)args[form->value];
        call->gid = (gid_t)args[form->value + 1];
        return 0;
    default:
        return read_times((enum sp_times)form->times, memory, args[form->value], call);
    }
}
