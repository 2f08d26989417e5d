/* Limits: takes as much as was asked for, and no more, and tells whether it got it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "hoard.h"

static void processes(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    pid_t pid = 0;
    setpgid(0, 0);
    while (n < wanted && (pid = fork()) > 0) {
        n++;
    }
    if (pid == 0 && n < wanted) {
        pause();
    }
    int err = errno;
    if (n == wanted) {
        settle(args[1]); /* where init counts them, it does so at intervals */
    }
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    errno = err;
    count("processes", n, wanted);
}

static void memory(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    for (; n < wanted; n++) {
        char *page = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) {
            break;
        }
        memset(page, 1, MIB);
    }
    settle(args[1]);
    count("MiB of private memory", n, wanted);
}

static void shared_memory(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    for (; n < wanted; n += 4) {
        int fd = memfd_create("hoard", 0);
        char *page = fd == -1 || ftruncate(fd, 4 * MIB) != 0
                         ? MAP_FAILED
                         : mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED) {
            break;
        }
        memset(page, 1, 4 * MIB);
    }
    settle(args[1]);
    count("MiB of memfds", n, wanted);
}

static void socket_buffers(char **args) {
    long wanted = atol(args[0]) * MIB;
    long n = 0;
    static char bytes[4096];
    int pair[2];
    while (n < wanted && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
        ssize_t put;
        while ((put = send(pair[0], bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
            n += put;
        }
    }
    settle(args[1]);
    count("MiB in socket buffers", n / MIB, wanted / MIB);
}

/* A socket with a name that the kernel chooses; -1: not to be had. */
static int bind_one(int type, struct sockaddr_un *name, socklen_t *len) {
    int fd = socket(AF_UNIX, type, 0);
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    *len = sizeof *name;
    bool done = fd != -1 && bind(fd, (struct sockaddr *)name, sizeof name->sun_family) == 0 &&
                getsockname(fd, (struct sockaddr *)name, len) == 0;
    return done ? fd : -1;
}

static int connect_one(int type, const struct sockaddr_un *name, socklen_t len) {
    int fd = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
    return fd != -1 && connect(fd, (const struct sockaddr *)name, len) == 0 ? fd : -1;
}

/* The client's end is closed: what it has sent stays in the queue of a connection that only the listener knows. */
static void backlog(char **args) {
    static char bytes[4096];
    struct sockaddr_un name;
    socklen_t len;
    long wanted = atol(args[0]) * MIB;
    long n = 0;
    int fd;
    for (int listener; n < wanted && (listener = bind_one(SOCK_STREAM, &name, &len)) != -1;) {
        (void)listen(listener, 64);
        for (ssize_t put; n < wanted && (fd = connect_one(SOCK_STREAM, &name, len)) != -1; close(fd)) {
            while ((put = send(fd, bytes, sizeof bytes, MSG_NOSIGNAL)) > 0) {
                n += put;
            }
        }
    }
    settle_with(n, args[1]);
    count("MiB in connections", n / MIB, wanted / MIB);
}

/* Each sender leaves two messages, and is closed. */
static void datagrams(char **args) {
    static char bytes[212900];
    struct sockaddr_un name;
    socklen_t len;
    long wanted = atol(args[0]) * MIB;
    long n = 0;
    int fd;
    for (int to; n < wanted && (to = bind_one(SOCK_DGRAM, &name, &len)) != -1;) {
        for (ssize_t put = 1; n < wanted && put > 0 && (fd = connect_one(SOCK_DGRAM, &name, len)) != -1; close(fd)) {
            n += (put = send(fd, bytes, 100000, 0)) > 0 ? put : 0;
            n += (put = send(fd, bytes, sizeof bytes, 0)) > 0 ? put : 0;
        }
    }
    settle_with(n, args[1]);
    count("MiB in datagrams", n / MIB, wanted / MIB);
}

static void pipe_buffers(char **args) {
    long wanted = atol(args[0]) * MIB;
    long n = 0;
    static char bytes[4096];
    int ends[2];
    raise_descriptors();
    while (n < wanted && pipe2(ends, O_NONBLOCK) == 0) {
        ssize_t put;
        while ((put = write(ends[1], bytes, sizeof bytes)) > 0) {
            n += put;
        }
        close(ends[1]);
    }
    settle(args[1]);
    count("MiB in pipes", n / MIB, wanted / MIB);
}

static void messages(char **args) {
    long wanted = atol(args[0]) * MIB;
    long n = 0;
    struct {
        long type;
        char text[4000];
    } message = {.type = 1};
    int queue;
    while (n < wanted && (queue = msgget(IPC_PRIVATE, 0600)) != -1) {
        while (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0) {
            n += (long)sizeof message.text;
        }
    }
    settle(args[1]);
    int err = errno;
    struct msqid_ds ignored;
    for (int i = msgctl(0, 12 /* MSG_INFO */, &ignored); i >= 0; i--) { /* the control's are the host's: none stays */
        queue = msgctl(i, MSG_STAT, &ignored);
        if (queue != -1 && ignored.msg_lspid == getpid()) {
            (void)msgctl(queue, IPC_RMID, NULL);
        }
    }
    errno = err;
    count("MiB in messages", n / MIB, wanted / MIB);
}

static void disk(char **args) {
    char name[4096];
    long wanted = atol(args[1]);
    long n = 0;
    static char bytes[MIB];
    for (; n < wanted; n++) {
        snprintf(name, sizeof name, "%s/hoard-%ld", args[0], n);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        if (fd == -1 || write(fd, bytes, MIB) != MIB) {
            break;
        }
        close(fd);
    }
    int err = errno;
    for (long i = 0; i <= n; i++) {
        snprintf(name, sizeof name, "%s/hoard-%ld", args[0], i);
        unlink(name);
    }
    errno = err;
    count("MiB of files", n, wanted);
}

static void inodes(char **args) {
    char name[4096];
    long wanted = atol(args[1]);
    long n = 0;
    for (; n < wanted; n++) {
        snprintf(name, sizeof name, "%s/inode-%ld", args[0], n);
        if (mknod(name, S_IFREG | 0600, 0) != 0) {
            break;
        }
    }
    int err = errno;
    for (long i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s/inode-%ld", args[0], i);
        unlink(name);
    }
    errno = err;
    count("inodes", n, wanted);
}

static void descriptors(char **args) {
    long wanted = atol(args[0]);
    raise_descriptors();
    long n = 0;
    while (n < wanted && dup(0) != -1) {
        n++;
    }
    count("descriptors", n, wanted);
}

static void locked(char **args) {
    long wanted = atol(args[0]);
    char *page = mmap(NULL, (size_t)wanted * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    JUDGE("locked memory", page == MAP_FAILED ? -1 : mlock(page, (size_t)wanted * 1024));
}

static void signals(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    while (n < wanted && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) {
        n++;
    }
    count("queued signals", n, wanted);
}

/* Takes the whole queue, says so, and keeps it. */
static void fill_signals(char **args) {
    (void)args;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    while (sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) {
    }
    printf("full\n");
    fflush(stdout);
    sleep(3);
}

static void watchers(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    while (n < wanted && inotify_init() != -1) {
        n++;
    }
    count("inotify instances", n, wanted);
}

static void terminals(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    while (n < wanted && posix_openpt(O_RDWR | O_NOCTTY) != -1) {
        n++;
    }
    count("ptys", n, wanted);
}

/* Writers that map their pages into the pipe, if they may: faster than any reader that copies. Ends by itself. */
static void flood(char **args) {
    char *bytes = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(bytes, 'x', MIB);
    (void)fcntl(1, F_SETPIPE_SZ, MIB);
    for (int i = 1; i < atoi(args[0]); i++) {
        if (fork() == 0) {
            break;
        }
    }
    alarm((unsigned)atoi(args[1]));
    for (;;) {
        struct iovec all = {bytes, MIB};
        if (vmsplice(1, &all, 1, 0) == -1) {
            (void)write(1, bytes, 1 << 16);
        }
    }
}

PROBES({"backlog", backlog}, {"datagrams", datagrams}, {"processes", processes}, {"memory", memory},
       {"memfd", shared_memory}, {"socket-buffers", socket_buffers}, {"pipe-buffers", pipe_buffers},
       {"messages", messages}, {"disk", disk}, {"inodes", inodes}, {"descriptors", descriptors}, {"locked", locked},
       {"signals", signals}, {"fill-signals", fill_signals}, {"watchers", watchers}, {"terminals", terminals},
       {"flood", flood})
