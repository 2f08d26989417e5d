/* sources: csrc/stem/image.c csrc/init/lines.c csrc/common/fd.c */
/* The memory of an interpreter as a file: all copies read the same, and it stays what it was where a call is refused.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "check.h"
#include "common/fd.h"
#include "init/lines.h"
#include "init/plan.h"
#include "nth.h"
#include "refused.h"
#include "stem/process.h"

#define PAGE ((size_t)4096)
#define LARGE ((size_t)40 << 20) /* more than what the image is made for, and than one look takes */
#define SECRET (LARGE / 2)

static unsigned char *memory;
static struct sp_stem_part kept_out;

static unsigned char byte_at(size_t at) { return (unsigned char)(at / PAGE * 7 + at % PAGE + 1); }

static bool is_whole(void) {
    for (size_t at = 0; at < LARGE; at += PAGE / 2) {
        if (memory[at] != byte_at(at)) {
            return false;
        }
    }
    return true;
}

static unsigned char *fill(size_t len) {
    unsigned char *made = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t at = 0; made != MAP_FAILED && at < len; at += PAGE / 2) {
        made[at] = byte_at(at);
    }
    return made;
}

static void prepare(void) {
    CHECK(dup2(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), SP_PROC_FD) == SP_PROC_FD);
    memory = fill(LARGE);
    CHECK(memory != MAP_FAILED);
    kept_out = (struct sp_stem_part){(uintptr_t)memory + SECRET + 8, (uintptr_t)memory + SECRET + 3 * PAGE / 2};
}

static uint64_t make(void) { return sp_stem_make_image(&kept_out, 1); }

/* The inode of the file that is mapped at this place; 0: none. */
static uint64_t file_at(const void *place) {
    static struct sp_lines lines;
    uint64_t found = 0;
    sp_auto_fd int fd = sp_lines_open(&lines, SP_PROC_FD, "self/maps");
    for (const char *line; fd != -1 && (line = sp_lines_next(&lines)) != NULL;) {
        const uint64_t start = sp_number(&line, 16);
        const uint64_t end = sp_number(&line, 16);
        const char *inode = sp_next_word(sp_next_word(sp_next_word(line)));
        if ((uintptr_t)place >= start && (uintptr_t)place < end) {
            found = sp_number(&inode, 10);
        }
    }
    return found;
}

/* ---- what is in the file ---- */

static void all_but_what_is_kept_out(void) {
    prepare();
    const unsigned fds = count_low_fds();
    const uint64_t bytes = make();
    CHECK(bytes >= LARGE - 2 * PAGE && count_low_fds() == fds && is_whole());
    CHECK(file_at(memory) != 0 && file_at(memory + LARGE - 1) == file_at(memory));
    CHECK(file_at(memory + SECRET) == 0 && file_at(memory + SECRET + PAGE) == 0); /* two pages have a part of it */
    CHECK(file_at(memory + SECRET - 1) != 0 && file_at(memory + SECRET + 2 * PAGE) != 0);
}

/* By the file, a process reads what another one has at this place: not what that has written since. */
static void what_is_written_is_the_writers(void) {
    prepare();
    CHECK(make() != 0);
    const pid_t pid = fork();
    if (pid == 0) {
        memset(memory, 'x', PAGE);
        _exit(memory[0] == 'x' ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0 && is_whole());
    memset(memory, 'y', PAGE);
    CHECK(madvise(memory, PAGE, MADV_DONTNEED) == 0 && memory[0] == byte_at(0)); /* control: it is the file's */
}

/* Through /proc a copy gets the file itself, to write to. */
static void nobody_can_change_the_file(void) {
    char name[128];
    prepare();
    CHECK(make() != 0);
    (void)snprintf(name, sizeof name, "/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)memory,
                   (unsigned long)((uintptr_t)memory + SECRET));
    int fd = open(name, O_RDWR | O_CLOEXEC);
    if (fd != -1) { /* only root may open it there */
        CHECK(write(fd, "x", 1) == -1 && errno == EPERM && ftruncate(fd, 0) == -1 && errno == EPERM);
        CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    }
}

static void memory_with_other_flags_stays(void) {
    prepare();
    unsigned char *other = fill(LARGE);
    CHECK(madvise(other, LARGE, MADV_DONTFORK) == 0);
    unsigned char *small = fill(4 * PAGE);
    CHECK(madvise(small, 4 * PAGE, MADV_WIPEONFORK) == 0);
    unsigned char *unused = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)mprotect(unused, PAGE, PROT_NONE); /* so that it is no part of another mapping */
    CHECK(make() != 0 && file_at(memory) != 0);
    CHECK(file_at(other) == 0 && file_at(small) == 0 && file_at(unused + LARGE - 1) == 0);
}

/* Large gaps are no part of the file; small runs stay as they are. */
static void what_is_not_there_is_not_written(void) {
    prepare();
    const uintptr_t gap = (uintptr_t)memory + 100 * PAGE;
    CHECK(madvise((void *)gap, 100 * PAGE, MADV_DONTNEED) == 0);
    ((unsigned char *)gap)[50 * PAGE] = 1;
    CHECK(make() <= LARGE + ((uint64_t)8 << 20) && file_at(memory) != 0 && file_at((void *)(gap + 50 * PAGE)) == 0);
    CHECK(((unsigned char *)gap)[50 * PAGE] == 1 && ((unsigned char *)gap)[51 * PAGE] == 0);
}

static void a_small_interpreter_is_copied(void) {
    CHECK(dup2(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), SP_PROC_FD) == SP_PROC_FD);
    CHECK(make() == 0);
}

static void what_is_shared_is_what_the_interpreter_had(void) {
    CHECK(in_child(all_but_what_is_kept_out, 20) == 0 && in_child(what_is_written_is_the_writers, 20) == 0);
    CHECK(in_child(nobody_can_change_the_file, 20) == 0 && in_child(memory_with_other_flags_stays, 20) == 0);
    CHECK(in_child(what_is_not_there_is_not_written, 20) == 0 && in_child(a_small_interpreter_is_copied, 20) == 0);
}

/* ---- where it cannot be made ---- */

/* Where not all of it could be mapped, the sum is smaller. */
static int make_anyhow(void) {
    const uint64_t bytes = make();
    CHECK(is_whole());
    memory[0] ^= 1;
    CHECK((memory[0] ^ 1) == byte_at(0));
    memory[0] ^= 1;
    return bytes < LARGE - 2 * PAGE ? -ENOMEM : 0;
}

static void each_refused_call_leaves_the_memory_as_it_is(void) {
    static const long calls[] = {SYS_openat, SYS_memfd_create, SYS_write, SYS_mincore, SYS_mmap};
    const struct sweep sweep = {.prepare = prepare, .act = make_anyhow, .err = ENOMEM, .most = 40};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
}

/* What could be changed would be no copy. */
static void without_seals(void) {
    prepare();
    refuse(SYS_fcntl, EPERM);
    CHECK(make() == 0 && is_whole() && file_at(memory) == 0);
}

static void a_file_that_cannot_be_sealed_is_not_used(void) { CHECK(in_child(without_seals, 20) == 0); }

/* The signal of the limit would end the process, which has no handler for it. */
static void below_a_limit(void) {
    const struct rlimit limit = {1 << 20, 1 << 20};
    prepare();
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0 && signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    CHECK(make() == 0 && is_whole() && file_at(memory) == 0);
    CHECK(signal(SIGXFSZ, SIG_DFL) == SIG_DFL); /* commands have it as before */
}

static void a_limit_of_the_host_leaves_the_memory_as_it_is(void) { CHECK(in_child(below_a_limit, 20) == 0); }

int main(void) {
    check_deadline(200);
    RUN(what_is_shared_is_what_the_interpreter_had);
    RUN(each_refused_call_leaves_the_memory_as_it_is);
    RUN(a_file_that_cannot_be_sealed_is_not_used);
    RUN(a_limit_of_the_host_leaves_the_memory_as_it_is);
    return check_report();
}
