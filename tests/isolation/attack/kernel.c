/* The kernel's surface: namespaces, mounts, knobs, the calls that past exploits came through, and what all share. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/memfd.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "probe.h"

static void new_userns(char **args) {
    (void)args;
    if (unshare(CLONE_NEWUSER) == 0) {
        reached("unshare");
    }
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        _exit(0);
    }
    JUDGE("clone", pid);
}

static void new_userns_clone3(char **args) {
    (void)args;
    struct clone_args how = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &how, sizeof how);
    if (pid == 0) {
        _exit(0);
    }
    JUDGE("clone3", pid);
}

/* Bits that only a 64-bit reader of the flags sees must not hide the ones that count. */
static void new_userns_garbage(char **args) {
    (void)args;
    pid_t pid = (pid_t)syscall(SYS_clone, 0xdead00000000ul | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        _exit(0);
    }
    JUDGE("clone", pid);
}

static void mount_tmpfs(char **args) {
    (void)args;
    JUDGE("tmpfs on /tmp", mount("none", "/tmp", "tmpfs", 0, NULL));
}
static void bind_mount(char **args) {
    (void)args;
    JUDGE("/usr on /tmp", mount("/usr", "/tmp", NULL, MS_BIND, NULL));
}
static void uncover_proc(char **args) {
    (void)args;
    JUDGE("umount /proc", umount2("/proc", MNT_DETACH));
}
static void new_mount_api(char **args) {
    (void)args;
    if (syscall(SYS_fsopen, "tmpfs", 0) != -1) {
        reached("fsopen");
    }
    JUDGE("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
}
static void change_root(char **args) {
    (void)args;
    JUDGE("chroot", chroot("/tmp"));
}
static void pivot(char **args) {
    (void)args;
    if (syscall(SYS_pivot_root, "/", "/") == 0 || errno == EINVAL || errno == EBUSY) {
        reached("pivot_root looks at its arguments");
    }
    held("pivot_root: %s", strerror(errno));
}
static void enter_namespace(char **args) {
    (void)args;
    int fd = open("/proc/self/ns/uts", O_RDONLY);
    JUDGE("setns", fd == -1 ? -1 : setns(fd, CLONE_NEWUTS));
}
static void set_name(char **args) {
    (void)args;
    JUDGE("sethostname", sethostname("owned", 5));
}

/* Opened, never written. */
static void knobs(char **args) {
    (void)args;
    static const char *const names[] = {"/proc/sys/kernel/core_pattern",      "/proc/sys/kernel/modprobe",
                                        "/proc/sys/vm/overcommit_memory",     "/proc/sys/kernel/shmmax",
                                        "/proc/sys/user/max_user_namespaces", "/proc/sys/net/ipv4/ip_forward",
                                        "/proc/sys/kernel/hostname",          "/proc/sysrq-trigger",
                                        "/proc/irq/default_smp_affinity"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (open(names[i], O_WRONLY) != -1) {
            reached("%s", names[i]);
        }
    }
    held("none of them");
}

static void bpf_map(char **args) {
    (void)args;
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    JUDGE("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr));
}
static void perf(char **args) {
    (void)args;
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1};
    JUDGE("perf_event_open", syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}
static void page_faults(char **args) {
    (void)args;
    JUDGE("userfaultfd", syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
}
static void io_ring(char **args) {
    (void)args;
    char params[120] = {0};
    JUDGE("io_uring_setup", syscall(SYS_io_uring_setup, 4, params));
}
static void add_key(char **args) {
    (void)args;
    JUDGE("add_key", syscall(SYS_add_key, "user", "sandpool-probe", "x", 1, -2 /* process keyring */));
}
static void kernel_log(char **args) {
    (void)args;
    JUDGE("syslog", syscall(SYS_syslog, 10, NULL, 0));
}
static void read_implies_exec(char **args) {
    (void)args;
    JUDGE("personality", personality(READ_IMPLIES_EXEC));
}

#ifdef __x86_64__
static void i386_call(char **args) {
    (void)args;
    long result = 20; /* getpid of i386 */
    __asm__ volatile("int $0x80" : "+a"(result) : : "r8", "r9", "r10", "r11", "memory");
    if (result == getpid()) {
        reached("int 0x80");
    }
    held("int 0x80: %ld", result);
}

/* A tracer puts another number into the call that the filter has passed. */
static void traced_call(char **args) {
    (void)args;
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) {
            _exit(3);
        }
        raise(SIGSTOP);
        long fd = syscall(SYS_getppid, AF_NETLINK, SOCK_RAW, 0);
        _exit(fd >= 0 && fd < 100 ? 1 : 2);
    }
    int status = 0;
    waitpid(child, &status, 0);
    while (WIFSTOPPED(status)) {
        struct user_regs_struct regs;
        ptrace(PTRACE_GETREGS, child, 0, &regs);
        if (regs.orig_rax == SYS_getppid) {
            regs.orig_rax = SYS_socket;
            ptrace(PTRACE_SETREGS, child, 0, &regs);
        }
        ptrace(PTRACE_SYSCALL, child, 0, 0);
        waitpid(child, &status, 0);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
        reached("a netlink socket in the place of getppid");
    }
    held("the call was judged again, status %x", (unsigned)status);
}
#endif

/* Types into the terminal of its session; garbage in the half of the request that the kernel does not look at. */
static void type_ahead(char **args) {
    unsigned long request = strtoul(args[0], NULL, 0);
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master == -1 || grantpt(master) != 0 || unlockpt(master) != 0) {
        held("no pty: %s", strerror(errno));
    }
    if (fork() != 0) {
        int status = 0;
        wait(&status);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            reached("TIOCSTI");
        }
        held("TIOCSTI: %s", strerror(WEXITSTATUS(status)));
    }
    setsid();
    int slave = open(ptsname(master), O_RDWR);
    char letter = 'x';
    ioctl(slave, TIOCSCTTY, 0);
    _exit(syscall(SYS_ioctl, slave, request, &letter) == 0 ? 0 : errno);
}

/* What follows is told apart by how far the kernel looks: a call that is made a lie does not miss its descriptor. */
static void flush_disks(char **args) {
    (void)args;
    static const struct {
        const char *name;
        long number;
    } calls[] = {{"syncfs", SYS_syncfs}, {"fsync", SYS_fsync}, {"fdatasync", SYS_fdatasync}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (syscall(calls[i].number, -1) == -1 && errno == EBADF) {
            reached("%s: a disk of the host's is flushed whenever a tenant likes", calls[i].name);
        }
    }
    if (syscall(SYS_sync_file_range, -1, 0L, 0L, 0L) == -1 && errno == EBADF) {
        reached("sync_file_range: what the host has written goes to the disk");
    }
    held("none of them does anything");
}
static void evict_page_cache(char **args) {
    (void)args;
    if (syscall(SYS_fadvise64, -1, 0L, 0L, POSIX_FADV_DONTNEED) == -1 && errno == EBADF) {
        reached("fadvise");
    }
    held("the advice is not followed");
}
/* The kernel would find nothing at this address. */
static void age_page_cache(char **args) {
    (void)args;
    for (int advice = 20; advice <= 21; advice++) { /* MADV_COLD, MADV_PAGEOUT */
        if (madvise((void *)4096, 4096, advice) == -1 && errno == ENOMEM) {
            reached("madvise %d: pages of the host's files leave memory earlier", advice);
        }
    }
    held("the advice is not followed");
}
static void notify(char **args) {
    int fd = open(args[0], O_RDONLY | O_DIRECTORY);
    JUDGE("F_NOTIFY", fd == -1 ? -1 : fcntl(fd, F_NOTIFY, DN_ACCESS | DN_MULTISHOT));
}
static void huge_pages(char **args) {
    (void)args;
    JUDGE("a file of huge pages", syscall(SYS_memfd_create, "huge", MFD_HUGETLB));
}

static void huge_segment(char **args) {
    (void)args;
    int id = shmget(IPC_PRIVATE, 2 << 20, SHM_HUGETLB | SHM_NORESERVE | 0600);
    int err = errno;
    (void)shmctl(id, IPC_RMID, NULL);
    errno = err;
    JUDGE("a segment of huge pages", id);
}

/* Unmapped, a page stays as long as the pipe holds it: 2 MiB for each slot, where it is a huge one. */
static void pages_in_pipes(char **args) {
    (void)args;
    int fds[2];
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec there = {page, 4096};
    if (pipe(fds) != 0 || page == MAP_FAILED) {
        held("no pipe");
    }
    page[0] = 'x';
    ssize_t n = vmsplice(fds[1], &there, 1, 0);
    int why = errno;
    munmap(page, 4096);
    if (n == 4096 && read(fds[0], fds, 1) == 1) {
        reached("kept a page that nobody has mapped");
    }
    held("vmsplice: %s", strerror(why));
}

/* Their bytes are counted for the host's user too, whose budget is 800 KiB. */
static void message_queues(char **args) {
    (void)args;
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = 8192};
    int made = 0;
    for (char name[] = "/sandpool-probe-a"; made < 5; made++, name[sizeof name - 2]++) {
        if (mq_open(name, O_CREAT | O_RDWR, 0600, &attr) == -1) {
            break;
        }
        mq_unlink(name);
    }
    if (made == 5) {
        reached("half of it");
    }
    held("%d queues: %s", made, strerror(errno));
}

/* svipc(7): what a process of the host, or of another sandbox, has left under a number. */
static void shared_segment(char **args) {
    int id = shmget((key_t)strtol(args[0], NULL, 0), 4096, IPC_CREAT | 0600);
    JUDGE("a segment of all processes of this user", id == -1 ? -1 : shmctl(id, IPC_RMID, NULL));
}

static void host_name(char **args) {
    struct utsname name;
    (void)args;
    if (uname(&name) == 0 && strcmp(name.nodename, "sandbox") != 0) {
        reached("%s", name.nodename);
    }
    held("a name of its own");
}

PROBES({"segment", shared_segment}, {"host-name", host_name}, {"userns", new_userns},
       {"userns-clone3", new_userns_clone3}, {"userns-garbage", new_userns_garbage}, {"mount", mount_tmpfs},
       {"bind", bind_mount}, {"umount-proc", uncover_proc}, {"mount-api", new_mount_api}, {"chroot", change_root},
       {"pivot", pivot}, {"setns", enter_namespace}, {"hostname", set_name}, {"knobs", knobs}, {"bpf", bpf_map},
       {"perf", perf}, {"userfaultfd", page_faults}, {"io-uring", io_ring}, {"add-key", add_key},
       {"syslog", kernel_log}, {"personality", read_implies_exec},
#ifdef __x86_64__
       {"i386", i386_call}, {"traced-call", traced_call},
#endif
       {"tiocsti", type_ahead}, {"flush-disks", flush_disks}, {"evict", evict_page_cache}, {"age", age_page_cache},
       {"notify", notify}, {"huge-pages", huge_pages}, {"huge-segment", huge_segment},
       {"pages-in-pipes", pages_in_pipes}, {"message-queues", message_queues})
