/*
 * What the seccomp filter costs: the same program with the tenant's filter and without, outside any sandbox.
 *
 *   filter_bench exec 0|1 PROGRAM ARGUMENT...   becomes the program, with the filter (1) or without
 *   filter_bench loop NAME N                    N calls of NAME; prints nanoseconds of cpu time per call
 */
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "host/seccomp/seccomp.h"
#include "sandpool.h"

static int zero, null;

static void getppid_call(void) { (void)syscall(SYS_getppid); }
static void read_write(void) {
    char byte;
    (void)!read(zero, &byte, 1);
    (void)!write(null, &byte, 1);
}
static void status(void) {
    struct stat st;
    (void)fstat(zero, &st);
}
static void control(void) { (void)fcntl(zero, F_GETFL); }
static void map(void) { munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096); }
static void reopen(void) { close(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

static const struct {
    const char *name;
    void (*call)(void);
} loops[] = {{"getppid", getppid_call}, {"read+write", read_write}, {"fstat", status},
             {"fcntl", control},        {"mmap+munmap", map},       {"open+close", reopen}};

static int run_loop(const char *name, long n) {
    zero = open("/dev/zero", O_RDONLY);
    null = open("/dev/null", O_WRONLY);
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        if (strcmp(loops[i].name, name) == 0) {
            struct timespec from, to;
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
            for (long k = 0; k < n; k++) {
                loops[i].call();
            }
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
            double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
            printf("%.2f\n", ns / (double)n);
            return 0;
        }
    }
    return 2;
}

/* Template and init, as a sandbox whose configuration is the default one has them. */
static int install(void) {
    const struct sp_seccomp_policy policy = {.profile = SP_SECCOMP_ESSENTIAL, .allow_fork = true, .pretend_sync = true};
    struct sp_filter filters[2];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || sp_seccomp_template(&policy, &filters[0]) != 0 ||
        sp_seccomp_init(&policy, &filters[1]) != 0) {
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        struct sock_fprog program = {filters[i].len, filters[i].insns};
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "loop") == 0) {
        return run_loop(argv[2], strtol(argv[3], NULL, 10));
    }
    if (argc < 4 || strcmp(argv[1], "exec") != 0 || (argv[2][0] == '1' && install() != 0)) {
        return 2;
    }
    execv(argv[3], argv + 3);
    return 127;
}
