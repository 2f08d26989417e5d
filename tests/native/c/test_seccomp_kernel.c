/* sources: csrc/host/seccomp */
/* The seccomp layers on this machine's kernel. Each attack runs first without them, where it must get further. */
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "host/seccomp/seccomp.h"
#include "lacks.h"
#include "sandpool.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])
#define GARBAGE (UINT64_C(0xdeadbeef) << 32)

typedef struct sp_seccomp_policy policy_t;

static const policy_t essential = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true};
static const policy_t network = {.profile = SP_SECCOMP_NETWORK, .allow_fork = true};
static const policy_t no_fork = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = false};
static const policy_t loopback = {.profile = SP_SECCOMP_NETWORK, .allow_fork = true, .list_interfaces = true};
static const policy_t with_unix = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .allow_unix_sockets = true};
static const char *const more_names[] = {"io_setup", "userfaultfd", "process_vm_readv"};
static const policy_t more = {
    .profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .allow = more_names, .n_allow = LENGTH(more_names)};

/* An attack runs in a child of its own. It returns 0 if it worked, else its errno. */
typedef int attack_t(void);

static int result(long rc) { return rc == -1 ? errno : 0; }

static int of_child(long pid) {
    if (pid == 0) {
        _exit(0);
    }
    return pid == -1 ? errno : (waitpid((pid_t)pid, NULL, 0), 0);
}

static int new_userns(void) { return result(syscall(SYS_unshare, CLONE_NEWUSER)); }
static int share_less(void) { return result(syscall(SYS_unshare, CLONE_SYSVSEM | CLONE_FS)); }
static int own_descriptors(void) { return result(syscall(SYS_unshare, CLONE_FILES)); }
static int close_own(void) { return result(syscall(SYS_close_range, 1000, 1001, 2 /* CLOSE_RANGE_UNSHARE */)); }
static int clone_userns(void) { return of_child(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD | GARBAGE, 0, 0, 0, 0)); }
static int plain_clone(void) { return of_child(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
static int clone3(void) { return result(syscall(SYS_clone3, NULL, 0)); }
static int type_in(void) { return result(syscall(SYS_ioctl, STDIN_FILENO, TIOCSTI | GARBAGE, "x")); }
static int keep_address_space(void) { return result(syscall(SYS_personality, 0x0040000)); }
static int ask_personality(void) { return result(syscall(SYS_personality, 0xffffffff)); }
static int enter_ns(void) { return result(syscall(SYS_setns, -1, 0)); }
static int unmount(void) { return result(umount2("/nonexistent/for/sure", 0)); }
static int read_keys(void) { return result(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3, 0)); }
static int load_bpf(void) { return result(syscall(SYS_bpf, 0, NULL, 0)); }
static int uring(void) { return result(syscall(SYS_io_uring_setup, 1, NULL)); }
static int aio(void) { return result(syscall(SYS_io_setup, 1, NULL)); }
static int faults(void) { return result(syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */)); }
static int perf(void) { return result(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0)); }
static int read_own_memory(void) {
    char from = 'x', to = 0;
    struct iovec here = {&to, 1}, there = {&from, 1};
    return result(syscall(SYS_process_vm_readv, getpid(), &here, 1L, &there, 1L, 0L));
}
static int inet_socket(void) { return result(socket(AF_INET, SOCK_STREAM, 0)); }
static int netlink_socket(void) { return result(socket(AF_NETLINK, SOCK_RAW, 0)); }
static int uevent_socket(void) { return result(socket(AF_NETLINK, SOCK_RAW, 15)); }
static int mptcp_socket(void) { return result(socket(AF_INET, SOCK_STREAM, 262)); }
static int unix_socket(void) { return result(socket(AF_UNIX, SOCK_STREAM, 0)); }
static int no_such_call(void) { return result(syscall(1000)); }
static int skipped_call(void) { return result(syscall(-1)); }

static int limit_init(void) {
    struct rlimit64 {
        uint64_t now, max;
    } limit;
    int rc = result(syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, NULL, &limit));
    return rc != 0 ? rc : result(syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, &limit, NULL));
}

/* A server outside the sandbox. The attack connects one end of a socket pair to it. */
static struct sockaddr_un server = {.sun_family = AF_UNIX};
static socklen_t server_len;

static int pair_to_server(int type) {
    int fds[2];
    if (socketpair(AF_UNIX, type, 0, fds) == -1) {
        return errno;
    }
    return result(sendto(fds[0], "x", 1, 0, (struct sockaddr *)&server, server_len)) ||
                   result(connect(fds[0], (struct sockaddr *)&server, server_len))
               ? errno
               : 0;
}

static int datagram_pair(void) { return pair_to_server(SOCK_DGRAM); }
static int stream_pair(void) { return pair_to_server(SOCK_STREAM); }

static void *thread_main(void *arg) { return arg; }
static int thread(void) {
    pthread_t id;
    int rc = pthread_create(&id, NULL, thread_main, NULL);
    return rc != 0 ? rc : pthread_join(id, NULL);
}

#ifdef __x86_64__
static int i386_call(void) {
    long rc;
    __asm__ volatile("int $0x80" : "=a"(rc) : "a"(20L /* getpid */) : "r8", "r9", "r10", "r11", "memory");
    return rc > 0 ? 0 : EPROTO;
}
static int x32_call(void) { return result(syscall(0x40000000 | SYS_getpid)); }
#endif

static bool install(const struct sp_filter *filter) {
    struct sock_fprog program = {filter->len, filter->insns};
    return filter->len == 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Runs the attack in a child, with all layers that a tenant has, or none. Returns its result, or minus the signal. */
static int try(attack_t *attack, const policy_t *policy) {
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct sp_filter template = {0}, init = {0}, exec = {0};
        if (policy != NULL &&
            (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || sp_seccomp_template(policy, &template) != 0 ||
             sp_seccomp_init(policy, &init) != 0 || sp_seccomp_exec(policy, &exec) != 0 || !install(&template) ||
             !install(&init) || !install(&exec))) {
            _exit(255);
        }
        _exit(attack());
    }
    int status = 0;
    CHECK(pid != -1 && waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

struct probe {
    const char *name;
    attack_t *attack;
    const policy_t *policy;
    int inside;
    bool harmless; /* the filter must allow it: the result is the same as without */
};

#define PROBE(attack, policy, inside) {#attack, attack, policy, inside, false}
#define HARMLESS(attack, policy) {#attack, attack, policy, 0, true}

static const struct probe probes[] = {
    PROBE(new_userns, &essential, EPERM),
    PROBE(clone_userns, &essential, EPERM),
    PROBE(clone3, &essential, ENOSYS),
    PROBE(type_in, &essential, EPERM),
    PROBE(keep_address_space, &essential, EPERM),
    PROBE(enter_ns, &essential, EPERM),
    PROBE(unmount, &essential, EPERM),
    PROBE(read_keys, &essential, EPERM),
    PROBE(load_bpf, &essential, EPERM),
    PROBE(uring, &essential, ENOSYS),
    PROBE(aio, &essential, ENOSYS),
    PROBE(faults, &essential, EPERM),
    PROBE(perf, &essential, EPERM),
    PROBE(inet_socket, &essential, EAFNOSUPPORT),
    PROBE(unix_socket, &essential, EAFNOSUPPORT),
    PROBE(netlink_socket, &network, EAFNOSUPPORT),
    PROBE(uevent_socket, &loopback, EAFNOSUPPORT),
    PROBE(mptcp_socket, &network, EPROTONOSUPPORT),
    PROBE(limit_init, &essential, EPERM),
    PROBE(datagram_pair, &network, ESOCKTNOSUPPORT),
    PROBE(plain_clone, &no_fork, EPERM),
#ifdef __x86_64__
    PROBE(i386_call, &essential, -SIGSYS),
    PROBE(x32_call, &essential, -SIGSYS),
#endif
    PROBE(own_descriptors, &essential, EPERM),
    PROBE(close_own, &essential, EINVAL),
    HARMLESS(share_less, &essential),
    HARMLESS(plain_clone, &essential),
    HARMLESS(ask_personality, &essential),
    HARMLESS(inet_socket, &network),
    HARMLESS(netlink_socket, &loopback),
    HARMLESS(unix_socket, &with_unix),
    HARMLESS(datagram_pair, &with_unix),
    HARMLESS(aio, &more),
    HARMLESS(faults, &more),
    HARMLESS(read_own_memory, &more),
    PROBE(read_own_memory, &essential, EPERM),
    PROBE(perf, &more, EPERM),
    HARMLESS(thread, &essential),
    HARMLESS(thread, &no_fork),
    HARMLESS(stream_pair, &network), /* here the kernel itself refuses to connect a connected socket */
    HARMLESS(no_such_call, &essential),
    HARMLESS(skipped_call, &essential),
};

static int open_server(void) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int len = snprintf(server.sun_path + 1, sizeof server.sun_path - 1, "sandpool-test-%d", (int)getpid());
    server_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    CHECK(bind(fd, (struct sockaddr *)&server, server_len) == 0);
    return fd;
}

static void test_kernel(void) {
    int fd = open_server();
    for (size_t i = 0; i < LENGTH(probes); i++) {
        const struct probe *p = &probes[i];
        int outside = try(p->attack, NULL);
        int inside = try(p->attack, p->policy);
        int wanted = p->harmless ? outside : p->inside;
        if (inside != wanted) {
            printf("%s: %d outside, %d inside, expected %d\n", p->name, outside, inside, wanted);
        } else if (!p->harmless && outside == inside) {
            printf("(%s: this kernel gives %d without a filter too) ", p->name, outside);
        }
        CHECK(inside == wanted);
    }
    close(fd);
}

/* The zygote's layer allows the calls that build a sandbox; init's layer does not. */
static void test_set_up(void) {
    pid_t pid = fork();
    if (pid == 0) {
        struct sp_filter template = {0}, init = {0};
        bool ok = sp_seccomp_template(&essential, &template) == 0 && sp_seccomp_init(&essential, &init) == 0;
        ok = ok && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && install(&template);
        ok = ok && unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && unshare(CLONE_NEWNET) == 0;
        ok = ok && mount("none", "/tmp", "tmpfs", 0, NULL) == 0 && install(&init);
        ok = ok && mount("none", "/tmp", "tmpfs", 0, NULL) == -1 && errno == EPERM;
        ok = ok && unshare(CLONE_NEWNET) == -1 && errno == EPERM;
        _exit(ok ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(void) {
    check_deadline(120);
    RUN_WITHOUT(lack_of_namespaces(), test_set_up);
    RUN(test_kernel);
    return check_report();
}
