#include "init/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/kernel_linux.h"

/* The socket is new and has room for the reply, so a longer wait means that the kernel has no memory. */
#define REPLY_TIMEOUT_NS SP_MS(100)

struct reply {
    struct sp_rec_filed filed;
    int fd;                      /* the open file, or -1 */
    char text[SP_FILE_PATH_MAX]; /* of a link */
};

/*
 * With the seccomp filter of most configurations openat2 answers ENOSYS. Then magic links are followed. They lead to
 * what init has open (sockets, which cannot be opened, and /dev/null), to directories that are inside anyway, and to
 * the program of init, which is public and cannot be written to.
 */
static int open_path(const char *path, int flags, mode_t mode) {
    struct open_how how = {
        .flags = (uint64_t)flags, .mode = (flags & O_CREAT) != 0 ? mode : 0, .resolve = RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    if (fd == -1 && (errno == ENOSYS || errno == EPERM)) {
        fd = open(path, flags, mode);
    }
    return fd != -1 ? (int)fd : -errno;
}

static uint64_t since_1970(struct timespec t) { return t.tv_sec >= 0 ? (uint64_t)sp_ns_of(t) & INT64_MAX : 0; }

static void fill_times(const struct stat *st, struct sp_rec_filed *filed) {
    filed->accessed_ns = since_1970(st->st_atim);
    filed->modified_ns = since_1970(st->st_mtim);
    filed->changed_ns = since_1970(st->st_ctim);
}

static bool is_whole(const struct sp_packet *packet) {
    return packet->n_fds == 1 && packet->payload_len == packet->record.u.file.payload_len;
}

static int take_paths(const struct sp_rec_file *file, const char *payload, const char *paths[2]) {
    const char *cursor = payload;
    const char *end = payload + file->payload_len;
    bool two = file->op == SP_FILE_RENAME || file->op == SP_FILE_SYMLINK;
    paths[0] = sp_strings_next(&cursor, end);
    paths[1] = two ? sp_strings_next(&cursor, end) : "";
    return paths[0] != NULL && paths[1] != NULL && cursor == end ? 0 : -EBADMSG;
}

static void fill_stat(const struct stat *st, struct sp_rec_filed *filed) {
    filed->mode = (uint32_t)st->st_mode & 0xffff;
    filed->nlink = (uint32_t)st->st_nlink;
    filed->uid = (uint32_t)st->st_uid;
    filed->gid = (uint32_t)st->st_gid;
    filed->size = st->st_size > 0 ? (uint64_t)st->st_size : 0;
    filed->inode = (uint64_t)st->st_ino;
    filed->device = (uint64_t)st->st_dev;
    fill_times(st, filed);
}

/* O_NONBLOCK: to open a FIFO, or a file on which a process holds a lease, must not wait for that process. */
static int open_flags(const struct sp_rec_file *file) {
    static const struct {
        uint32_t flag;
        int of_open;
    } table[] = {
        {SP_FILE_CREATE, O_CREAT},  {SP_FILE_EXCLUSIVE, O_EXCL},    {SP_FILE_TRUNCATE, O_TRUNC},
        {SP_FILE_APPEND, O_APPEND}, {SP_FILE_NOFOLLOW, O_NOFOLLOW}, {SP_FILE_DIRECTORY, O_DIRECTORY},
    };
    bool reads = (file->flags & SP_FILE_READ) != 0;
    bool writes = (file->flags & SP_FILE_WRITE) != 0;
    int flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        flags |= (file->flags & table[i].flag) != 0 ? table[i].of_open : 0;
    }
    return flags;
}

/* The type is checked after the open, because between a check and the open a tenant could put another file there. */
static int open_file(const struct sp_rec_file *file, const char *path, struct reply *reply) {
    struct stat st = {0};
    const bool exclusive = (file->flags & SP_FILE_EXCLUSIVE) != 0;
    const mode_t mask = exclusive ? umask(0) : 0;
    sp_auto_fd int fd = open_path(path, open_flags(file), (mode_t)file->mode);
    if (exclusive) {
        umask(mask);
    }
    if (fd < 0) {
        return fd;
    }
    int rc = sp_fd_check_file(fd, &st);
    fill_stat(&st, &reply->filed);
    if (rc == 0 && S_ISDIR(st.st_mode) && (file->flags & (SP_FILE_DIRECTORY | SP_FILE_ANY)) == 0) {
        rc = -EISDIR;
    }
    /* Only an ACL of the directory can have changed the mode. */
    if (rc == 0 && exclusive && (st.st_mode & 07777) != file->mode && fchmod(fd, (mode_t)file->mode) != 0) {
        rc = -errno;
    }
    reply->fd = rc == 0 ? sp_fd_steal(&fd) : -1;
    return rc;
}

static int stat_file(const struct sp_rec_file *file, const char *path, struct reply *reply) {
    struct stat st;
    int rc = (file->flags & SP_FILE_NOFOLLOW) != 0 ? lstat(path, &st) : stat(path, &st);
    if (rc != 0) {
        return -errno;
    }
    fill_stat(&st, &reply->filed);
    return 0;
}

static int read_link(const char *path, struct reply *reply) {
    ssize_t n = readlink(path, reply->text, sizeof reply->text);
    if (n < 0) {
        return -errno;
    }
    reply->filed.payload_len = (uint32_t)n;
    return (size_t)n < sizeof reply->text ? 0 : -ENAMETOOLONG;
}

static int operate(const struct sp_rec_file *file, const char *const paths[2], struct reply *reply) {
    int rc = 0;
    switch (file->op) {
    case SP_FILE_OPEN:
        return open_file(file, paths[0], reply);
    case SP_FILE_STAT:
        return stat_file(file, paths[0], reply);
    case SP_FILE_READLINK:
        return read_link(paths[0], reply);
    case SP_FILE_MKDIR:
        rc = mkdir(paths[0], (mode_t)file->mode);
        break;
    case SP_FILE_UNLINK:
        rc = unlink(paths[0]);
        break;
    case SP_FILE_RMDIR:
        rc = rmdir(paths[0]);
        break;
    case SP_FILE_RENAME:
        rc = rename(paths[0], paths[1]);
        break;
    case SP_FILE_SYMLINK:
        rc = symlink(paths[0], paths[1]);
        break;
    default:
        return -EINVAL;
    }
    return rc == 0 ? 0 : -errno;
}

static int send_reply(int sock, const struct reply *reply) {
    struct sp_record record = {.type = SP_REC_FILED, .u.filed = reply->filed};
    struct sp_outgoing out = {.record = &record,
                              .payload = reply->text,
                              .payload_len = reply->filed.payload_len,
                              .fds = &reply->fd,
                              .n_fds = reply->fd != -1 ? 1 : 0};
    return sp_packet_send(sock, &out, sp_now() + REPLY_TIMEOUT_NS);
}

/*
 * unix(7): the kernel compares the number of descriptors that this user has in flight, those of all tenants included,
 * with the soft limit of the sender. Tenants have a lower hard limit than init, so that they cannot keep the reply out.
 */
static int send_descriptor(int sock, const struct reply *reply) {
    struct rlimit before;
    if (getrlimit(RLIMIT_NOFILE, &before) != 0) {
        return -errno;
    }
    const struct rlimit raised = {.rlim_cur = before.rlim_max, .rlim_max = before.rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &raised);
    int rc = send_reply(sock, reply);
    (void)setrlimit(RLIMIT_NOFILE, &before);
    return rc;
}

int sp_file_serve(const struct sp_packet *packet, const char *payload) {
    const struct sp_rec_file *file = &packet->record.u.file;
    const char *paths[2];
    struct reply reply = {.fd = -1};
    if (!is_whole(packet) || take_paths(file, payload, paths) != 0) {
        return -EBADMSG;
    }
    int rc = operate(file, paths, &reply);
    reply.filed.err = (uint32_t)-rc;
    reply.filed.payload_len = rc == 0 ? reply.filed.payload_len : 0;
    /* A host that no longer waits has closed its end; then the reply is lost, which harms nobody. */
    rc = reply.fd != -1 ? send_descriptor(packet->fds[0], &reply) : send_reply(packet->fds[0], &reply);
    if (rc != 0 && reply.fd != -1) {
        sp_fd_close(&reply.fd);
        reply.filed = (struct sp_rec_filed){.err = (uint32_t)-rc};
        (void)send_reply(packet->fds[0], &reply);
    }
    sp_fd_close(&reply.fd);
    return 0;
}
