/*
 * Chains of processes that each live for a moment: relay COUNTS CHAINS PART. Each chain has PART bytes of shared memory,
 * which every process of it inherits; it touches some of it, forks once, and ends. In COUNTS, a file of one page, are
 * the time at which the first process ended and the time at which a process of a chain was last alive (CLOCK_MONOTONIC
 * in ns), and the number of bytes that were touched.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define STEP (64 * 1024L)

static struct counts {
    _Atomic long ended, last, touched;
} *counts;

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void run_chain(long part) {
    char *memory = mmap(NULL, (size_t)part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (long at = 0; memory != MAP_FAILED; at += STEP) {
        if (at + STEP <= part) {
            memset(memory + at, 1, STEP);
            atomic_fetch_add(&counts->touched, STEP);
        }
        atomic_store(&counts->last, now());
        pid_t child = -1;
        while (child == -1) { /* while the others are as many as there may be */
            child = fork();
        }
        if (child != 0) {
            _exit(0);
        }
    }
    _exit(1);
}

int main(int argc, char **argv) {
    int fd = argc == 4 ? open(argv[1], O_RDWR) : -1;
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd == -1 || counts == MAP_FAILED) {
        return 2;
    }
    for (int i = 0; i < atoi(argv[2]); i++) {
        if (fork() == 0) {
            run_chain(atol(argv[3]));
        }
    }
    usleep(20000);
    atomic_store(&counts->ended, now());
    return 0;
}
