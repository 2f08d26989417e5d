/* What one tenant leaves for the next: `leave CHANNEL` marks, `find CHANNEL` looks for the mark. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "probe.h"

#define KEY 0x53504f4c
#define MARK 42

struct channel {
    const char *name;
    long (*leave)(void);
    int (*find)(void);
};

static long leave_tmp(void) { return open("/tmp/left", O_CREAT | O_WRONLY, 0666); }
static int find_tmp(void) { return access("/tmp/left", F_OK) == 0; }
static long leave_dev_shm(void) { return open("/dev/shm/left", O_CREAT | O_WRONLY, 0666); }
static int find_dev_shm(void) { return access("/dev/shm/left", F_OK) == 0; }
static long leave_sysv_shm(void) { return shmget(KEY, 4096, IPC_CREAT | 0666); }
static int find_sysv_shm(void) { return shmget(KEY, 0, 0) != -1; }
static long leave_sysv_sem(void) { return semget(KEY, 1, IPC_CREAT | 0666); }
static int find_sysv_sem(void) { return semget(KEY, 0, 0) != -1; }
static long leave_sysv_msg(void) { return msgget(KEY, IPC_CREAT | 0666); }
static int find_sysv_msg(void) { return msgget(KEY, 0) != -1; }

/* fd 0 is /dev/null when there is no input: are the flags of its open file anybody else's? */
static long leave_stdin_signal(void) { return fcntl(0, F_SETSIG, MARK); }
static int find_stdin_signal(void) { return fcntl(0, F_GETSIG) == MARK; }
static long leave_stdin_flags(void) { return fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK | O_APPEND); }
static int find_stdin_flags(void) { return (fcntl(0, F_GETFL) & O_APPEND) != 0; }

/*
 * Pairs that are under way in themselves: nothing but the kernel's collector, which comes late, ends them. SO_PASSCRED
 * gives each a name of its own.
 */
static long leave_sockets(void) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {.header = {CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec io = {(char[]){'x'}, 1};
    struct msghdr message = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const int on = 1;
    int pair[2];
    long n = 0;
    for (; n < 400 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0; n++) {
        setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
        memcpy(CMSG_DATA(&control.header), pair, sizeof pair);
        if (sendmsg(pair[0], &message, MSG_DONTWAIT) != 1) {
            break;
        }
        close(pair[0]);
        close(pair[1]);
    }
    return n == 400 ? n : -1;
}

/* A listener that waits in the queue of a connection which nobody has accepted: reached by no descriptor. */
static long leave_listeners(void) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {.header = {CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec io = {(char[]){'x'}, 1};
    struct msghdr message = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    long n = 0;
    for (; n < 200; n++) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        socklen_t len = sizeof name.sun_family; /* the kernel chooses an abstract name */
        int ends[2] = {socket(AF_UNIX, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_STREAM, 0)};
        if (bind(ends[0], (struct sockaddr *)&name, len) != 0 || listen(ends[0], 4) != 0 ||
            getsockname(ends[0], (struct sockaddr *)&name, (len = sizeof name, &len)) != 0 ||
            connect(ends[1], (struct sockaddr *)&name, len) != 0) {
            break;
        }
        memcpy(CMSG_DATA(&control.header), ends, sizeof ends);
        if (sendmsg(ends[1], &message, MSG_DONTWAIT) != 1) {
            break;
        }
        close(ends[0]);
        close(ends[1]);
    }
    return n == 200 ? n : -1;
}

static int find_sockets(void) {
    char line[256];
    int lines = 0;
    FILE *list = fopen("/proc/self/net/unix", "re");
    while (list != NULL && fgets(line, sizeof line, list) != NULL) {
        lines++;
    }
    return lines > 1; /* the first is the heading */
}

static const struct channel channels[] = {
    {"tmp", leave_tmp, find_tmp},
    {"dev-shm", leave_dev_shm, find_dev_shm},
    {"sysv-shm", leave_sysv_shm, find_sysv_shm},
    {"sysv-sem", leave_sysv_sem, find_sysv_sem},
    {"sysv-msg", leave_sysv_msg, find_sysv_msg},
    {"stdin-signal", leave_stdin_signal, find_stdin_signal},
    {"stdin-flags", leave_stdin_flags, find_stdin_flags},
    {"sockets", leave_sockets, find_sockets},
    {"listeners", leave_listeners, find_sockets},
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 3 && i < sizeof channels / sizeof channels[0]; i++) {
        if (strcmp(argv[2], channels[i].name) == 0) {
            if (strcmp(argv[1], "leave") == 0) {
                JUDGE("left", channels[i].leave());
            }
            if (channels[i].find()) {
                reached("found");
            }
            held("nothing there");
        }
    }
    return 2;
}
