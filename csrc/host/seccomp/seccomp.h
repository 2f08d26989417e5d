/*
 * Compiles the seccomp filters of one pool. It makes no system call, and allocates only the program.
 *
 * There are three layers. The kernel runs all filters that a process has, and the strictest verdict wins; of two
 * equally strict ones (errno against errno), that of the newest filter.
 *
 * - template: the tenant's whole policy, except for what zygote and init need to build a sandbox. Large. The zygote
 *   installs it once, before it serves its first CREATE; every sandbox inherits it over clone at no cost.
 * - init: refuses what the template has allowed for the set-up. Small. init installs it as the last step before READY.
 * - exec: no new process, only threads, for allow_fork = false; and in the Landlock tier, what keeps a tenant in its
 *   process group. Tiny. The standby installs it before its exec.
 *
 * A fourth one is not part of every sandbox:
 *
 * - attach: what no_setid refuses, for a sandbox that gets a writable workspace later. Small. init adds it then, unless
 *   the policy has no_setid anyway.
 *
 * After READY the layers together are the tenant's policy. No layer is complete alone: only the template refuses
 * foreign architectures and unknown numbers, only the layer of init refuses mounts and namespaces.
 */
#ifndef SANDPOOL_HOST_SECCOMP_SECCOMP_H
#define SANDPOOL_HOST_SECCOMP_SECCOMP_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_seccomp_policy {
    uint32_t profile; /* SP_SECCOMP_ESSENTIAL or SP_SECCOMP_NETWORK */
    bool allow_fork;
    bool allow_unix_sockets;
    bool list_interfaces; /* NETLINK_ROUTE sockets, with SP_SECCOMP_NETWORK only */
    bool no_setid; /* no file is created with a setuid or setgid bit, so that files in a writable bind cannot harm the
                      host */
    bool pretend_sync; /* sync(), fsync() and the like do nothing: no configured path of the host is writable */
    bool own_network;  /* not the host's: it decides the size of socket buffers, and ports can be shared */
    bool interpreter;  /* a process that runs code without an exec makes itself dumpable, as an exec does */
    bool no_filters;   /* tenants cannot install filters, unless "seccomp" is allowed by name */
    /* For sandboxes without namespaces, in the Landlock tier: tier.c. */
    bool shares_host; /* pids, ipc and ids are the host's: a process may only change itself */
    bool supervised;  /* it has the user id of the host's files; init installs a filter with a listener */
    bool one_group;   /* its processes are held together by a process group, and signals by nothing: Landlock ABI < 6 */
    bool old_truncate;        /* Landlock does not check truncation: ABI < 3 */
    const char *const *allow; /* names that the configuration allows; only read while a filter is built */
    size_t n_allow;
};

/* The caller frees insns. With len 0 there is nothing to install, and insns is NULL. */
struct sp_filter {
    struct sock_filter *insns;
    uint16_t len;
};

/* 0, -EINVAL (no such profile, or a name that cannot be allowed), -ENOTSUP (unsupported architecture) or -ENOMEM. */
int sp_seccomp_template(const struct sp_seccomp_policy *policy, struct sp_filter *filter);
int sp_seccomp_init(const struct sp_seccomp_policy *policy, struct sp_filter *filter);
int sp_seccomp_attach(const struct sp_seccomp_policy *policy, struct sp_filter *filter);
int sp_seccomp_exec(const struct sp_seccomp_policy *policy, struct sp_filter *filter);

/* The following is for tests, which build and simulate the programs of every architecture on any machine. */

enum sp_arch { SP_ARCH_X86_64, SP_ARCH_AARCH64, SP_ARCH_COUNT };

/* Not one of every tenant's layers: `attach`. */
enum sp_layer { SP_LAYER_TEMPLATE, SP_LAYER_INIT, SP_LAYER_EXEC, SP_LAYER_COUNT, SP_LAYER_ATTACH = SP_LAYER_COUNT };

struct sp_syscall {
    const char *name;
    uint16_t nr;
};

int sp_seccomp_build(enum sp_arch arch, enum sp_layer layer, const struct sp_seccomp_policy *policy,
                     struct sp_filter *filter);
/* The table of one architecture, sorted by name. */
const struct sp_syscall *sp_seccomp_syscalls(enum sp_arch arch, size_t *count);
/* Calls `each` for every name in the policy. */
void sp_seccomp_each_name(void (*each)(const char *name, void *arg), void *arg);

#endif
