/*
 * Idmapped mounts: the owner of a bound directory appears in the sandbox as the one id that exists there, and files
 * that the sandbox creates in a writable one belong to the owner of the directory outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "init/files.h"
#include "zygote/zygote.h"

/* "/proc/<pid>/" + name */
static char *proc_file(char text[64], pid_t pid, const char *name) {
    char *end = text + 64;
    char *at = sp_append_number(sp_append(text, end, "/proc/"), end, (uint64_t)pid);
    (void)sp_append(sp_append(at, end, "/"), end, name);
    return text;
}

/* `owner` on the file system appears as `shown`. */
static int write_map(pid_t pid, const char *name, uint64_t owner, uint64_t shown) {
    char path[64];
    char text[64];
    const char *end = text + sizeof text;
    char *at = sp_append_number(text, end, owner);
    at = sp_append_number(sp_append(at, end, " "), end, shown);
    (void)sp_append(at, end, " 1\n");
    return sp_write_file(proc_file(path, pid, name), text);
}

/* A group that no process is in. It is not left out of the map: the kernel refuses every write to a file whose group is
 * not mapped, the connection to a socket file included. */
#define OTHER_GROUP (SP_UNPRIVILEGED_ID - 1)

/* Returns a descriptor of a new user namespace. The descriptor keeps the namespace alive; a process is needed only to
 * create the namespace and to write its maps. */
static int make_userns(const struct stat *owner, uint64_t shown_gid) {
    char path[64];
    long pid = syscall(SYS_clone, (unsigned long)CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0L);
    if (pid == -1) {
        return -errno;
    }
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    int rc = write_map((pid_t)pid, "uid_map", owner->st_uid, SP_UNPRIVILEGED_ID);
    rc = rc != 0 ? rc : write_map((pid_t)pid, "gid_map", owner->st_gid, shown_gid);
    if (rc == 0) {
        int fd = open(proc_file(path, (pid_t)pid, "ns/user"), O_RDONLY | O_CLOEXEC);
        rc = fd != -1 ? fd : -errno;
    }
    (void)kill((pid_t)pid, SIGKILL);
    (void)waitpid((pid_t)pid, NULL, 0);
    return rc;
}

/* A file system below that one cannot idmap the whole tree. Then only the top mount is idmapped, and what is mounted
 * below it keeps its owners. */
static int idmap(int tree, int userns) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)userns};
    const unsigned whole = AT_EMPTY_PATH | 0x8000u /* AT_RECURSIVE */;
    bool done = syscall(SYS_mount_setattr, tree, "", whole, &attr, sizeof attr) == 0 ||
                syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0;
    return done ? 0 : -errno;
}

int sp_zygote_idmap_tree(int tree, bool writable) {
    struct stat owner;
    if (fstat(tree, &owner) != 0) {
        return -errno;
    }
    if (owner.st_uid == SP_UNPRIVILEGED_ID && (!writable || owner.st_gid == SP_UNPRIVILEGED_ID)) {
        return 0;
    }
    /* Where a command can create files, it needs the directory's group. For reading it does not get the rights of that
     * group, because they may be rights to files of other owners. */
    sp_auto_fd int userns = make_userns(&owner, writable ? SP_UNPRIVILEGED_ID : OTHER_GROUP);
    return userns < 0 ? userns : idmap(tree, userns);
}
