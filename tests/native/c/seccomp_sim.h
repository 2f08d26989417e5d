/* Simulates how the kernel runs the layers of seccomp programs. */
#ifndef SANDPOOL_TESTS_SECCOMP_SIM_H
#define SANDPOOL_TESTS_SECCOMP_SIM_H

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "host/seccomp/seccomp.h"
#include "sandpool.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])
#define NR_END 1024
#define GARBAGE (UINT64_C(0xdeadbeef) << 32)
#define ERRNO(err) (SECCOMP_RET_ERRNO | (uint32_t)(err))

typedef struct sp_seccomp_policy policy_t;

static const policy_t essential = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true};
static const policy_t network = {.profile = SP_SECCOMP_NETWORK, .allow_fork = true};
static const policy_t no_fork = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = false};
static const policy_t no_setid = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .no_setid = true};
static const policy_t no_sync = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .pretend_sync = true};
static const policy_t no_filters = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .no_filters = true};
static const policy_t own_network = {.profile = SP_SECCOMP_NETWORK, .allow_fork = true, .own_network = true};
static const policy_t loopback = {.profile = SP_SECCOMP_NETWORK, .allow_fork = true, .list_interfaces = true};
static const policy_t with_unix = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .allow_unix_sockets = true};

static const char *const arch_words[] = {"x86_64", "aarch64"};
static const uint32_t arch_audit[] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64};
static const uint32_t arch_foreign[] = {AUDIT_ARCH_I386, AUDIT_ARCH_ARM};

struct layers {
    enum sp_arch arch;
    struct sp_filter filter[SP_LAYER_COUNT];
};

struct trace {
    bool arguments; /* the verdict depends on them */
    unsigned steps;
};

static inline struct layers build(enum sp_arch arch, const policy_t *policy) {
    struct layers l = {.arch = arch};
    for (int i = 0; i < SP_LAYER_COUNT; i++) {
        CHECK(sp_seccomp_build(arch, (enum sp_layer)i, policy, &l.filter[i]) == 0);
    }
    return l;
}

static inline void drop(struct layers *l) {
    for (int i = 0; i < SP_LAYER_COUNT; i++) {
        free(l->filter[i].insns);
    }
}

static inline bool jump(uint16_t code, uint32_t a, uint32_t k) {
    switch (BPF_OP(code)) {
    case BPF_JEQ:
        return a == k;
    case BPF_JGT:
        return a > k;
    case BPF_JGE:
        return a >= k;
    case BPF_JSET:
        return (a & k) != 0;
    default:
        printf("jump %#x\n", code);
        abort();
    }
}

/* The subset of instructions that the kernel allows in seccomp and that the builder uses; anything else aborts. */
static inline uint32_t run(const struct sp_filter *f, const struct seccomp_data *data, struct trace *trace) {
    uint32_t a = 0;
    for (uint32_t pc = 0; pc < f->len; pc++) {
        const struct sock_filter *i = &f->insns[pc];
        trace->steps++;
        if (i->code == (BPF_RET | BPF_K)) {
            return i->k;
        } else if (i->code == (BPF_LD | BPF_W | BPF_ABS) && i->k % 4 == 0 && i->k < sizeof *data) {
            memcpy(&a, (const char *)data + i->k, sizeof a);
            trace->arguments |= i->k >= offsetof(struct seccomp_data, args);
        } else if (i->code == (BPF_ALU | BPF_AND | BPF_K)) {
            a &= i->k;
        } else if (i->code == (BPF_JMP | BPF_JA)) {
            pc += i->k;
        } else if (BPF_CLASS(i->code) == BPF_JMP && BPF_SRC(i->code) == BPF_K) {
            pc += jump(i->code, a, i->k) ? i->jt : i->jf;
        } else {
            break;
        }
    }
    printf("not a program\n");
    abort();
}

/* As the kernel does: runs the filters from the newest to the oldest; only a stricter action replaces the verdict. */
static inline uint32_t combined(const struct layers *l, const struct seccomp_data *data, struct trace *trace) {
    uint32_t verdict = SECCOMP_RET_ALLOW;
    for (int i = SP_LAYER_COUNT - 1; i >= 0; i--) {
        if (l->filter[i].len != 0) {
            uint32_t one = run(&l->filter[i], data, trace);
            if ((int32_t)(one & SECCOMP_RET_ACTION_FULL) < (int32_t)(verdict & SECCOMP_RET_ACTION_FULL)) {
                verdict = one;
            }
        }
    }
    return verdict;
}

static inline uint32_t verdict_of(const struct layers *l, uint32_t arch, uint32_t nr) {
    struct trace trace = {0};
    return combined(l, &(struct seccomp_data){.arch = arch, .nr = (int)nr}, &trace);
}

static inline uint32_t number(enum sp_arch arch, const char *name) {
    size_t n;
    const struct sp_syscall *calls = sp_seccomp_syscalls(arch, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            return calls[i].nr;
        }
    }
    return UINT32_MAX;
}

static inline uint32_t call(const struct layers *l, const char *name, uint64_t a0, uint64_t a1, uint64_t a2) {
    struct trace trace = {0};
    struct seccomp_data data = {.arch = arch_audit[l->arch], .nr = (int)number(l->arch, name), .args = {a0, a1, a2}};
    return combined(l, &data, &trace);
}

#endif
