/*
 * The image: the interpreter's memory as a file, of which all copies have a private mapping.
 *
 * A fork copies the entry of each anonymous page in the page tables, and the end of the process frees each of them.
 * With numpy and pandas these are 11,000, and each sandbox pays twice, for its init and for its standby. Of the mapping
 * of a file to which the process has not written, nothing is copied. So once the interpreter has stopped, the stem
 * writes its memory to a file, and maps that in its place. A page that a copy reads is then mapped when it is needed,
 * with its neighbours; one that it writes to is copied, as before.
 *
 * A tenant can reach the whole file from each of its mappings (mremap(2)), and get back what it has overwritten in them
 * (madvise(2)). So the file contains nothing that a tenant may not see. It is sealed: nobody can change it.
 */
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "init/lines.h"
#include "stem/process.h"
#include "zygote/zygote.h"

#define BYTES_MIN ((size_t)16 << 20) /* with less, the pages that have to be mapped later take longer */
#define RUN_PAGES_MIN 24             /* each mapping takes time, too */
#define GAP_PAGES_MAX 16
#define CHUNK_PAGES 16384
#define RUNS_MAX 1024

/* Pages that are there, with small gaps. */
struct run {
    uintptr_t start, end;
};

struct image {
    const struct sp_stem_part *kept_out;
    size_t n_kept_out, page;
    struct run runs[RUNS_MAX];
    unsigned n_runs;
    size_t bytes;
};

static bool is_kept_out(const struct image *image, uintptr_t at) {
    for (size_t i = 0; i < image->n_kept_out; i++) {
        if (at + image->page > image->kept_out[i].start && at < image->kept_out[i].end) {
            return true;
        }
    }
    return false;
}

static void add_run(struct image *image, const struct run *run) {
    if (run->end - run->start >= RUN_PAGES_MIN * image->page && image->n_runs < RUNS_MAX) {
        image->runs[image->n_runs++] = *run;
        image->bytes += run->end - run->start;
    }
}

static void add_chunk(struct image *image, uintptr_t start, uintptr_t end) {
    static unsigned char resident[CHUNK_PAGES];
    struct run run = {0, 0};
    if (mincore((void *)start, end - start, resident) != 0) {
        return;
    }
    for (uintptr_t at = start; at < end; at += image->page) {
        const bool kept_out = is_kept_out(image, at);
        const bool is_here = !kept_out && (resident[(at - start) / image->page] & 1) != 0;
        if (run.start != 0 && (kept_out || at - run.end > GAP_PAGES_MAX * image->page)) {
            add_run(image, &run);
            run.start = 0;
        }
        run.start = is_here && run.start == 0 ? at : run.start;
        run.end = is_here ? at + image->page : run.end;
    }
    if (run.start != 0) {
        add_run(image, &run);
    }
}

static void add_mapping(struct image *image, const struct run *mapping) {
    for (uintptr_t at = mapping->start; at < mapping->end;) {
        const size_t most = CHUNK_PAGES * image->page;
        const uintptr_t end = mapping->end - at > most ? at + most : mapping->end;
        add_chunk(image, at, end);
        at = end;
    }
}

/* "7f18bf565000-7f18bf566000 rw-p 00000000 00:00 0    [heap]", see proc_pid_maps(5). Whether this is private memory
 * that is written to, and of no file. */
static bool is_plain(const char *line, struct run *mapping) {
    mapping->start = (uintptr_t)sp_number(&line, 16);
    mapping->end = (uintptr_t)sp_number(&line, 16);
    if (strncmp(line, "rw-p", 4) != 0) {
        return false;
    }
    for (int word = 0; word < 4; word++) {
        line = sp_next_word(line);
    }
    return *line == '\0' || strcmp(line, "[heap]") == 0 || strncmp(line, "[anon:", 6) == 0;
}

/* Whether a mapping of a file can have all of these flags, too. Others are lost: a library may rely on memory that is
 * not copied by a fork ("dc"), or that is zero after it ("wf"). */
static bool are_usual(const char *flags) {
    static const char *const usual = " rd wr mr mw me ac nr sd hg nh ";
    for (flags = sp_next_word(flags); *flags != '\0'; flags = sp_next_word(flags)) {
        const char flag[] = {' ', flags[0], flags[1], ' ', '\0'};
        if (strstr(usual, flag) == NULL) {
            return false;
        }
    }
    return true;
}

static void find_runs(struct image *image) {
    static struct sp_lines lines;
    struct run mapping;
    bool plain = false;
    const uintptr_t stack = (uintptr_t)&mapping;
    sp_auto_fd int fd = sp_lines_open(&lines, SP_PROC_FD, "self/smaps");
    for (const char *line; fd != -1 && (line = sp_lines_next(&lines)) != NULL;) {
        if (!isupper((unsigned char)line[0])) {
            plain = is_plain(line, &mapping) && (stack < mapping.start || stack >= mapping.end);
        } else if (plain && strncmp(line, "VmFlags:", 8) == 0 && are_usual(line)) {
            add_mapping(image, &mapping);
        }
    }
}

static bool write_all_runs(const struct image *image, int file) {
    for (unsigned i = 0; i < image->n_runs; i++) {
        for (uintptr_t at = image->runs[i].start; at < image->runs[i].end;) {
            const ssize_t n = write(file, (const void *)at, image->runs[i].end - at);
            if (n <= 0) {
                return false;
            }
            at += (size_t)n;
        }
    }
    return fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
}

/* Beyond a limit of the host (RLIMIT_FSIZE) a write shall fail. The signal would end a process that is no pid 1. */
static bool write_runs(const struct image *image, int file) {
    const struct sigaction ignored = {.sa_handler = SIG_IGN};
    struct sigaction before;
    (void)sigaction(SIGXFSZ, &ignored, &before);
    const bool written = write_all_runs(image, file);
    (void)sigaction(SIGXFSZ, &before, NULL);
    return written;
}

uint64_t sp_stem_make_image(const struct sp_stem_part *kept_out, size_t n) {
    static struct image image;
    image = (struct image){.kept_out = kept_out, .n_kept_out = n, .page = (size_t)sysconf(_SC_PAGESIZE)};
    find_runs(&image);
    if (image.bytes < BYTES_MIN) {
        return 0;
    }
    sp_auto_fd int file = (int)syscall(SYS_memfd_create, "sandpool-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file == -1 || !write_runs(&image, file)) {
        return 0;
    }
    off_t offset = 0;
    for (unsigned i = 0; i < image.n_runs; i++) {
        const size_t len = image.runs[i].end - image.runs[i].start;
        void *const at = (void *)image.runs[i].start;
        if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, offset) == MAP_FAILED) {
            break; /* the rest stays as it is */
        }
        offset += (off_t)len;
    }
    return (uint64_t)offset;
}
