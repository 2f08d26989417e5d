/* sources: csrc/host/seccomp */
/* System calls with many options: the verdict on each option by its number, compared with ../golden/ (--update rewrites
 * it), and checks of single options. */
#include <fcntl.h>

#include "check.h"
#include "common/kill_mark.h"
#include "golden.h"
#include "host/seccomp/leaf.h"
#include "seccomp_sim.h"

#define SCANNED 0x10000u

static bool update;

/* One call, and which of its arguments holds the number of the option. */
struct question {
    const char *call;
    const char *what;       /* describes the other arguments */
    const uint64_t *larger; /* numbers from SCANNED on that are tried; 0 ends them */
    uint64_t args[6];
    unsigned arg;
    bool mask;   /* the number is a mask: each bit is tried alone */
    uint32_t nr; /* of the call, once it was looked up: each question is asked some 100,000 times */
};

static uint32_t ask(const struct layers *l, const struct question *q, uint64_t number_of_option) {
    struct trace trace = {0};
    struct seccomp_data data = {.arch = arch_audit[l->arch], .nr = (int)q->nr};
    memcpy(data.args, q->args, sizeof data.args);
    data.args[q->arg] = number_of_option;
    return combined(l, &data, &trace);
}

static void print_line(FILE *out, const struct layers *l, const struct question *q, const uint64_t range[2]) {
    uint32_t verdict = ask(l, q, range[0]);
    uint32_t above = ask(l, q, range[0] | GARBAGE);
    char numbers[48];
    snprintf(numbers, sizeof numbers, range[0] == range[1] ? "%#llx" : "%#llx - %#llx", (unsigned long long)range[0],
             (unsigned long long)range[1]);
    fprintf(out, "    %-22s %s", numbers, word(verdict));
    fprintf(out, above == verdict ? "\n" : "; with garbage above: %s\n", word(above));
}

static void print_bits(FILE *out, const struct layers *l, const struct question *q) {
    fprintf(out, "%s %s, by the bits of argument %u\n", q->call, q->what, q->arg);
    fprintf(out, "    %-22s %s\n", "0", word(ask(l, q, 0)));
    for (unsigned bit = 0; bit < 64; bit++) {
        fprintf(out, "    %#-22llx %s\n", 1ull << bit, word(ask(l, q, UINT64_C(1) << bit)));
    }
}

/* Consecutive numbers with the same verdict are one line. */
static void print_question(FILE *out, const struct layers *l, const struct question *q) {
    uint64_t range[2] = {0, 0};
    fprintf(out, "%s%s%s, by argument %u\n", q->call, q->what != NULL ? " " : "", q->what != NULL ? q->what : "",
            q->arg);
    uint32_t verdict = ask(l, q, 0);
    uint32_t above = ask(l, q, GARBAGE);
    for (uint64_t i = 1; i <= SCANNED; i++) {
        uint32_t next = i < SCANNED ? ask(l, q, i) : 0;
        uint32_t next_above = i < SCANNED ? ask(l, q, i | GARBAGE) : 0;
        bool alike = i < SCANNED && next == verdict && next_above == above;
        verdict = next;
        above = next_above;
        if (!alike) {
            range[1] = i - 1;
            print_line(out, l, q, range);
            range[0] = i;
        }
    }
    for (const uint64_t *at = q->larger; at != NULL && *at != 0; at++) {
        print_line(out, l, q, (const uint64_t[]){*at, *at});
    }
}

static const uint64_t larger_prctls[] = {0x41555856, 0x53564d41 /* SET_VMA */, 0x59616d61, 0x7fffffff, 0xffffffff, 0};
static const uint64_t larger_requests[] = {0x40045431 /* TIOCSPTLCK */,
                                           0x40045436 /* TIOCSIG */,
                                           0x40049409 /* FICLONE */,
                                           0x4020940d /* FICLONERANGE */,
                                           0xc0189436 /* FIDEDUPERANGE */,
                                           0x402c542b /* TCSETS2 */,
                                           0x802c542a /* TCGETS2 */,
                                           0x80045430 /* TIOCGPTN */,
                                           0x80086601 /* FS_IOC_GETFLAGS */,
                                           0x40086602 /* FS_IOC_SETFLAGS */,
                                           0x801c581f /* FS_IOC_FSGETXATTR */,
                                           0x401c5820 /* FS_IOC_FSSETXATTR */,
                                           0xc020660b /* FS_IOC_FIEMAP */,
                                           0xc028660f /* EXT4_IOC_MOVE_EXT */,
                                           0xc0c0586d /* XFS_IOC_SWAPEXT */,
                                           0x40285881 /* XFS_IOC_EXCHANGE_RANGE */,
                                           0x40806685 /* FS_IOC_ENABLE_VERITY */,
                                           0x50009401 /* BTRFS_IOC_SNAP_CREATE */,
                                           0xc400941a /* BTRFS_IOC_SPACE... */,
                                           0xc0045877 /* FIFREEZE */,
                                           0xc0185879 /* FITRIM */,
                                           0x80081272 /* BLKGETSIZE64 */,
                                           0xc018aa3f /* UFFDIO_API */,
                                           0xc0502100 /* SECCOMP_IOCTL_NOTIF_RECV */,
                                           0x80045200 /* RNDGETENTCNT */,
                                           0xffffffff,
                                           0};

static const struct question questions[] = {
    {"prctl", NULL, larger_prctls, {0}, 0, false, 0},
    {"arch_prctl", NULL, NULL, {0}, 0, false, 0},
    {"madvise", NULL, NULL, {0}, 2, false, 0},
    {"renameat2", NULL, NULL, {0}, 4, false, 0},
    {"fcntl", NULL, NULL, {0}, 1, false, 0},
    {"ioctl", NULL, larger_requests, {0}, 1, false, 0},
    {"setsockopt", NULL, NULL, {0}, 1, false, 0},
    {"setsockopt", "SOL_SOCKET", NULL, {3, 1}, 2, false, 0},
    {"setsockopt", "TCP", NULL, {3, 6}, 2, false, 0},
    {"setsockopt", "IP", NULL, {3, 0}, 2, false, 0},
    {"setsockopt", "IPV6", NULL, {3, 41}, 2, false, 0},
    {"setsockopt", "UDP", NULL, {3, 17}, 2, false, 0},
    {"seccomp", NULL, NULL, {0}, 0, false, 0},
    {"seccomp", "SET_MODE_FILTER", NULL, {1}, 1, true, 0},
    {"ptrace", NULL, NULL, {0}, 0, false, 0},
    {"ptrace", "OLDSETOPTIONS", NULL, {21}, 3, true, 0},
    {"ptrace", "SETOPTIONS", NULL, {0x4200}, 3, true, 0},
    {"ptrace", "SEIZE", NULL, {0x4206}, 3, true, 0},
    {"kcmp", NULL, NULL, {0}, 2, false, 0},
};

static void compare(const struct layers *l, const char *profile) {
    char name[64];
    char *text = NULL;
    size_t len = 0;
    snprintf(name, sizeof name, "options_%s_%s.txt", arch_words[l->arch], profile);
    FILE *now = open_memstream(&text, &len);
    for (size_t i = 0; i < LENGTH(questions); i++) {
        struct question q = questions[i];
        q.nr = number(l->arch, q.call);
        if (q.nr != UINT32_MAX) {
            (q.mask ? print_bits : print_question)(now, l, &q);
        }
    }
    fclose(now);
    compare_golden(__FILE__, name, text, update);
    free(text);
}

static void test_every_option(void) {
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers e = build((enum sp_arch)i, &essential), n = build((enum sp_arch)i, &network);
        compare(&e, "essential");
        compare(&n, "network");
        drop(&e);
        drop(&n);
    }
}

/* A binary search needs the ranges in order. */
static void test_order(void) {
    for (int leaf = 0; leaf < LEAF_COUNT; leaf++) {
        const struct options *o = sp_seccomp_options((enum leaf)leaf);
        for (uint32_t i = 0; o != NULL && i < o->n; i++) {
            CHECK(o->ranges[i].first <= o->ranges[i].last);
            CHECK(i == 0 || o->ranges[i - 1].last < o->ranges[i].first);
        }
    }
}

/* The kernel may send the signals of a descriptor to any process but init and its group. */
static void test_owners(void) {
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers l = build((enum sp_arch)i, &essential);
        CHECK(call(&l, "fcntl", 3, 8, 1) == ERRNO(EPERM) && call(&l, "fcntl", 3, 8, 1 | GARBAGE) == ERRNO(EPERM));
        CHECK(call(&l, "fcntl", 3, 8, (uint64_t)-1) == ERRNO(EPERM) &&
              call(&l, "fcntl", 3, 8, 0xffffffff) == ERRNO(EPERM));
        CHECK(call(&l, "fcntl", 3, 8, 2) == SECCOMP_RET_ALLOW && call(&l, "fcntl", 1, 8, 0) == SECCOMP_RET_ALLOW);
        CHECK(call(&l, "fcntl", 3, 15, 0) == ERRNO(EINVAL));
        drop(&l);
    }
}

static uint32_t trace(const struct layers *l, uint64_t request, uint64_t options) {
    struct question q = {"ptrace", NULL, NULL, {request, 7}, 3, false, number(l->arch, "ptrace")};
    return ask(l, &q, options);
}

/* No tracer can have a dying process stopped (PTRACE_O_TRACEEXIT), whatever other options it sets with that. */
static void test_no_stop_at_exit(void) {
    static const uint64_t requests[] = {21, 0x4200, 0x4206};
    static const char *const way_back[] = {"ptrace"};
    const uint64_t of_gdb = 0x10007f & ~UINT64_C(0x40);
    const uint64_t exit = 0x40, suspend_seccomp = 1 << 21;
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers l = build((enum sp_arch)i, &essential), n = build((enum sp_arch)i, &network);
        for (size_t k = 0; k < LENGTH(requests); k++) {
            uint32_t refused = requests[k] == 0x4206 ? ERRNO(EIO) : ERRNO(EINVAL);
            CHECK(trace(&l, requests[k], 0) == SECCOMP_RET_ALLOW &&
                  trace(&l, requests[k], of_gdb) == SECCOMP_RET_ALLOW);
            CHECK(trace(&l, requests[k], exit) == refused && trace(&n, requests[k], exit | of_gdb) == refused);
            CHECK(trace(&l, requests[k], exit | GARBAGE) == refused && trace(&l, requests[k], GARBAGE) == refused);
            CHECK(trace(&l, requests[k] | GARBAGE, exit) == ERRNO(EIO));
            CHECK(trace(&l, requests[k], suspend_seccomp) == refused);
        }
        policy_t by_name = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .allow = way_back, .n_allow = 1};
        struct layers open = build((enum sp_arch)i, &by_name);
        CHECK(trace(&open, 0x4206, exit) == SECCOMP_RET_ALLOW);
        drop(&open);
        CHECK(trace(&l, 16 /* ATTACH */, exit) ==
              SECCOMP_RET_ALLOW); /* there the argument is a signal, or is ignored */
        drop(&l);
        drop(&n);
    }
}

/* A tenant may install filters, but not with flags that log them or create listeners, unless seccomp is allowed by
 * name. */
static void test_filters(void) {
    static const uint64_t flags[] = {0, 1, 4, 0x11, 0x15};
    static const uint64_t refused[] = {2, 8, 0x20, 0x28, 0x40, 0x1d, 0x80000000};
    static const char *const way_back[] = {"seccomp"};
    policy_t by_name = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .allow = way_back, .n_allow = 1};
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers l = build((enum sp_arch)i, &essential), open = build((enum sp_arch)i, &by_name);
        for (size_t k = 0; k < LENGTH(flags); k++) {
            CHECK(call(&l, "seccomp", 1 | GARBAGE, flags[k] | GARBAGE, 0) == SECCOMP_RET_ALLOW);
        }
        for (size_t k = 0; k < LENGTH(refused); k++) {
            CHECK(call(&l, "seccomp", 1 | GARBAGE, refused[k] | GARBAGE, 0) == ERRNO(EINVAL));
            CHECK(call(&open, "seccomp", 1, refused[k], 0) == SECCOMP_RET_ALLOW);
        }
        drop(&l);
        drop(&open);
    }
}

/* Where init needs a listener, the template lets it have one, and the layer of init is the last that does. */
static void test_listener(void) {
    static const uint64_t listener[] = {8, 0x20, 0x28};
    policy_t supervised = {
        .profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .shares_host = true, .supervised = true};
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers all = build((enum sp_arch)i, &supervised);
        struct layers early = all;
        early.filter[SP_LAYER_INIT].len = 0;
        for (size_t k = 0; k < LENGTH(listener); k++) {
            CHECK(call(&early, "seccomp", 1 | GARBAGE, listener[k] | GARBAGE, 0) == SECCOMP_RET_ALLOW);
            CHECK(call(&all, "seccomp", 1 | GARBAGE, listener[k] | GARBAGE, 0) == ERRNO(EINVAL));
        }
        CHECK(call(&early, "seccomp", 1, 2, 0) == ERRNO(EINVAL));
        CHECK(call(&all, "seccomp", 1, 1, 0) == SECCOMP_RET_ALLOW &&
              call(&all, "seccomp", 2, 8, 0) == SECCOMP_RET_ALLOW);
        CHECK(call(&all, "fchmodat", 0, 0, 0755) == SECCOMP_RET_ALLOW);
        drop(&all);
    }
}

/* Huge pages, which init cannot count, can be given up and not be taken back. */
static void test_huge_pages(void) {
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers l = build((enum sp_arch)i, &essential);
        CHECK(call(&l, "prctl", 41, 1, 0) == SECCOMP_RET_ALLOW && call(&l, "prctl", 42, 0, 0) == SECCOMP_RET_ALLOW);
        CHECK(call(&l, "prctl", 41, 0, 0) == ERRNO(0) && call(&l, "prctl", 41 | GARBAGE, GARBAGE, 0) == ERRNO(0));
        CHECK(call(&l, "prctl", 41, 1, 2) == ERRNO(0) && call(&l, "prctl", 41, 1, GARBAGE) == ERRNO(0));
        drop(&l);
    }
}

/* Landlock does not judge who reads the attributes of a path. Where it is alone nobody does, whatever is allowed. */
static void test_attributes_of_paths(void) {
    static const char *const of_path[] = {"getxattr", "lgetxattr", "listxattr", "llistxattr"};
    static const char *const newer[] = {"getxattrat", "listxattrat"};
    for (int i = 0; i < 2 * SP_ARCH_COUNT; i++) {
        const bool alone = i % 2 == 1;
        policy_t plain = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .shares_host = alone};
        policy_t more = plain;
        more.allow = newer;
        more.n_allow = LENGTH(newer);
        struct layers l = build((enum sp_arch)(i / 2), &plain);
        struct layers by_name = build((enum sp_arch)(i / 2), &more);
        const uint32_t verdict = alone ? ERRNO(EOPNOTSUPP) : SECCOMP_RET_ALLOW;
        for (size_t k = 0; k < LENGTH(of_path); k++) {
            CHECK(call(&l, of_path[k], 0, 0, 0) == verdict && call(&by_name, of_path[k], 0, 0, 0) == verdict);
        }
        for (size_t k = 0; k < LENGTH(newer); k++) {
            CHECK(call(&l, newer[k], 0, 0, 0) == ERRNO(ENOSYS) && call(&by_name, newer[k], 0, 0, 0) == verdict);
        }
        CHECK(call(&l, "fgetxattr", 0, 0, 0) == SECCOMP_RET_ALLOW);
        drop(&l);
        drop(&by_name);
    }
}

/* Before ABI 6 the supervisor judges signals. What would pass it by is refused to commands, and only to them. */
static void test_signals(void) {
    policy_t grouped = {.profile = SP_SECCOMP_ESSENTIAL,
                        .allow_fork = true,
                        .shares_host = true,
                        .supervised = true,
                        .one_group = true};
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers all = build((enum sp_arch)i, &grouped);
        struct layers of_init = all;
        of_init.filter[SP_LAYER_EXEC].len = 0;
        CHECK(call(&all, "kill", 7, 9, SP_KILL_MARK | GARBAGE) == ERRNO(EPERM));
        CHECK(call(&of_init, "kill", 7, 9, SP_KILL_MARK) == SECCOMP_RET_ALLOW);
        CHECK(call(&all, "kill", 7, 9, 0) == SECCOMP_RET_ALLOW && call(&all, "tgkill", 7, 7, 9) == SECCOMP_RET_ALLOW);
        CHECK(call(&all, "pidfd_send_signal", 7, 9, 0) == ERRNO(EPERM));
        CHECK(call(&all, "setsid", 0, 0, 0) == ERRNO(0) && call(&all, "setpgid", 0, 0, 0) == ERRNO(0));
        CHECK(call(&of_init, "setsid", 0, 0, 0) == SECCOMP_RET_ALLOW);
        drop(&all);
    }
}

/* Landlock sees a truncation since ABI 3. Before, a file that is open for reading would pass it by. */
static void test_truncation(void) {
    policy_t old = {.profile = SP_SECCOMP_ESSENTIAL,
                    .shares_host = true,
                    .supervised = true,
                    .no_setid = true,
                    .old_truncate = true};
    policy_t newer = {.profile = SP_SECCOMP_ESSENTIAL, .shares_host = true, .supervised = true, .no_setid = true};
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers before = build((enum sp_arch)i, &old);
        struct layers since = build((enum sp_arch)i, &newer);
        CHECK(call(&before, "openat", 0, 0, O_RDONLY | O_TRUNC | GARBAGE) == ERRNO(EPERM));
        CHECK(call(&since, "openat", 0, 0, O_RDONLY | O_TRUNC) == SECCOMP_RET_ALLOW);
        CHECK(call(&before, "openat", 0, 0, O_WRONLY | O_TRUNC) == SECCOMP_RET_ALLOW);
        CHECK(call(&before, "openat", 0, 0, O_RDWR | O_TRUNC) == SECCOMP_RET_ALLOW);
        CHECK(call(&before, "openat", 0, 0, O_RDONLY) == SECCOMP_RET_ALLOW);
        CHECK(call(&before, "truncate", 0, 0, 0) == ERRNO(EPERM));
        CHECK(call(&since, "truncate", 0, 0, 0) == SECCOMP_RET_ALLOW);
        CHECK(i != SP_ARCH_X86_64 || (call(&before, "open", 0, O_RDONLY | O_TRUNC, 0) == ERRNO(EPERM) &&
                                      call(&before, "open", 0, O_RDWR | O_TRUNC, 0) == SECCOMP_RET_ALLOW &&
                                      call(&since, "open", 0, O_RDONLY | O_TRUNC, 0) == SECCOMP_RET_ALLOW));
        /* Signals and groups stay as they are: that is the policy before ABI 6. */
        CHECK(call(&before, "setsid", 0, 0, 0) == SECCOMP_RET_ALLOW);
        drop(&before);
        drop(&since);
    }
}

static bool takes_filters(const struct layers *l) {
    uint32_t one = call(l, "seccomp", 1 | GARBAGE, 0, 0), other = call(l, "prctl", 22 | GARBAGE, 2 | GARBAGE, 0);
    CHECK(one == other && (one == SECCOMP_RET_ALLOW || one == ERRNO(EINVAL)));
    CHECK(call(l, "seccomp", 0, 0, 0) == SECCOMP_RET_ALLOW && call(l, "seccomp", 2, 0, 0) == SECCOMP_RET_ALLOW);
    CHECK(call(l, "prctl", 22, 1, 0) == SECCOMP_RET_ALLOW && call(l, "prctl", 21, 2, 0) == SECCOMP_RET_ALLOW);
    return one == SECCOMP_RET_ALLOW;
}

/* The last of our layers refuses new filters, and none before it does. */
static void test_no_filters(void) {
    static const char *const way_back[] = {"seccomp"};
    policy_t single = {.profile = SP_SECCOMP_ESSENTIAL, .no_filters = true};
    policy_t by_name = {.profile = SP_SECCOMP_ESSENTIAL, .no_filters = true, .allow = way_back, .n_allow = 1};
    for (int i = 0; i < SP_ARCH_COUNT; i++) {
        struct layers all[] = {build((enum sp_arch)i, &no_filters), build((enum sp_arch)i, &single),
                               build((enum sp_arch)i, &by_name), build((enum sp_arch)i, &essential)};
        CHECK(!takes_filters(&all[0]) && !takes_filters(&all[1]));
        CHECK(takes_filters(&all[2]) && takes_filters(&all[3]));
        for (size_t k = 0; k < 2; k++) {
            struct layers last = all[k];
            last.filter[k == 0 ? SP_LAYER_INIT : SP_LAYER_EXEC].len = 0;
            CHECK(takes_filters(&last));
        }
        for (size_t k = 0; k < LENGTH(all); k++) {
            drop(&all[k]);
        }
    }
}

int main(int argc, char **argv) {
    update = argc > 1 && strcmp(argv[1], "--update") == 0;
    RUN(test_order);
    RUN(test_every_option);
    RUN(test_owners);
    RUN(test_filters);
    RUN(test_listener);
    RUN(test_huge_pages);
    RUN(test_attributes_of_paths);
    RUN(test_signals);
    RUN(test_truncation);
    RUN(test_no_filters);
    RUN(test_no_stop_at_exit);
    return check_report();
}
