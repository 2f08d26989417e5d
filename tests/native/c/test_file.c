/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/init/file.c */
/* Each file operation of init, with the reply that comes over its socket. */
#include "init/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "machine.h"
#include "nth.h"

static char payload[2 * SP_FILE_PATH_MAX + 1];
static char text[SP_FILE_PATH_MAX];

/* Performs one operation. The packet's descriptor, if it brings one, is the caller's. */
static struct sp_packet perform(const struct sp_rec_file *file, const char *path, const char *second) {
    struct sp_packet request = {.record = {.type = SP_REC_FILE, .u.file = *file}, .n_fds = 1};
    struct sp_packet reply;
    int pair[2];
    size_t len = strlen(path) + 1;

    memcpy(payload, path, len);
    if (second != NULL) {
        memcpy(payload + len, second, strlen(second) + 1);
        len += strlen(second) + 1;
    }
    make_pair(pair);
    request.record.u.file.payload_len = (uint32_t)len;
    request.payload_len = len;
    request.fds[0] = pair[1];
    CHECK(sp_file_serve(&request, payload) == 0);
    CHECK(sp_packet_recv(pair[0], &reply, text, sizeof text) == 0 && reply.record.type == SP_REC_FILED);
    CHECK(reply.payload_len == reply.record.u.filed.payload_len);
    sp_fd_close(&pair[0]);
    sp_fd_close(&pair[1]);
    return reply;
}

static int fails(uint32_t op, uint32_t flags, const char *path) {
    struct sp_packet reply = perform(&(struct sp_rec_file){.op = op, .flags = flags}, path, NULL);
    int err = (int)reply.record.u.filed.err;

    CHECK(reply.n_fds == (op == SP_FILE_OPEN && err == 0));
    sp_packet_close(&reply);
    return err;
}

static int fails_with_two(uint32_t op, const char *path, const char *second) {
    return (int)perform(&(struct sp_rec_file){.op = op}, path, second).record.u.filed.err;
}

static void write_text(const char *path, const char *what) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK(fd != -1 && write(fd, what, strlen(what)) == (ssize_t)strlen(what));
    sp_fd_close(&fd);
}

static void a_regular_file_is_opened(void) {
    char bytes[8] = {0};

    write_text("plain", "words");
    struct sp_packet reply = perform(&(struct sp_rec_file){.op = SP_FILE_OPEN, .flags = SP_FILE_READ}, "plain", NULL);
    CHECK(reply.n_fds == 1 && reply.record.u.filed.err == 0 && reply.record.u.filed.size == 5);
    CHECK(S_ISREG(reply.record.u.filed.mode) && reply.record.u.filed.modified_ns > 0);
    CHECK(read(reply.fds[0], bytes, sizeof bytes) == 5 && memcmp(bytes, "words", 5) == 0);
    CHECK(write(reply.fds[0], "x", 1) == -1 && errno == EBADF);
    CHECK((fcntl(reply.fds[0], F_GETFD) & FD_CLOEXEC) != 0);
    sp_packet_close(&reply);
}

static void a_new_file_gets_just_its_mode(void) {
    const struct sp_rec_file file = {
        .op = SP_FILE_OPEN, .flags = SP_FILE_WRITE | SP_FILE_CREATE | SP_FILE_EXCLUSIVE, .mode = 0766};
    struct stat st;
    struct sp_packet reply = perform(&file, "new", NULL);

    CHECK(reply.n_fds == 1 && write(reply.fds[0], "x", 1) == 1);
    CHECK(stat("new", &st) == 0 && (st.st_mode & 07777) == 0766);
    sp_packet_close(&reply);
    CHECK(fails(SP_FILE_OPEN, file.flags, "new") == EEXIST);
}

static void truncate_and_append_are_passed_on(void) {
    struct stat st;

    write_text("plain", "words");
    CHECK(fails(SP_FILE_OPEN, SP_FILE_WRITE | SP_FILE_TRUNCATE, "plain") == 0);
    CHECK(stat("plain", &st) == 0 && st.st_size == 0);
    struct sp_packet reply =
        perform(&(struct sp_rec_file){.op = SP_FILE_OPEN, .flags = SP_FILE_WRITE | SP_FILE_READ | SP_FILE_APPEND},
                "plain", NULL);
    CHECK((fcntl(reply.fds[0], F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_RDWR));
    sp_packet_close(&reply);
}

/* None of these waits, and none hands a descriptor over. */
static void special_files_are_refused(void) {
    CHECK(mkfifo("fifo", 0600) == 0 && symlink("/dev/zero", "to_zero") == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "fifo") == EINVAL);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_WRITE, "fifo") == ENXIO);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_WRITE, "fifo") == EINVAL);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "/dev/zero") == EINVAL);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_WRITE, "to_zero") == EINVAL);
    CHECK(S_ISFIFO(perform(&(struct sp_rec_file){.op = SP_FILE_OPEN}, "fifo", NULL).record.u.filed.mode));
}

static void files_of_proc_are_refused(void) {
    static const char *const paths[] = {"/proc/self/mem", "/proc/self/environ", "/proc/1/status", "/proc"};

    CHECK(symlink("/proc/self/mem", "to_mem") == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_WRITE, "to_mem") == EACCES);
    for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_ANY, paths[i]) == EACCES);
    }
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "/proc/self/exe") == ELOOP); /* a magic link */
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "/proc/self/ns/mnt") == ELOOP);
}

static void directories_are_opened_where_allowed(void) {
    CHECK(mkdir("directory", 0700) == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "directory") == EISDIR);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_WRITE, "directory") == EISDIR);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_DIRECTORY, "directory") == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_ANY, "directory") == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_ANY, "plain") == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_DIRECTORY, "plain") == ENOTDIR);
}

static void links_are_read_and_not_followed_on_request(void) {
    CHECK(fails_with_two(SP_FILE_SYMLINK, "plain", "link") == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "link") == 0);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ | SP_FILE_NOFOLLOW, "link") == ELOOP);
    struct sp_packet reply = perform(&(struct sp_rec_file){.op = SP_FILE_READLINK}, "link", NULL);
    CHECK(reply.record.u.filed.err == 0 && reply.payload_len == 5 && memcmp(text, "plain", 5) == 0);
    CHECK(fails(SP_FILE_READLINK, 0, "plain") == EINVAL);
    reply = perform(&(struct sp_rec_file){.op = SP_FILE_STAT, .flags = SP_FILE_NOFOLLOW}, "link", NULL);
    CHECK(S_ISLNK(reply.record.u.filed.mode));
    reply = perform(&(struct sp_rec_file){.op = SP_FILE_STAT}, "link", NULL);
    CHECK(S_ISREG(reply.record.u.filed.mode) && reply.record.u.filed.uid == getuid());
}

static void names_are_made_moved_and_removed(void) {
    CHECK(perform(&(struct sp_rec_file){.op = SP_FILE_MKDIR, .mode = 0700}, "made", NULL).record.u.filed.err == 0);
    CHECK(fails(SP_FILE_MKDIR, 0, "made") == EEXIST && fails(SP_FILE_MKDIR, 0, "no/made") == ENOENT);
    CHECK(fails_with_two(SP_FILE_RENAME, "plain", "made/moved") == 0);
    CHECK(fails(SP_FILE_STAT, 0, "plain") == ENOENT && fails(SP_FILE_STAT, 0, "made/moved") == 0);
    CHECK(fails(SP_FILE_RMDIR, 0, "made") == ENOTEMPTY && fails(SP_FILE_UNLINK, 0, "made") == EISDIR);
    CHECK(fails(SP_FILE_UNLINK, 0, "made/moved") == 0 && fails(SP_FILE_RMDIR, 0, "made") == 0);
}

static void no_descriptor_is_left_and_the_limit_is_as_before(void) {
    struct rlimit before;
    struct rlimit after;
    unsigned fds = count_fds();

    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    write_text("plain", "words");
    for (unsigned i = 0; i < 50; i++) {
        CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "plain") == 0 && fails(SP_FILE_OPEN, SP_FILE_READ, "fifo") == EINVAL);
    }
    CHECK(getrlimit(RLIMIT_NOFILE, &after) == 0 && before.rlim_cur == after.rlim_cur);
    CHECK(count_fds() == fds);
}

/* The host gave up and closed its end. */
static void a_reply_that_nobody_takes_is_lost(void) {
    struct sp_packet request = {
        .record = {.type = SP_REC_FILE, .u.file = {.op = SP_FILE_OPEN, .flags = SP_FILE_READ, .payload_len = 6}},
        .payload_len = 6,
        .n_fds = 1};
    unsigned fds = count_fds();
    int pair[2];

    make_pair(pair);
    request.fds[0] = pair[1];
    sp_fd_close(&pair[0]);
    CHECK(sp_file_serve(&request, "plain") == 0);
    sp_fd_close(&pair[1]);
    CHECK(count_fds() == fds);
}

/* ---- calls that are refused ---- */

static int openat2_error;

static void open_without_openat2(void) {
    refuse_nth(SYS_openat2, openat2_error, 1);
    CHECK(fails(SP_FILE_OPEN, SP_FILE_READ, "plain") ==
          (openat2_error == ENOSYS || openat2_error == EPERM ? 0 : openat2_error));
}

static void a_filter_may_refuse_openat2(void) {
    static const int errors[] = {ENOSYS, EPERM, EMFILE};
    write_text("plain", "words");
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        openat2_error = errors[i];
        CHECK(in_child(open_without_openat2, 10) == 0);
    }
}

static void nothing(void) {}
static int open_plain(void) { return -fails(SP_FILE_OPEN, SP_FILE_READ, "plain"); }

static void what_is_refused_is_reported(void) {
    const struct sweep sweep = {.prepare = nothing, .act = open_plain, .err = ENOMEM};
    CHECK(count_fatal(&sweep, SYS_openat2) == 1 && count_fatal(&sweep, SYS_newfstatat) == 1);
    CHECK(count_fatal(&sweep, SYS_fstatfs) == 1 && count_fatal(&sweep, SYS_prlimit64) == 1);
}

/* An ACL of the directory that leaves a new file no more than 0600. */
static void have_acl(void) {
    struct {
        uint32_t version;
        struct {
            uint16_t tag, perm;
            uint32_t id;
        } entries[3];
    } acl = {2, {{0x01, 6, UINT32_MAX}, {0x04, 0, UINT32_MAX}, {0x20, 0, UINT32_MAX}}};
    CHECK(setxattr("closing", "system.posix_acl_default", &acl, sizeof acl, 0) == 0);
}

static int create_in_acl(void) {
    const struct sp_rec_file file = {
        .op = SP_FILE_OPEN, .flags = SP_FILE_WRITE | SP_FILE_CREATE | SP_FILE_EXCLUSIVE, .mode = 0644};
    struct stat st;
    struct sp_packet reply = perform(&file, "closing/new", NULL);
    const int err = (int)reply.record.u.filed.err;
    CHECK(reply.n_fds == (err == 0) && (err != 0 || (fstat(reply.fds[0], &st) == 0 && (st.st_mode & 07777) == 0644)));
    sp_packet_close(&reply);
    CHECK(unlink("closing/new") == 0);
    return -err;
}

static void a_mode_that_cannot_be_set_is_reported(void) {
    const struct sweep sweep = {.prepare = have_acl, .act = create_in_acl, .err = EPERM};
    CHECK(mkdir("closing", 0755) == 0);
    CHECK(count_fatal(&sweep, SYS_fchmod) == 1);
    CHECK(rmdir("closing") == 0);
}

static void a_descriptor_that_is_closed_is_no_file(void) {
    struct stat st;
    CHECK(sp_fd_check_file(-1, &st) == -EBADF);
}

static void an_unknown_operation_is_refused(void) { CHECK(fails(SP_FILE_OP_END, 0, "plain") == EINVAL); }

static int malformed(uint32_t op, const char *bytes, size_t len, size_t announced, unsigned n_fds) {
    struct sp_packet request = {
        .record = {.type = SP_REC_FILE, .u.file = {.op = op, .payload_len = (uint32_t)announced}},
        .fds = {-1, -1, -1},
        .payload_len = len,
        .n_fds = n_fds};

    return sp_file_serve(&request, bytes) == -EBADMSG;
}

static void malformed_requests_are_refused(void) {
    CHECK(malformed(SP_FILE_STAT, "a\0b", 4, 4, 1)); /* one path too many */
    CHECK(malformed(SP_FILE_RENAME, "ab", 3, 3, 1)); /* one too few */
    CHECK(malformed(SP_FILE_STAT, "ab", 2, 2, 1));   /* no end */
    CHECK(malformed(SP_FILE_STAT, "ab", 3, 4, 1) && malformed(SP_FILE_STAT, "ab", 3, 2, 1));
    CHECK(malformed(SP_FILE_STAT, "ab", 3, 3, 0) && malformed(SP_FILE_STAT, "ab", 3, 3, 2));
}

int main(void) {
    char folder[] = "/tmp/sandpool-file-XXXXXX";

    check_deadline(60);
    (void)umask(022);
    if (mkdtemp(folder) == NULL || chdir(folder) != 0) {
        return EXIT_FAILURE;
    }
    RUN(a_regular_file_is_opened);
    RUN(a_new_file_gets_just_its_mode);
    RUN(truncate_and_append_are_passed_on);
    RUN(special_files_are_refused);
    RUN(files_of_proc_are_refused);
    RUN(directories_are_opened_where_allowed);
    RUN(links_are_read_and_not_followed_on_request);
    RUN(names_are_made_moved_and_removed);
    RUN(no_descriptor_is_left_and_the_limit_is_as_before);
    RUN(a_reply_that_nobody_takes_is_lost);
    RUN(malformed_requests_are_refused);
    RUN(a_filter_may_refuse_openat2);
    RUN(what_is_refused_is_reported);
    RUN(a_mode_that_cannot_be_set_is_reported);
    RUN(an_unknown_operation_is_refused);
    RUN(a_descriptor_that_is_closed_is_no_file);
    static const char *const left[] = {"plain", "new", "fifo", "to_zero", "to_mem", "link"};
    for (unsigned i = 0; i < sizeof left / sizeof left[0]; i++) {
        CHECK(unlink(left[i]) == 0);
    }
    return rmdir("directory") == 0 && chdir("/") == 0 && rmdir(folder) == 0 ? check_report() : EXIT_FAILURE;
}
