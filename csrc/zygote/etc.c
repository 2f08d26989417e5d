/*
 * The files of /etc that are made up: the sandbox's user and group, its own name, and where names are looked up. With a
 * rootfs they are laid over its /etc. The user and group come before those of the rootfs, so that uid 1000 is always
 * "sandbox"; names of others can still be found.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/stage.h"
#include "init/files.h"
#include "zygote/zygote.h"

#define LAID "/laid" /* what is laid over the /etc of a rootfs; it lies beside /old and /new */
/* With an address of its own the name is found for that address, too, and not "localhost". */
#define OWN_NAME "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 sandbox\n"
#define MAX_APPENDED (1 << 20)

/* Of which file of which tree the text is continued, if at all. */
enum more { NOTHING, ROOTFS, HOST };

struct made_up {
    const char *name;
    const char *text;
    enum more more;
};

static const struct made_up passwd = {
    "passwd", "sandbox:x:1000:1000:sandbox:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", ROOTFS};
static const struct made_up group = {"group", "sandbox:x:1000:\nnogroup:x:65534:\n", ROOTFS};
static const struct made_up nsswitch = {
    "nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n", NOTHING};
static const struct made_up hosts = {"hosts", OWN_NAME, NOTHING};
/* In the host's network names mean what they mean there. */
static const struct made_up host_hosts = {"hosts", OWN_NAME, HOST};
static const struct made_up host_nsswitch = {"nsswitch.conf", "", HOST};
static const struct made_up host_resolv = {"resolv.conf", "", HOST};

/* Opens a file of the tree at `root`, which may be a link in it; -1 unless it is a regular file of bounded size. */
static int open_file(const char *root, const char *name, off_t most) {
    char path[64] = "etc/";
    struct stat st;
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    (void)sp_append(path + strlen(path), path + sizeof path, name);
    sp_auto_fd int tree = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    sp_auto_fd int file = tree == -1 ? -1 : (int)syscall(SYS_openat2, tree, path, &how, sizeof how);
    bool usable = file != -1 && fstat(file, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= most;
    return usable ? sp_fd_steal(&file) : -1;
}

static int append_file(int out, int more) {
    ssize_t n = 1;
    while (more != -1 && (n = sendfile(out, more, NULL, 1 << 20)) > 0) {
    }
    return n >= 0 ? 0 : -errno;
}

static int write_text(int out, const char *text) {
    for (size_t left = strlen(text); left != 0;) { /* again after a short write, for the reason of it */
        ssize_t n = write(out, text, left);
        if (n < 0) {
            return -errno;
        }
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static int write_made_up(int dir, const struct made_up *file, struct sp_rec_failed *why) {
    const char *tree = file->more == HOST ? "/old" : "/new";
    sp_auto_fd int more = file->more == NOTHING ? -1 : open_file(tree, file->name, MAX_APPENDED);
    if (file->text[0] == '\0' && more == -1) {
        return 0;
    }
    sp_auto_fd int out = openat(dir, file->name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    int rc = out == -1 ? -errno : write_text(out, file->text);
    rc = rc != 0 ? rc : append_file(out, more);
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_ROOT, -rc, file->name);
}

static int write_all(int dir, const struct sp_plan *plan, struct sp_rec_failed *why) {
    bool of_host = (plan->config.flags & SP_CONFIG_NET_HOST) != 0;
    bool host_switch = of_host && plan->rootfs == NULL; /* the modules that it names are the host's */
    const struct made_up *const files[] = {&passwd, &group, of_host ? &host_hosts : &hosts,
                                           host_switch ? &host_nsswitch : &nsswitch, of_host ? &host_resolv : NULL};
    int rc = dir == -1 ? sp_failed(why, SP_STAGE_ROOT, errno, "/etc") : 0;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && rc == 0; i++) {
        rc = files[i] != NULL ? write_made_up(dir, files[i], why) : 0;
    }
    return rc;
}

int sp_zygote_make_etc(const struct sp_plan *plan, struct sp_rec_failed *why) {
    sp_auto_fd int dir = open("/new/etc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return write_all(dir, plan, why);
}

/* Where the kernel lets no user mount an overlay (before Linux 5.11), only files that exist can be covered. */
static int cover_files(void) {
    static const char *const names[] = {"passwd", "group", "hosts", "nsswitch.conf", "resolv.conf"};
    int rc = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && rc == 0; i++) {
        char source[64];
        char target[64];
        struct stat st;
        (void)sp_append(sp_append(source, source + sizeof source, LAID "/"), source + sizeof source, names[i]);
        (void)sp_append(sp_append(target, target + sizeof target, "/new/etc/"), target + sizeof target, names[i]);
        if (access(source, F_OK) == 0 && lstat(target, &st) == 0 && S_ISREG(st.st_mode)) {
            rc = sp_bind(source, target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        }
    }
    return rc;
}

int sp_zygote_lay_etc(const struct sp_plan *plan, struct sp_rec_failed *why) {
    struct stat st;
    if (lstat("/new/etc", &st) != 0 || !S_ISDIR(st.st_mode)) {
        return 0; /* nothing is created in a directory of the host, and a link may lead anywhere */
    }
    if (mkdir(LAID, 0755) != 0) {
        return sp_failed(why, SP_STAGE_ROOTFS, errno, LAID);
    }
    sp_auto_fd int dir = open(LAID, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = write_all(dir, plan, why);
    if (rc != 0) {
        return rc;
    }
    const char *options = "lowerdir=" LAID ":/new/etc";
    if (mount("overlay", "/new/etc", "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, options) == 0) {
        return 0;
    }
    rc = cover_files();
    return rc == 0 ? 0 : sp_failed(why, SP_STAGE_ROOTFS, -rc, "/etc");
}
