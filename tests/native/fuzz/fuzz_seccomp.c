/*
 * The filters of any policy: the kernel accepts each program, each jump stays inside it, and each call gets one of the
 * few verdicts that a policy can give.
 */
#include <errno.h>

#include "fuzz.h"
#include "seccomp_sim.h"

/* Checks what seccomp_check_filter() and bpf_check_classic() of the kernel demand. */
static void check_program(const struct sp_filter *filter) {
    for (uint32_t pc = 0; pc < filter->len; pc++) {
        const struct sock_filter *i = &filter->insns[pc];
        const uint32_t left = filter->len - pc - 1;

        if (BPF_CLASS(i->code) == BPF_LD) {
            MUST(i->code == (BPF_LD | BPF_W | BPF_ABS) && i->k % 4 == 0 && i->k < sizeof(struct seccomp_data));
        } else if (i->code == (BPF_JMP | BPF_JA)) {
            MUST(i->k < left);
        } else if (BPF_CLASS(i->code) == BPF_JMP) {
            MUST(i->jt < left && i->jf < left);
        } else if (BPF_CLASS(i->code) == BPF_RET) {
            MUST(i->code == (BPF_RET | BPF_K));
        } else {
            MUST(i->code == (BPF_ALU | BPF_AND | BPF_K));
        }
    }
    MUST(filter->len == 0 || BPF_CLASS(filter->insns[filter->len - 1].code) == BPF_RET);
    MUST(filter->len <= BPF_MAXINSNS);
}

static void check_verdict(const struct layers *l, const struct seccomp_data *data) {
    struct trace trace = {0};
    const uint32_t verdict = combined(l, data, &trace);
    const uint32_t action = verdict & SECCOMP_RET_ACTION_FULL;
    const uint32_t err = verdict & SECCOMP_RET_DATA;
    const uint32_t nr = (uint32_t)data->nr;
    /* Calls that may succeed without an effect: limits of core files, undumpability, a socket's buffer, advice. */
    static const char *const names[] = {"setrlimit", "prlimit64", "prctl", "setsockopt", "fadvise64", "madvise"};
    bool pretends = false;

    for (size_t i = 0; i < LENGTH(names); i++) {
        pretends |= nr == number(l->arch, names[i]);
    }

    MUST(verdict == SECCOMP_RET_ALLOW || action == SECCOMP_RET_KILL_PROCESS ||
         (action == SECCOMP_RET_ERRNO && err < 4096 && (err != 0 || pretends)));
    MUST(data->arch == arch_audit[l->arch] || action == SECCOMP_RET_KILL_PROCESS);
    MUST(trace.steps < 200); /* the search is binary, and few instructions check arguments */
}

/* The programs of one policy. Each is built and checked once. */
static const struct layers *layers_of(uint8_t bits) {
    static struct layers kept[256];
    static bool built[256];
    const policy_t policy = {.profile = bits >> 4 & 3,
                             .list_interfaces = (bits & 64) != 0,
                             .allow_fork = (bits & 1) != 0,
                             .allow_unix_sockets = (bits & 2) != 0,
                             .no_setid = (bits & 4) != 0};
    struct layers *l = &kept[bits];

    l->arch = (bits & 8) != 0 ? SP_ARCH_AARCH64 : SP_ARCH_X86_64;
    for (int i = 0; i < SP_LAYER_COUNT && !built[bits]; i++) {
        int rc = sp_seccomp_build(l->arch, (enum sp_layer)i, &policy, &l->filter[i]);
        MUST(policy.profile <= SP_SECCOMP_NETWORK ? rc == 0 : rc == -EINVAL);
        check_program(&l->filter[i]);
    }
    built[bits] = true;
    return policy.profile <= SP_SECCOMP_NETWORK ? l : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct feed feed = {data, size};
    const struct layers *l = layers_of(feed_byte(&feed));

    while (l != NULL && feed.left != 0) {
        struct seccomp_data call = {.arch = arch_audit[l->arch], .nr = (int)(feed_number(&feed, 2) % NR_END)};
        const uint8_t how = feed_byte(&feed);

        for (unsigned i = 0; i < 6; i++) {
            call.args[i] = (how >> i & 1) != 0 ? feed_number(&feed, 8) : feed_byte(&feed);
        }
        call.nr = (how & 64) != 0 ? (int)feed_number(&feed, 4) : call.nr;
        call.arch = (how & 128) != 0 ? (uint32_t)feed_number(&feed, 4) : call.arch;
        check_verdict(l, &call);
    }
    return 0;
}
