#include "init/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "init/mount_flags.h"
#include "init/plan.h"

/* With one write(2), as the kernel wants it. */
static int write_proc(const char *name, const char *text) {
    sp_auto_fd int fd = openat(SP_PROC_FD, name, O_WRONLY | O_CLOEXEC);
    if (fd == -1) {
        return -errno;
    }
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

static int write_map(const char *name, uint64_t outside) {
    char text[64];
    const char *end = text + sizeof text;
    char *at = sp_append_number(text, end, SP_INSIDE_ID);
    at = sp_append(at, end, " ");
    at = sp_append_number(at, end, outside);
    at = sp_append(at, end, " 1\n");
    return at != NULL ? write_proc(name, text) : -EOVERFLOW;
}

int sp_deny_setgroups(void) { return write_proc("self/setgroups", "deny"); }

int sp_write_id_maps(uid_t outside_uid, gid_t outside_gid) {
    int rc = write_map("self/uid_map", outside_uid);
    return rc != 0 ? rc : write_map("self/gid_map", outside_gid);
}

int sp_make_dirs(char *path, mode_t mode) {
    for (char *slash = path + 1; *slash != '\0'; slash++) {
        if (*slash == '/') {
            *slash = '\0';
            int rc = mkdir(path, mode);
            *slash = '/';
            if (rc != 0 && errno != EEXIST && errno != EROFS) {
                return -errno;
            }
        }
    }
    /* On a read-only mount an existing directory gives EROFS, not EEXIST. If it is missing, the later mount fails. */
    return mkdir(path, mode) == 0 || errno == EEXIST || errno == EROFS ? 0 : -errno;
}

int sp_make_mount_point(char *path, int is_dir) {
    if (is_dir) {
        return sp_make_dirs(path, 0755);
    }
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return -EINVAL;
    }
    if (slash != path) {
        *slash = '\0';
        int rc = sp_make_dirs(path, 0755);
        *slash = '/';
        if (rc != 0) {
            return rc;
        }
    }
    sp_auto_fd int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
    int err = errno; /* the reason; access() would only report that the file is missing */
    return fd != -1 || access(path, F_OK) == 0 ? 0 : -err;
}

int sp_bind(const char *source, const char *target, uint64_t attrs) {
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) != 0) {
        return -errno;
    }
    sp_auto_fd int bound = open(target, O_PATH | O_CLOEXEC);
    return bound == -1 ? -errno : sp_mount_flags_add(bound, attrs, true);
}
