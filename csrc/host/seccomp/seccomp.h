/*
 * Compiles the seccomp filters of one pool. Pure: no syscall, and no allocation but the program.
 *
 * Three layers. The kernel runs all that a process has inherited and the strictest verdict wins; among equals (errno
 * against errno) that of the youngest filter.
 *
 *   template  the tenant's whole policy, minus what zygote and init need to build a sandbox. Large. Installed once, in
 *             the zygote, before it serves its first CREATE; every sandbox inherits it over clone at no cost.
 *   init      closes what the template left open for set-up. Small. Installed by init, last before READY.
 *   exec      only for allow_fork = false: no new process, threads only. Tiny. Installed in the child before exec.
 *
 * After READY the sum is the tenant's policy of design.md section 7. No layer is complete alone: only the template
 * refuses foreign architectures and unknown numbers, only init's refuses mounts and namespaces.
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
    bool no_setid; /* no file gets a setuid or setgid bit: what the host finds in a writable bind stays harmless */
    bool
        pretend_sync; /* sync() and syncfs() do nothing: without a writable bind nothing of the tenant's is on a disk */
    bool fixed_buffers;       /* of sockets: the network namespace decides how large they are */
    bool no_filters;          /* none of the tenant's own: unless "seccomp" is allowed by name */
    const char *const *allow; /* names that the table lets a configuration allow; borrowed while a filter is built */
    size_t n_allow;
};

/* The caller frees insns. len 0: nothing to install, insns is NULL. */
struct sp_filter {
    struct sock_filter *insns;
    uint16_t len;
};

/* 0, -EINVAL (no such profile, or a name that cannot be allowed), -ENOTSUP (no table for this architecture) or -ENOMEM.
 */
int sp_seccomp_template(const struct sp_seccomp_policy *policy, struct sp_filter *filter);
int sp_seccomp_init(const struct sp_seccomp_policy *policy, struct sp_filter *filter);
int sp_seccomp_exec(const struct sp_seccomp_policy *policy, struct sp_filter *filter);

/* For tests, which build and simulate the programs of every architecture on any machine. */

enum sp_arch { SP_ARCH_X86_64, SP_ARCH_AARCH64, SP_ARCH_COUNT };

enum sp_layer { SP_LAYER_TEMPLATE, SP_LAYER_INIT, SP_LAYER_EXEC, SP_LAYER_COUNT };

struct sp_syscall {
    const char *name;
    uint16_t nr;
};

int sp_seccomp_build(enum sp_arch arch, enum sp_layer layer, const struct sp_seccomp_policy *policy,
                     struct sp_filter *filter);
/* The table of one architecture, sorted by name. */
const struct sp_syscall *sp_seccomp_syscalls(enum sp_arch arch, size_t *count);
/* Calls each for every name in the policy. */
void sp_seccomp_each_name(void (*each)(const char *name, void *arg), void *arg);

#endif
