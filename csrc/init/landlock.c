#include "init/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"

/* All constants are defined here, because the headers of the building machine may be older than the running kernel. */
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_ADD_RULE 445
#define LANDLOCK_RESTRICT_SELF 446

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1

#define FS_EXECUTE (UINT64_C(1) << 0)
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_READ_DIR (UINT64_C(1) << 3)
#define FS_REMOVE_DIR (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_CHAR (UINT64_C(1) << 6)
#define FS_MAKE_BLOCK (UINT64_C(1) << 11)
#define FS_MAKE_SYM (UINT64_C(1) << 12)
#define FS_REFER (UINT64_C(1) << 13)
#define FS_TRUNCATE (UINT64_C(1) << 14)
#define FS_IOCTL_DEV (UINT64_C(1) << 15)

#define FS_ALL_1 (2 * FS_MAKE_SYM - 1)
#define FS_ALL_2 (FS_ALL_1 | FS_REFER)
#define FS_ALL_3 (FS_ALL_2 | FS_TRUNCATE)
#define FS_ALL_5 (FS_ALL_3 | FS_IOCTL_DEV)

#define FS_READING (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
/* No rule lets a sandbox create device nodes. */
#define FS_NEVER (FS_MAKE_CHAR | FS_MAKE_BLOCK)
/* The only rights that a rule for a file may name. */
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

#define NET_TCP_BOTH UINT64_C(3)
#define SCOPE_BOTH UINT64_C(3) /* abstract unix sockets, signals */

/* A tenant must not be able to fill the host's audit log with denials, or with domains of its own. */
#define LOG_SAME_EXEC_OFF (1u << 0)
#define LOG_SUBDOMAINS_OFF (1u << 2)

/* The kernel refuses a structure that is longer than its own and has anything but zeros in the additional bytes. */
struct ruleset {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

static const struct level {
    uint64_t fs;
    uint64_t net; /* only with deny_tcp */
    uint64_t scoped;
    uint32_t restrict_flags;
    size_t size;
} levels[] = {
    [1] = {FS_ALL_1, 0, 0, 0, offsetof(struct ruleset, net)},
    [2] = {FS_ALL_2, 0, 0, 0, offsetof(struct ruleset, net)},
    [3] = {FS_ALL_3, 0, 0, 0, offsetof(struct ruleset, net)},
    [4] = {FS_ALL_3, NET_TCP_BOTH, 0, 0, offsetof(struct ruleset, scoped)},
    [5] = {FS_ALL_5, NET_TCP_BOTH, 0, 0, offsetof(struct ruleset, scoped)},
    [6] = {FS_ALL_5, NET_TCP_BOTH, SCOPE_BOTH, 0, sizeof(struct ruleset)},
    [7] = {FS_ALL_5, NET_TCP_BOTH, SCOPE_BOTH, LOG_SAME_EXEC_OFF | LOG_SUBDOMAINS_OFF, sizeof(struct ruleset)},
};

#define ABI_KNOWN (sizeof levels / sizeof levels[0] - 1)

int sp_landlock_abi(uint32_t abi_max) {
    long abi = syscall(LANDLOCK_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
    if (abi < 0) { /* not built in, or not switched on */
        return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
    }
    uint32_t most = abi_max < ABI_KNOWN ? abi_max : (uint32_t)ABI_KNOWN;
    return abi < (long)most ? (int)abi : (int)most;
}

static int open_rule(const struct sp_landlock_rule *rule) {
    if (rule->within == NULL) {
        return open(rule->path, O_PATH | O_CLOEXEC);
    }
    const struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    sp_auto_fd int outer = open(rule->within, O_PATH | O_CLOEXEC);
    const char *rest = rule->path + strlen(rule->within) + 1;
    return outer != -1 ? (int)syscall(SYS_openat2, outer, rest, &how, sizeof how) : -1;
}

static int add_rule(int ruleset, const struct sp_landlock_rule *rule, uint64_t handled) {
    struct stat st;
    struct {
        uint64_t allowed;
        int32_t parent;
    } __attribute__((packed)) beneath = {.allowed = rule->writable ? handled & ~FS_NEVER : handled & FS_READING};
    sp_auto_fd int path = open_rule(rule);
    if (path == -1 && rule->dispensable && (errno == ENOENT || errno == EACCES)) {
        return 0;
    }
    if (path == -1 || fstat(path, &st) != 0) {
        return -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        beneath.allowed &= FS_OF_FILES;
    }
    beneath.parent = path;
    int rc = rule->check != NULL ? rule->check(path, rule) : 0;
    return rc != 0 ? rc : syscall(LANDLOCK_ADD_RULE, ruleset, RULE_PATH_BENEATH, &beneath, 0) == 0 ? 0 : -errno;
}

static int add_rules(int ruleset, const struct sp_landlock_rule *rules, unsigned n, uint64_t handled,
                     const char **failed) {
    for (unsigned i = 0; i < n; i++) {
        int rc = add_rule(ruleset, &rules[i], handled);
        if (rc != 0) {
            *failed = rules[i].path;
            return rc;
        }
    }
    return 0;
}

static int make_of(const struct ruleset *handled, const struct level *level) {
    int ruleset = (int)syscall(LANDLOCK_CREATE_RULESET, handled, level->size, 0);
    return ruleset != -1 ? ruleset : -errno;
}

static const struct level *level_of(uint32_t abi_max) {
    int abi = sp_landlock_abi(abi_max);
    return abi > 0 ? &levels[abi] : NULL;
}

int sp_landlock_make(const struct sp_landlock_rules *rules, uint32_t abi_max, bool deny_tcp, const char **failed) {
    const struct level *level = level_of(abi_max);
    *failed = "landlock_create_ruleset";
    if (level == NULL) {
        return -EOPNOTSUPP;
    }
    struct ruleset handled = {.fs = level->fs, .net = deny_tcp ? level->net : 0, .scoped = level->scoped};
    sp_auto_fd int ruleset = make_of(&handled, level);
    if (ruleset < 0) {
        return ruleset;
    }
    int rc = add_rules(ruleset, rules->rules, rules->n_rules, level->fs, failed);
    rc = rc != 0 ? rc : add_rules(ruleset, rules->more, rules->n_more, level->fs, failed);
    return rc != 0 ? rc : sp_fd_steal(&ruleset);
}

int sp_landlock_enter(int ruleset, uint32_t abi_max) {
    const struct level *level = level_of(abi_max);
    uint32_t flags = level != NULL ? level->restrict_flags : 0;
    return syscall(LANDLOCK_RESTRICT_SELF, ruleset, flags) == 0 ? 0 : -errno;
}

int sp_landlock_scope(uint32_t abi_max) {
    const struct level *level = level_of(abi_max);
    if (level == NULL || level->scoped == 0) {
        return -EOPNOTSUPP;
    }
    /* A domain that does not allow it denies each rename and link between two directories, whatever it restricts. */
    const struct sp_landlock_rule everywhere = {.path = "/", .writable = true};
    const struct ruleset handled = {.fs = FS_REFER, .scoped = level->scoped};
    sp_auto_fd int ruleset = make_of(&handled, level);
    int rc = ruleset < 0 ? ruleset : add_rule(ruleset, &everywhere, FS_REFER);
    return rc != 0 ? rc : sp_landlock_enter(ruleset, abi_max);
}

int sp_landlock_restrict(const struct sp_landlock_rule *rules, unsigned n_rules, uint32_t abi_max, bool deny_tcp,
                         const char **failed) {
    *failed = "landlock_create_ruleset";
    int abi = sp_landlock_abi(abi_max);
    if (abi <= 0) {
        return abi;
    }
    const struct sp_landlock_rules all = {.rules = rules, .n_rules = n_rules};
    sp_auto_fd int ruleset = sp_landlock_make(&all, abi_max, deny_tcp, failed);
    if (ruleset < 0) {
        return ruleset;
    }
    *failed = "landlock_restrict_self";
    int rc = sp_landlock_enter(ruleset, abi_max);
    return rc == 0 ? abi : rc;
}
