/*
 * Touches memory as fast as it can, and counts it in a page that it shares with whoever measures it:
 *     hog COUNTS WAY PROCESSES THREADS SLEEP_MS TWICE MOST
 * COUNTS: the file with the page. WAY: private, huge, shared or memfd. It notes when the sum has passed TWICE bytes,
 * and touches no more than MOST. For overshoot.py and tests/isolation/test_memory.py.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB (1L << 20)
#define PAGE 4096
#define STEP (MIB / 16) /* between two counts */
#define PART (64 * MIB) /* of one mapping */
#define FILE_PART (16 * MIB)

static struct counts {
    _Atomic long touched;       /* bytes */
    _Atomic long began, passed; /* CLOCK_MONOTONIC in ns; passed: 0 until then */
} *counts;
static long twice, most;
static const char *way;

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void count(void) {
    long sum = atomic_fetch_add(&counts->touched, STEP) + STEP;
    long never = 0;
    if (sum > twice) {
        atomic_compare_exchange_strong(&counts->passed, &never, now());
    }
    while (sum > most) {
        pause();
    }
}

/* Memory that is written, and never mapped. */
static void write_part(void) {
    static char text[STEP];
    int fd = memfd_create("hog", 0);
    for (long at = 0; at < FILE_PART && write(fd, text, sizeof text) == sizeof text; at += STEP) {
        count();
    }
}

static void touch_part(void) {
    int flags = (way[0] == 's' ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE;
    char *at = mmap(NULL, PART + 2 * MIB, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) {
        for (;;) {
            pause();
        }
    }
    if (way[0] == 'h') { /* from the first boundary of a huge page on */
        at += 2 * MIB - (long)((unsigned long)at % (unsigned long)(2 * MIB));
        madvise(at, PART, MADV_HUGEPAGE);
    }
    for (long i = 0; i < PART; i += PAGE) {
        at[i] = 1;
        if (i % STEP == 0) {
            count();
        }
    }
}

static void *work(void *unused) {
    for (;;) {
        if (way[0] == 'm') {
            write_part();
        } else {
            touch_part();
        }
    }
    return unused;
}

static long number(const char *text) { return strtol(text, NULL, 10); }

int main(int argc, char **argv) {
    if (argc != 8) {
        return 2;
    }
    int fd = open(argv[1], O_RDWR);
    counts = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    way = argv[2];
    twice = number(argv[6]);
    most = number(argv[7]);
    usleep((unsigned)number(argv[5]) * 1000);
    counts->began = now();
    for (int i = 1; i < number(argv[3]) && fork() != 0; i++) {
    }
    for (int i = 1; i < number(argv[4]); i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work, NULL);
    }
    work(NULL);
}
