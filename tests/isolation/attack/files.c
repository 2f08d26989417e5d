/* Files: the host's by any path, and what a bound directory can be turned into. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "probe.h"

static void path(char **args) { JUDGE(args[0], open(args[0], O_RDONLY)); }

static void parent_path(char **args) {
    char name[4096];
    snprintf(name, sizeof name, "../../../../../../../../../..%s", args[0]);
    JUDGE(name, open(name, O_RDONLY));
}

/* Calls try(pid directory, name) for every process in sight; it ends the program when it gets somewhere. */
static void each_process(void (*try)(const char *pid, const char *wanted), const char *wanted) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e = NULL; proc != NULL && (e = readdir(proc)) != NULL;) {
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && atoi(e->d_name) != getpid()) {
            try(e->d_name, wanted);
        }
    }
    held("no process gave it");
}

static void try_links(const char *pid, const char *secret) {
    static const char *const links[] = {"root", "cwd/../../../../../../../../.."};
    char name[4096];
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "/proc/%s/%s%s", pid, links[i], secret);
        if (open(name, O_RDONLY) != -1) {
            reached("%s", name);
        }
    }
}
static void process_root(char **args) { each_process(try_links, args[0]); }

static void try_environ(const char *pid, const char *secret) {
    char name[64];
    char text[65536];
    snprintf(name, sizeof name, "/proc/%s/environ", pid);
    int fd = open(name, O_RDONLY);
    ssize_t n = fd == -1 ? -1 : read(fd, text, sizeof text);
    if (n > 0 && memmem(text, (size_t)n, secret, strlen(secret)) != NULL) {
        reached("%s", name);
    }
    close(fd);
}
static void process_environ(char **args) { each_process(try_environ, args[0]); }

static void try_fds(const char *pid, const char *secret) {
    for (int fd = 0; fd < 64; fd++) {
        char name[64];
        char target[4096] = "";
        snprintf(name, sizeof name, "/proc/%s/fd/%d", pid, fd);
        if (readlink(name, target, sizeof target - 1) > 0 && strcmp(target, secret) == 0) {
            reached("%s", name);
        }
    }
}
static void process_fds(char **args) { each_process(try_fds, args[0]); }

static void inherited_fds(char **args) {
    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) == -1) {
            continue;
        }
        if (fd > 2) {
            reached("fd %d was left open", fd);
        }
        if (openat(fd, args[0][0] == '/' ? args[0] + 1 : args[0], O_RDONLY) != -1) {
            reached("openat(%d)", fd);
        }
    }
    held("only 0, 1 and 2");
}

static void keep_handle(char **args) {
    struct {
        struct file_handle handle;
        unsigned char bytes[128];
    } h = {.handle.handle_bytes = 128};
    int mount_id = 0;
    if (name_to_handle_at(AT_FDCWD, args[0], &h.handle, &mount_id, 0) != 0) {
        held("name_to_handle_at: %s", strerror(errno));
    }
    /* A descriptor of the same file system says where to look. */
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", args[0]);
    int at = open(dirname(folder), O_RDONLY | O_DIRECTORY);
    JUDGE("open_by_handle_at", open_by_handle_at(at, &h.handle, O_RDONLY));
}

static void make_device(char **args) {
    char name[4096];
    snprintf(name, sizeof name, "%s/device", args[0]);
    if (mknod(name, S_IFCHR | 0666, makedev(1, 3)) != 0) {
        held("mknod: %s", strerror(errno));
    }
    int fd = open(name, O_RDWR);
    int err = errno;
    unlink(name);
    errno = err;
    JUDGE("a new device node", fd);
}

/* A device node (0, 0): in the lower layer of an overlay it hides a file, and a host does not expect devices. */
static void leave_whiteout(char **args) {
    char from[4096];
    char to[4096];
    snprintf(from, sizeof from, "%s/from-%d", args[0], getpid());
    snprintf(to, sizeof to, "%s/to-%d", args[0], getpid());
    int fd = open(from, O_CREAT | O_RDWR, 0644);
    if (fd == -1) {
        held("create: %s", strerror(errno));
    }
    close(fd);
    struct stat st = {.st_mode = 0};
    long rc = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 4u /* RENAME_WHITEOUT */);
    int err = errno;
    bool is_device = lstat(from, &st) == 0 && S_ISCHR(st.st_mode);
    unlink(from);
    unlink(to);
    errno = rc == 0 && !is_device ? ENOENT : err;
    JUDGE("a whiteout", is_device ? 0 : -1);
}

/* The same node by its own call: it needs no capability since Linux 5.8. */
static void make_whiteout(char **args) {
    char name[4096];
    snprintf(name, sizeof name, "%s/whiteout-%d", args[0], getpid());
    int rc = mknod(name, S_IFCHR | 0666, makedev(0, 0));
    int err = errno;
    unlink(name);
    errno = err;
    JUDGE("a whiteout", rc);
}

static void open_device(char **args) {
    (void)args;
    static const char *const names[] = {"/dev/mem",     "/dev/kmsg", "/dev/vda",         "/dev/sda",
                                        "/dev/nvme0n1", "/dev/fuse", "/dev/kvm",         "/dev/net/tun",
                                        "/dev/console", "/dev/tty0", "/dev/loop-control"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (open(names[i], O_RDONLY | O_NOCTTY | O_NONBLOCK) != -1) {
            reached("%s", names[i]);
        }
    }
    held("none of them");
}

static void write_path(char **args) { JUDGE(args[0], open(args[0], O_WRONLY | O_NOFOLLOW)); }

static void create_in(char **args) {
    char name[4096];
    snprintf(name, sizeof name, "%s/made-by-%d", args[0], getpid());
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
    int err = errno;
    unlink(name);
    errno = err;
    JUDGE(name, fd);
}

static void change_mode(char **args) { JUDGE(args[0], chmod(args[0], 0666)); }

/* A name in the writable directory for a file of the read-only one. */
static void link_across(char **args) {
    char name[4096];
    snprintf(name, sizeof name, "%s/linked-%d", args[1], getpid());
    int rc = link(args[0], name);
    int fd = rc == 0 ? open(name, O_WRONLY) : -1;
    int err = errno;
    unlink(name);
    errno = err;
    JUDGE("written through a hard link", fd);
}

static void rename_across(char **args) {
    char name[4096];
    snprintf(name, sizeof name, "%s/renamed-%d", args[1], getpid());
    int rc = rename(args[0], name);
    int err = errno;
    if (rc == 0) {
        rc = rename(name, args[0]);
    }
    errno = err;
    JUDGE("moved out of the read-only directory", rc);
}

static void symlink_out(char **args) {
    char name[4096];
    snprintf(name, sizeof name, "%s/symlink-%d", args[1], getpid());
    int rc = symlink(args[0], name);
    int fd = rc == 0 ? open(name, O_RDONLY) : -1;
    int err = errno;
    unlink(name);
    errno = err;
    JUDGE("opened through a symlink", fd);
}

static void write_fifo(char **args) { JUDGE(args[0], open(args[0], O_RDWR | O_NONBLOCK)); }

static void keep_in_use(char **args) { JUDGE(args[0], open(args[0], O_PATH)); }

static void plant_setuid(char **args) {
    char name[4096];
    struct stat st = {0};
    snprintf(name, sizeof name, "%s/setuid-%d", args[0], getpid());
    int fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0700);
    int rc = fd == -1 ? -1 : fchmod(fd, 04755);
    int err = errno;
    (void)fstat(fd, &st);
    unlink(name);
    errno = err;
    if (rc == 0 && (st.st_mode & S_ISUID) != 0) {
        reached("a setuid program of uid %u in the host's directory", st.st_uid);
    }
    held("fchmod: %s", strerror(err));
}

/* A write takes the bit away, a shared mapping does not. */
static void rewrite_set_id(char **args) {
    struct stat st = {0};
    int fd = open(args[0], O_RDWR);
    char *text = fd == -1 ? MAP_FAILED : mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (text == MAP_FAILED) {
        held("%s: %s", args[0], strerror(errno));
    }
    *text = '#';
    (void)fstat(fd, &st);
    if ((st.st_mode & S_ISUID) != 0) {
        reached("a setuid program of uid %u is what the tenant wrote", st.st_uid);
    }
    held("the bit is gone");
}

/* The file is gain.c, setuid and root's, or with CAP_NET_RAW: what does a start of it bring? */
static void exec_gaining(char **args) {
    execl(args[0], args[0], (char *)NULL);
    held("exec: %s", strerror(errno));
}

static void take_lease(char **args) {
    signal(SIGIO, SIG_IGN);
    int fd = open(args[0], O_RDONLY);
    JUDGE("open() of it on the host now waits", fd == -1 ? -1 : fcntl(fd, F_SETLEASE, F_WRLCK));
}

/* Sees, with names, what the host and other tenants open there. */
static void watch_dir(char **args) {
    int fd = inotify_init();
    JUDGE(args[0], fd == -1 ? -1 : inotify_add_watch(fd, args[0], IN_OPEN));
}

/* Of a file that belongs to the user. */
static void set_times(char **args) { JUDGE(args[0], utimensat(AT_FDCWD, args[0], NULL, 0)); }

static void set_attribute(char **args) { JUDGE(args[0], setxattr(args[0], "user.sandpool", "x", 1, 0)); }

/* The control gives it one itself. Inside, the one of the control is there. */
static void read_attribute(char **args) {
    char text[16];
    (void)setxattr(args[0], "user.sandpool", "x", 1, 0);
    JUDGE(args[0], getxattr(args[0], "user.sandpool", text, sizeof text));
}

static void list_attributes(char **args) {
    char names[1024];
    (void)setxattr(args[0], "user.sandpool", "x", 1, 0);
    JUDGE(args[0], listxattr(args[0], names, sizeof names));
}

static void read_link(char **args) {
    char text[4096];
    JUDGE("where it leads", readlink(args[0], text, sizeof text));
}

static void change_owner(char **args) { JUDGE(args[0], chown(args[0], getuid(), getgid())); }

static void cut(char **args) { JUDGE(args[0], truncate(args[0], 0)); }

/* open(2): O_RDONLY | O_TRUNC is unspecified, and truncates on Linux. */
static void cut_by_open(char **args) { JUDGE(args[0], open(args[0], O_RDONLY | O_TRUNC)); }

static void names_of(char **args) {
    struct stat st;
    JUDGE("its size, owner and times", stat(args[0], &st));
}

PROBES({"set-times", set_times}, {"set-attribute", set_attribute}, {"read-attribute", read_attribute},
       {"list-attributes", list_attributes}, {"read-link", read_link}, {"change-owner", change_owner}, {"cut", cut},
       {"cut-by-open", cut_by_open}, {"stat", names_of}, {"path", path}, {"parent-path", parent_path},
       {"process-root", process_root}, {"process-environ", process_environ}, {"process-fds", process_fds},
       {"inherited-fds", inherited_fds}, {"handle", keep_handle}, {"make-device", make_device},
       {"leave-whiteout", leave_whiteout}, {"make-whiteout", make_whiteout}, {"open-device", open_device},
       {"write", write_path}, {"create", create_in}, {"chmod", change_mode}, {"link", link_across},
       {"rename", rename_across}, {"symlink", symlink_out}, {"fifo", write_fifo}, {"plant-setuid", plant_setuid},
       {"keep-in-use", keep_in_use}, {"rewrite-set-id", rewrite_set_id}, {"exec-gaining", exec_gaining},
       {"lease", take_lease}, {"watch", watch_dir})
