#include "init/machine.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "init/lines.h"
#include "init/proc.h"

#define KIB UINT64_C(1024)
#define SOMETIMES_NS SP_MS(5)

uint64_t sp_machine_shared(void) {
    struct sysinfo info;
    return sysinfo(&info) == 0 ? (uint64_t)info.sharedram * info.mem_unit : 0;
}

static uint64_t sum_of(const char *text, const char *const *names, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t kib = 0;
        sum += sp_find_number(text, names[i], &kib) ? kib : 0;
    }
    return sum * KIB;
}

struct sp_machine_kernel sp_machine_kernel(int meminfo) {
    static const char *const of_others[] = {
        "\nMemFree:", "\nBuffers:", "\nCached:", "\nSwapCached:", "\nAnonPages:", "\nSReclaimable:"};
    static const char *const of_objects[] = {"\nSUnreclaim:", "\nVmallocUsed:"};
    char text[4096];
    uint64_t total = 0;
    text[0] = '\n'; /* so that a newline precedes the first line, too */
    if (!sp_read_again(meminfo, text + 1, sizeof text - 1) || !sp_find_number(text, "\nMemTotal:", &total)) {
        return (struct sp_machine_kernel){0};
    }
    uint64_t others = sum_of(text, of_others, sizeof of_others / sizeof of_others[0]);
    return (struct sp_machine_kernel){
        .used = total * KIB > others ? total * KIB - others : 0,
        .objects = sum_of(text, of_objects, sizeof of_objects / sizeof of_objects[0]),
    };
}

void sp_machine_read_sometimes(struct sp_machine_reading *reading, int proc) {
    const int64_t now = sp_now();
    if (reading->at == 0 || now - reading->at > SOMETIMES_NS) {
        sp_auto_fd int meminfo = openat(proc, "meminfo", O_RDONLY | O_CLOEXEC);
        *reading = (struct sp_machine_reading){.kernel = sp_machine_kernel(meminfo), .at = now};
    }
}

/* "              count:    123", see proc_zoneinfo(5) */
uint64_t sp_machine_free_lists(int proc) {
    struct sp_lines lines;
    const char *line;
    uint64_t pages = 0;
    sp_auto_fd int fd = sp_lines_open(&lines, proc, "zoneinfo");
    while (fd != -1 && (line = sp_lines_next(&lines)) != NULL) {
        uint64_t count = 0;
        pages += sp_find_number(line, " count:", &count) ? count : 0;
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

unsigned sp_machine_processors(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 ? (unsigned)n : 1;
}
