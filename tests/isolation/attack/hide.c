/* Limits: memory that is where nobody looks: under way between processes, or in texts of any length. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "hoard.h"

#define BATCH 20
#define PAIRS 30

/* ---- texts of any length ---- */

/* As deep as it gets; each name is four times as long in the text of the mappings, where a newline is escaped. */
static int go_down(int wanted) {
    char name[256];
    int depth = 0;
    memset(name, '\n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    while (depth < wanted && mkdir(name, 0700) == 0 && chdir(name) == 0) {
        depth++;
    }
    return depth;
}

static void come_up(int depth) {
    char name[256];
    memset(name, '\n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    (void)unlink("file");
    for (; depth > 0 && chdir("..") == 0 && rmdir(name) == 0; depth--) {
    }
}

/* An open file of mappings keeps a buffer for its longest line, and a line is as long as the path of the file. */
static void long_names(char **args) {
    static const char *const texts[] = {"/proc/self/maps", "/proc/self/smaps", "/proc/self/numa_maps"};
    static char piece[65536];
    long wanted = atol(args[1]);
    long n = 0;
    (void)chdir(args[0]);
    int depth = go_down(3000);
    int file = open("file", O_RDWR | O_CREAT, 0600);
    if (write(file, "x", 1) == 1 && mmap((void *)0x10000, 4096, PROT_READ, MAP_PRIVATE, file, 0) != MAP_FAILED) {
        for (int fd; n < wanted && (fd = open(texts[n % 3], O_RDONLY)) != -1; n++) {
            for (ssize_t got = 1; got > 0 && memchr(piece, '\\', sizeof piece) == NULL;) {
                got = read(fd, piece, sizeof piece);
            }
            memset(piece, 0, sizeof piece);
        }
    }
    settle(args[2]);
    int err = errno;
    come_up(depth);
    errno = err;
    count("texts of megabytes", depth >= 3000 ? n : 0, wanted);
}

/* ---- descriptors under way ---- */

static int give(int to, const int *fds, size_t n) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int) * BATCH)];
    } control = {.bytes = {0}};
    struct iovec byte = {"x", 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = control.bytes};
    message.msg_controllen = CMSG_SPACE(sizeof(int) * n);
    control.head = (struct cmsghdr){CMSG_LEN(sizeof(int) * n), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * n);
    return sendmsg(to, &message, MSG_DONTWAIT) == 1 ? 0 : -1;
}

static size_t take(int from, int *fds) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int) * BATCH)];
    } control;
    char byte;
    struct iovec room = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &room, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    if (recvmsg(from, &message, 0) != 1 || message.msg_controllen == 0) {
        return 0;
    }
    size_t n = (control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(&control.head), sizeof(int) * n);
    return n;
}

static void close_all(const int *fds, size_t n) {
    for (size_t i = 0; i < n; i++) {
        (void)close(fds[i]);
    }
}

/* A socket pair with all that its buffers take. */
static bool make_full_pair(int pair[2]) {
    static char bytes[65536];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) {
        return false;
    }
    for (int end = 0; end < 2; end++) {
        while (write(pair[end], bytes, sizeof bytes) > 0) {
        }
    }
    return true;
}

static size_t make_batch(int fds[BATCH]) {
    size_t n = 0;
    while (n < BATCH && make_full_pair(fds + n)) {
        n += 2;
    }
    return n;
}

/* In no process's table: each is sent into the queue of another one, and closed. */
static void sockets_under_way(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    int fds[BATCH];
    int queue[2];
    raise_descriptors();
    for (size_t batch; n < wanted && (batch = make_batch(fds)) != 0; n += (long)batch) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, queue) != 0 || give(queue[0], fds, batch) != 0) {
            break;
        }
        close_all(fds, batch);
    }
    settle(args[1]);
    count("full sockets under way", n, wanted);
}

/* ---- handed about ---- */

#define RING 12

struct ring {
    int ends[RING][2];
};

/* Takes what comes and hands it on, for ever. */
static void hand_on(const struct ring *ring, int place) {
    int fds[BATCH];
    for (;;) {
        size_t n = take(ring->ends[place][1], fds);
        while (n != 0 && give(ring->ends[(place + 1) % RING][0], fds, n) != 0) {
        }
        close_all(fds, n);
    }
}

static void make_ring(struct ring *ring) {
    setpgid(0, 0);
    for (int i = 0; i < RING; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ring->ends[i]) != 0) {
            held("no ring");
        }
    }
    for (int i = 0; i < RING; i++) {
        if (fork() == 0) {
            hand_on(ring, i);
        }
    }
}

static void end_group(void) {
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
}

static void buffers_handed_about(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    int fds[BATCH];
    static struct ring ring;
    make_ring(&ring);
    for (size_t batch; n < wanted && (batch = make_batch(fds)) != 0; n += (long)batch) {
        if (give(ring.ends[n / BATCH % RING][0], fds, batch) != 0) {
            break;
        }
        close_all(fds, batch);
    }
    settle(args[1]);
    end_group();
    count("full sockets handed about", n, wanted);
}

static void memfd_handed_about(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    static char bytes[MIB];
    static struct ring ring;
    int memfd = memfd_create("about", 0);
    make_ring(&ring);
    if (give(ring.ends[0][0], &memfd, 1) == 0) {
        for (; n < wanted && write(memfd, bytes, sizeof bytes) == sizeof bytes; n++) {
        }
    }
    (void)close(memfd);
    settle(args[1]);
    end_group();
    count("MiB of a memfd handed about", n, wanted);
}

/* ---- processes with much that the kernel keeps ---- */

/* Each of so many does it, tells how much it has, and keeps it. The sum. */
static long in_processes(long processes, long (*act)(long), long argument) {
    int pipe_of_all[2];
    long sum = 0;
    setpgid(0, 0);
    if (pipe(pipe_of_all) != 0) {
        held("no pipe");
    }
    for (long i = 0; i < processes; i++) {
        if (fork() == 0) {
            long got = act(argument);
            (void)!write(pipe_of_all[1], &got, sizeof got);
            for (;;) {
                pause();
            }
        }
    }
    (void)close(pipe_of_all[1]);
    for (long i = 0, got = 0; i < processes && read(pipe_of_all[0], &got, sizeof got) == sizeof got; i++) {
        sum += got;
    }
    return sum;
}

static int sets[1000];

static long change_all(long n) {
    struct sembuf up = {0, 1, SEM_UNDO};
    long done = 0;
    while (done < n && semop(sets[done], &up, 1) == 0) {
        done++;
    }
    return done;
}

/* Of each process and each set the kernel keeps what the end of the process takes back. */
static void undo_lists(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    while (n < 1000 && (sets[n] = semget(IPC_PRIVATE, 1, 0600)) != -1) {
        n++;
    }
    long got = in_processes(wanted, change_all, n);
    settle(args[1]);
    for (long i = 0; i < n; i++) {
        (void)semctl(sets[i], 0, IPC_RMID);
    }
    end_group();
    count("sets that are put back", got, 1000 * wanted);
}

/* Each process is forked from the one before it, and has a link to it for each mapping. */
static void fork_links(char **args) {
    long wanted = atol(args[0]);
    long n = 0;
    pid_t pid = 0;
    int told[2];
    char byte;
    setpgid(0, 0);
    for (int i = 0; i < PAIRS; i++) {
        char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at != MAP_FAILED) {
            at[0] = at[4096] = 1;
            (void)mprotect(at + 4096, 4096, PROT_READ); /* two mappings of two pages */
        }
    }
    if (pipe(told) != 0) {
        held("no pipe");
    }
    while (n < wanted && (n == 0 || pid == 0) && (pid = fork()) != -1) {
        n += pid == 0;
        if (pid == 0) {
            (void)!write(told[1], "x", 1);
        } else {
            break;
        }
    }
    while (n != 0) {
        pause();
    }
    (void)close(told[1]);
    while (n < wanted && read(told[0], &byte, 1) == 1) {
        n++;
    }
    settle(args[1]);
    end_group();
    count("processes in a row", n, wanted);
}

/* ---- options of sockets ---- */

/* What is to be added to each packet is kept as it came: up to 64 KiB, and on kernels before 6.9 up to 20 KiB. */
static void packet_options(char **args) {
    static char bytes[16000];
    const struct cmsghdr head = {sizeof bytes, 999, 1};
    const struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    long wanted = atol(args[0]);
    long n = 0;
    memcpy(bytes, &head, sizeof head);
    raise_descriptors();
    for (int fd; n < wanted && (fd = socket(AF_INET6, SOCK_DGRAM, 0)) != -1; n++) {
        if (bind(fd, (const struct sockaddr *)&own, sizeof own) != 0 ||
            setsockopt(fd, IPPROTO_IPV6, IPV6_2292PKTOPTIONS, bytes, sizeof bytes) != 0) {
            break;
        }
    }
    settle_with(n, args[1]);
    count("sockets with 16 KiB of options", n, wanted);
}

/* Of a huge page of which a part is still mapped, the kernel keeps all. Touching 2 MiB is one fault then, not 512. */
static void huge_pages_cut(char **args) {
    const size_t page = 2 << 20;
    const long wanted = atol(args[0]);
    struct rusage before, after;
    long n = 0;
    char *at = mmap(NULL, (size_t)(wanted + 1) * page, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    at += page - (uintptr_t)at % page;
    (void)prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    (void)madvise(at, (size_t)wanted * page, MADV_HUGEPAGE);
    for (; n < wanted; n++, at += page) {
        getrusage(RUSAGE_SELF, &before);
        memset(at, 1, page);
        getrusage(RUSAGE_SELF, &after);
        (void)madvise(at + 4096, page - 4096, MADV_DONTNEED);
        if (after.ru_minflt - before.ru_minflt > 64) {
            break;
        }
    }
    settle_with(n, args[1]);
    count("huge pages of which 4 KiB are mapped", n, wanted);
}

PROBES({"long-names", long_names}, {"sockets-under-way", sockets_under_way},
       {"buffers-handed-about", buffers_handed_about}, {"memfd-handed-about", memfd_handed_about},
       {"packet-options", packet_options}, {"undo-lists", undo_lists}, {"fork-links", fork_links},
       {"huge-pages-cut", huge_pages_cut})
