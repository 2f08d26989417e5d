#include "stem/process.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/kernel_linux.h"
#include "common/packet.h"
#include "init/proc.h"
#include "init/prove.h"
#include "init/request.h"
#include "init/stem.h"
#include "zygote/stem.h"
#include "zygote/zygote.h"

#define SIGNALS 64
#define CHANNEL_MIN 64 /* above the numbers that programs choose for themselves */
#define STACK_USED (256 * 1024)
#define NEAR 3 /* pages of the stack that are overwritten; those below them are given back to the kernel */
#define PAGE 4096

static struct sp_plan plan;
static int host = -1;
static void *payload; /* mapped; the strings and filters of the plan are in it */
static size_t payload_len;

/* What a tenant still needs. A tenant overwrites all variables without an initial value (.bss). `used` gives this one
 * an initial value, so that it is not among them. */
static struct kept {
    struct sigaction of_interpreter[SIGNALS + 1]; /* how the interpreter had its signals */
    uintptr_t zeros, zeros_end;                   /* where those variables are */
    char name[16];                                /* of the process */
    char command_line[256];                       /* its first word */
    char *place;                                  /* where the kernel looks for that */
    bool used;
} kept = {.used = true};

/* ---- the hand-over ---- */

static int read_all(int fd, void *bytes, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)bytes + done, len - done);
        if (n <= 0) {
            errno = n == 0 ? EBADMSG : errno;
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

/* Makes the capabilities that the zygote has kept effective, or ineffective. */
static int set_effective(bool in_force) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, sets) != 0) {
        return -1;
    }
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        sets[i].effective = in_force ? sets[i].permitted : 0;
        sets[i].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &header, sets);
}

static const char *take_over(int file) {
    static struct sp_stem_handover handover;
    if (read_all(file, &handover, sizeof handover) != 0) {
        return "hand-over";
    }
    if (handover.version != SP_WIRE_VERSION || handover.size != sizeof handover) {
        errno = EBADMSG;
        return "a module of another version: reinstall pysandpool";
    }
    plan = handover.plan;
    host = handover.host;
    sp_outside_take_over(handover.outside);
    sp_binds_take_over(&handover.binds);
    payload_len = plan.config.payload_len + 1;
    payload = mmap(NULL, payload_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (payload == MAP_FAILED || read_all(file, payload, plan.config.payload_len) != 0) {
        return "hand-over";
    }
    const int rc = sp_zygote_take_over(&plan, payload);
    errno = -rc;
    return rc == 0 ? NULL : "hand-over";
}

/* ---- the name of the process, which is another one in an init ---- */

/* Cuts the command line down to its first word: the others are the program that has loaded this module. */
static void shorten_command_line(void) {
    char *at = program_invocation_name;
    (void)snprintf(kept.command_line, sizeof kept.command_line, "%s", at);
    kept.place = plan.command_line = at;
    at += strlen(at) + 1;
    for (int i = 1; i < SP_STEM_WORDS; i++) {
        size_t len = strlen(at);
        memset(at, 0, len);
        at += len + 1;
    }
}

static void take_name_of_stem(void) {
    (void)prctl(PR_GET_NAME, kept.name, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "sandpool-stem", 0, 0, 0);
}

static void take_name_of_interpreter(void) {
    (void)prctl(PR_SET_NAME, kept.name, 0, 0, 0);
    if (strlen(kept.place) <= strlen(kept.command_line)) {
        strcpy(kept.place, kept.command_line); /* NOLINT: it was there before */
    }
}

/* Finds the variables of this module without an initial value (.bss): the part of its writable segment that is in
 * memory only, and not in the file. */
static int find_zeros(struct dl_phdr_info *object, size_t size, void *inside) {
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        const uintptr_t start = object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && (uintptr_t)inside >= start && (uintptr_t)inside < start + part->p_memsz) {
            kept.zeros = start + part->p_filesz;
            kept.zeros_end = start + part->p_memsz;
        }
    }
    return 0;
}

const char *sp_stem_begin(int module, int file) {
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
        set_effective(false) != 0) {
        return "privileges";
    }
    (void)dl_iterate_phdr(find_zeros, &plan);
    if (kept.zeros == 0) {
        errno = ENOEXEC;
        return "module";
    }
    const int first = SP_ZYGOTE_SOCKET;
    if (syscall(SYS_close_range, first, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) != 0) {
        for (int fd = first; fd < 1024; fd++) { /* before Linux 5.11 */
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
    }
    const bool again = payload != NULL;
    const char *failed = again ? "begun already" : take_over(file);
    errno = again ? EALREADY : errno;
    (void)close(file);
    (void)close(module);
    if (failed == NULL) {
        shorten_command_line();
    }
    return failed;
}

const char *sp_stem_source(void) { return plan.source; }

const char *sp_stem_parameters(void) { return plan.parameters; }

/* ---- from the interpreter to the loop ---- */

const char *sp_stem_lasting_path(const char *path, char *elsewhere, size_t size) {
    if (sp_in_landlock_tier(&plan) || !sp_path_is_below(path, "/tmp")) {
        return path;
    }
    for (uint32_t i = plan.config.n_binds; i-- > 0;) {
        if (plan.binds[i].staged && sp_path_is_below(path, plan.binds[i].path)) {
            int n = snprintf(elsewhere, size, "%s/%u%s", SP_STAGED_DIR, i, path + strlen(plan.binds[i].path));
            return n > 0 && (size_t)n < size ? elsewhere : NULL;
        }
    }
    return NULL;
}

void sp_stem_threads(char *names, size_t size) {
    struct sp_listing list;
    char text[64];
    char path[64];
    sp_auto_fd int tasks = sp_listing_open(&list, SP_PROC_FD, "self/task");
    (void)snprintf(names, size, "%s", tasks == -1 ? "what /proc/self/task would show" : "");
    for (const char *name; tasks != -1 && (name = sp_listing_next(&list)) != NULL;) {
        size_t len = strlen(names);
        (void)snprintf(path, sizeof path, "%s/comm", name);
        if (strtol(name, NULL, 10) == syscall(SYS_gettid) || !sp_read_text(tasks, path, text, sizeof text)) {
            continue;
        }
        text[strcspn(text, "\n")] = '\0';
        (void)snprintf(names + len, size - len, "%s%s", len != 0 ? ", " : "", text);
    }
}

/* A handler of the interpreter must not run in pid 1 of a sandbox, and what it ignores would be ignored in commands. */
static void reset_signals(void) {
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int number = 1; number <= SIGNALS; number++) {
        (void)sigaction(number, NULL, &kept.of_interpreter[number]);
        (void)sigaction(number, &usual, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Notes how much memory the interpreter uses. Every copy of it uses that much from the start. */
static int measure(struct sp_stem *stem) {
    static const struct {
        const char *name;
        bool is_data;
    } parts[] = {{"\nVmData:", true}, {"\nRssAnon:", false}, {"\nRssShmem:", false}, {"\nVmPTE:", false}};
    char text[4096];
    if (!sp_read_text(SP_PROC_FD, "self/status", text, sizeof text)) {
        return -1;
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        uint64_t kib = 0;
        (void)sp_find_number(text, parts[i].name, &kib);
        *(parts[i].is_data ? &stem->data_bytes : &stem->memory_bytes) += kib * 1024;
    }
    return 0;
}

static int close_streams(void) {
    sp_auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++) {
        if (null == -1 || dup2(null, fd) == -1) {
            return -1;
        }
    }
    return 0;
}

const char *sp_stem_make_ready(struct sp_stem *stem) {
    if (measure(stem) != 0) {
        return "/proc/self/status";
    }
    if (set_effective(true) != 0) {
        return "privileges";
    }
    const bool has_mounts = !sp_in_landlock_tier(&plan);
    if (chdir("/") != 0 || (has_mounts && umount2("/tmp", MNT_DETACH) != 0)) {
        return "/tmp of the interpreter";
    }
    if (has_mounts && sp_stem_show_writable(&plan) != 0) {
        return "writable binds";
    }
    if (close_streams() != 0) {
        return "/dev/null";
    }
    umask(022);
    take_name_of_stem();
    reset_signals();
    return NULL;
}

void sp_stem_loop(struct sp_stem *stem) {
    const struct sp_record hello = {.type = SP_REC_HELLO};
    /* What a tenant overwrites or unmaps. */
    const struct sp_stem_part kept_out[] = {{kept.zeros, kept.zeros_end},
                                            {(uintptr_t)payload, (uintptr_t)payload + payload_len}};
    stem->image_bytes = sp_stem_make_image(kept_out, sizeof kept_out / sizeof kept_out[0]);
    stem->memory_bytes -= stem->image_bytes < stem->memory_bytes ? stem->image_bytes : stem->memory_bytes;
    plan.stem = stem;
    plan.zygote_filters = sp_filters_of_self();
    if (sp_packet_send(SP_ZYGOTE_SOCKET, &(struct sp_outgoing){.record = &hello}, SP_NEVER) == 0) {
        sp_zygote_serve(SP_ZYGOTE_SOCKET, host, &plan);
    }
}

void sp_stem_report(const struct sp_rec_failed *why) { sp_packet_fail(SP_ZYGOTE_SOCKET, 0, why); }

/* ---- in a process that becomes a tenant ---- */

int sp_stem_keep_descriptors(int channel) {
    int high = channel != -1 ? fcntl(channel, F_DUPFD_CLOEXEC, CHANNEL_MIN) : -1;
    channel = high != -1 ? high : channel;
    if (channel == -1) {
        (void)syscall(SYS_close_range, 3u, ~0u, 0);
    } else {
        (void)syscall(SYS_close_range, 3u, (unsigned)channel - 1, 0);
        (void)syscall(SYS_close_range, (unsigned)channel + 1, ~0u, 0);
    }
    return channel;
}

/* The asm statement keeps the compiler from leaving out the memset(), because nobody reads the memory afterwards. */
static void overwrite(void *at, size_t len) {
    memset(at, 0, len);
    __asm__ volatile("" : : "r"(at) : "memory");
}

/* Gives whole pages back to the kernel; they read as zeros then. For pages that were never used, that costs nothing. */
static void overwrite_variables(void) {
    const uintptr_t start = kept.zeros;
    const uintptr_t end = kept.zeros_end;
    const uintptr_t first_page = (start + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    const uintptr_t last_page = end & ~(uintptr_t)(PAGE - 1);
    if (first_page < last_page && madvise((void *)first_page, last_page - first_page, MADV_DONTNEED) == 0) {
        overwrite((void *)start, first_page - start);
        overwrite((void *)last_page, end - last_page);
    } else {
        overwrite((void *)start, end - start);
    }
}

/* Overwrites the stack below the frame of the caller, where functions of zygote and init have left their variables. */
static __attribute__((noinline)) void overwrite_stack(void) {
    char used[NEAR * PAGE];
    overwrite(used, sizeof used);
}

/* The same for all of the stack that they have used, where pages are larger than PAGE. */
static __attribute__((noinline)) void overwrite_whole_stack(void) {
    char used[STACK_USED];
    overwrite(used, sizeof used);
}

/* Gives the pages farther below back to the kernel. They are shared with init, so that overwriting one would copy it.
 */
static __attribute__((noinline)) void give_back_stack(void) {
    char here[64];
    overwrite(here, sizeof here);
    const uintptr_t end = ((uintptr_t)here - PAGE) & ~(uintptr_t)(PAGE - 1);
    (void)madvise((void *)(end - STACK_USED), STACK_USED, MADV_DONTNEED); /* ENOMEM: the stack is shorter */
}

void sp_stem_wipe(void) {
    if (payload != NULL) {
        (void)munmap(payload, payload_len);
    }
    sp_request_free_large();
    overwrite_variables();
    if (sysconf(_SC_PAGESIZE) == PAGE) {
        overwrite_stack();
        give_back_stack();
    } else {
        overwrite_whole_stack();
    }
}

/* init may have a handler for it, see init/attend.c. All others are as reset_signals() has left them. */
static bool is_of_init(int number) {
    return number == SIGCHLD || number == SP_KILL_SIGNAL || number == SP_WATCH_MEMORY_SIGNAL;
}

void sp_stem_open_up(void) {
    sigset_t none;
    take_name_of_interpreter();
    for (int number = 1; number <= SIGNALS; number++) {
        bool is_changed = kept.of_interpreter[number].sa_handler != SIG_DFL || is_of_init(number);
        (void)(is_changed ? sigaction(number, &kept.of_interpreter[number], NULL) : 0);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Otherwise the memory watch of init could not see its descriptors, and would count them as too much. */
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
