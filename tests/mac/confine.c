/*
 * Stands for `sandbox-exec` where the agent's proofs are tested on Linux: it confines by Landlock, seccomp and
 * no_new_privs what Seatbelt would, all but the first argument's words.
 *
 * confine LEFT_OUT -D ROOT=... -D SCRATCH=... -p PROFILE AGENT SCRATCH
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h; the header of the machine may be older than its kernel. */
#define CREATE_RULESET 444
#define ADD_RULE 445
#define RESTRICT_SELF 446
#define PATH_BENEATH 1
#define READING UINT64_C(0xd)
#define WRITING UINT64_C(0x132) /* a file: write, remove, make */
#define ALL_FILES UINT64_C(0x7fff)
#define SCOPE_SIGNAL 2

struct ruleset {
    uint64_t fs, net, scoped;
};
struct beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

static const char *left_out;

static int is_left_out(const char *word) { return strstr(left_out, word) != NULL; }

static int allow(int rules, const char *path, uint64_t what) {
    struct beneath rule = {.allowed = what, .parent = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent == -1) {
        return errno == ENOENT ? 0 : -1;
    }
    int rc = (int)syscall(ADD_RULE, rules, PATH_BENEATH, &rule, 0);
    close(rule.parent);
    return rc;
}

static int confine_files(const char *root, const char *scratch, const char *agent) {
    static const char *const system[] = {"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc"};
    const struct ruleset all = {.fs = ALL_FILES, .scoped = is_left_out("signal") ? 0 : SCOPE_SIGNAL};
    int rules = (int)syscall(CREATE_RULESET, &all, sizeof all, 0);
    int rc = rules;
    for (size_t i = 0; rc >= 0 && i < sizeof system / sizeof system[0]; i++) {
        rc = allow(rules, system[i], READING);
    }
    uint64_t leak = (is_left_out("read") ? READING : 0) | (is_left_out("write") ? WRITING : 0);
    if (rc < 0 || allow(rules, "/dev", READING | 2) != 0 || allow(rules, agent, 0x5) != 0 ||
        allow(rules, scratch, ALL_FILES) != 0 || (leak != 0 && allow(rules, root, leak) != 0)) {
        return -1;
    }
    return (int)syscall(RESTRICT_SELF, rules, 0);
}

static int refuse_inet(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

int main(int argc, char **argv) {
    if (argc != 10) {
        (void)fprintf(stderr, "confine: 10 words expected, not %d\n", argc);
        return 64;
    }
    left_out = argv[1];
    const char *root = argv[3] + strlen("ROOT=");
    const char *scratch = argv[5] + strlen("SCRATCH=");
    if ((!is_left_out("set-id") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ||
        confine_files(root, scratch, argv[8]) != 0 || (!is_left_out("network") && refuse_inet() != 0)) {
        (void)fprintf(stderr, "confine: %s\n", strerror(errno));
        return 71;
    }
    execv(argv[8], argv + 8);
    return 71;
}
