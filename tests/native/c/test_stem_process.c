/* sources: csrc/stem/shared.c csrc/init/lines.c csrc/init/proc.c csrc/common/fd.c csrc/common/text.c */
/*
 * What the module of an interpreter does to its process, with the functions of zygote and init replaced: the hand-over,
 * the steps before the loop, and those of a copy that becomes a tenant. Its file is part of this program.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "lacks.h"
#include "nth.h"
#include "refused.h"

/* NOLINTBEGIN(bugprone-suspicious-include): its static functions are tested */
#include "stem/process.c"
/* NOLINTEND(bugprone-suspicious-include) */

#define PAYLOAD "strings and filters"

static struct {
    int take_over, show; /* what these return */
    int outside, served;
    unsigned image_parts, freed;
    enum sp_record_type sent;
} the;

void sp_outside_take_over(int fd) { the.outside = fd; }
void sp_binds_take_over(const struct sp_binds_known *known) { (void)known; }
int sp_zygote_take_over(struct sp_plan *of, const char *from) {
    CHECK(strcmp(from, PAYLOAD) == 0);
    of->source = "source";
    of->parameters = "parameters";
    return the.take_over;
}
int sp_stem_show_writable(const struct sp_plan *of) {
    CHECK(of == &plan);
    errno = -the.show;
    return the.show;
}
unsigned sp_filters_of_self(void) { return 7; }
int sp_packet_send(int sock, const struct sp_outgoing *packet, int64_t deadline) {
    (void)deadline;
    CHECK(sock == SP_ZYGOTE_SOCKET);
    the.sent = packet->record->type;
    return the.take_over;
}
void sp_zygote_serve(int sock, int from, struct sp_plan *of) {
    (void)sock, (void)of;
    the.served = from;
}
void sp_packet_fail(int sock, uint32_t id, const struct sp_rec_failed *why) {
    CHECK(sock == SP_ZYGOTE_SOCKET && id == 0 && why != NULL);
    the.sent = SP_REC_FAILED;
}
void sp_request_free_large(void) { the.freed++; }
uint64_t sp_stem_make_image(const struct sp_stem_part *kept_out, size_t n) {
    CHECK(kept_out[1].start == (uintptr_t)payload && kept_out[1].end - kept_out[1].start == sizeof PAYLOAD);
    the.image_parts = (unsigned)n;
    return 1000;
}

/* ---- the hand-over ---- */

static int handed = -1; /* the file that the zygote has left */

static void hand_over(uint32_t version, size_t len) {
    static char words[] = "python\0-I\0-B\0-c\0boot\0"
                          "5\0"
                          "6";
    struct sp_stem_handover all = {.version = version, .size = sizeof all, .host = 50, .outside = 51};
    char bytes[sizeof all + sizeof PAYLOAD - 1];
    all.plan.config.payload_len = sizeof PAYLOAD - 1;
    memcpy(bytes, &all, sizeof all);
    memcpy(bytes + sizeof all, PAYLOAD, sizeof PAYLOAD - 1);
    handed = (int)syscall(SYS_memfd_create, "plan", 0u);
    CHECK(write(handed, bytes, len) == (ssize_t)len && lseek(handed, 0, SEEK_SET) == 0);
    program_invocation_name = words;
}

#define WHOLE (sizeof(struct sp_stem_handover) + sizeof PAYLOAD - 1)

static void prepare(void) {
    CHECK(dup2(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), SP_PROC_FD) == SP_PROC_FD);
    hand_over(SP_WIRE_VERSION, WHOLE);
}

/* It closes both of its descriptors. */
static const char *begin(void) {
    const int module = dup(0);
    const int file = dup(handed);
    const char *failed = sp_stem_begin(module, file);
    const int err = errno;
    CHECK(fcntl(module, F_GETFD) == -1 && fcntl(file, F_GETFD) == -1);
    errno = err;
    return failed;
}

static bool fails(const char *failed, const char *what, int err) {
    const int now = errno;
    return failed != NULL && strcmp(failed, what) == 0 && now == err;
}

static void everything_is_taken_over(void) {
    prepare();
    CHECK(sp_stem_source() == NULL && begin() == NULL && strcmp(sp_stem_source(), "source") == 0);
    CHECK(strcmp(sp_stem_parameters(), "parameters") == 0 && the.outside == 51 && host == 50);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && kept.zeros != 0 && kept.zeros < (uintptr_t)&plan &&
          kept.zeros_end > (uintptr_t)&plan);
    CHECK(plan.command_line == program_invocation_name && memcmp(plan.command_line, "python\0\0\0\0", 10) == 0);
    CHECK(fcntl(handed, F_GETFD) == FD_CLOEXEC); /* it would be passed on to what the interpreter starts */
    CHECK(fails(begin(), "begun already", EALREADY));
}

static void what_is_of_another_version_is_refused(void) {
    prepare();
    hand_over(SP_WIRE_VERSION + 1, WHOLE);
    CHECK(fails(begin(), "a module of another version: reinstall pysandpool", EBADMSG));
}

static void what_is_cut_is_refused(void) {
    prepare();
    hand_over(SP_WIRE_VERSION, sizeof(struct sp_stem_handover) - 1);
    CHECK(fails(begin(), "hand-over", EBADMSG));
    hand_over(SP_WIRE_VERSION, WHOLE - 1);
    CHECK(fails(begin(), "hand-over", EBADMSG));
}

/* In the Landlock tier a path that has gone since, for example. */
static void what_is_not_taken_over_is_told(void) {
    prepare();
    the.take_over = -ENOENT;
    errno = EXDEV;
    CHECK(fails(begin(), "hand-over", ENOENT));
}

static void the_hand_over_is_checked(void) {
    CHECK(in_child(everything_is_taken_over, 10) == 0 && in_child(what_is_of_another_version_is_refused, 10) == 0);
    CHECK(in_child(what_is_cut_is_refused, 10) == 0 && in_child(what_is_not_taken_over_is_told, 10) == 0);
}

static int begin_once(void) {
    const char *failed = sp_stem_begin(dup(0), dup(handed));
    const int err = errno;
    CHECK(failed == NULL || strcmp(failed, "privileges") == 0 || strcmp(failed, "hand-over") == 0);
    return failed == NULL ? 0 : -err;
}

static void each_refused_call_of_the_hand_over_is_reported(void) {
    static const long calls[] = {SYS_prctl, SYS_capget, SYS_capset, SYS_read, SYS_mmap};
    const struct sweep sweep = {.prepare = prepare, .act = begin_once, .err = EPERM, .ends = true};
    const struct sweep harmless = {.prepare = prepare, .act = begin_once, .err = ENOSYS};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
    CHECK(count_fatal(&harmless, SYS_close_range) == 0); /* before Linux 5.11 the descriptors are marked one by one */
}

static void marked_one_by_one(void) {
    prepare();
    refuse(SYS_close_range, EINVAL);
    CHECK(begin() == NULL && fcntl(handed, F_GETFD) == FD_CLOEXEC);
}

static void older_kernels_mark_the_descriptors_one_by_one(void) { CHECK(in_child(marked_one_by_one, 10) == 0); }

/* ---- what a preload may have left ---- */

static void *sleep_on(void *unused) {
    (void)unused;
    (void)prctl(PR_SET_NAME, "left\nover", 0, 0, 0);
    sleep_ns(60000 * MS);
    return NULL;
}

static void threads_that_run(void) {
    pthread_t threads[2];
    char names[64];
    prepare();
    sp_stem_threads(names, sizeof names);
    CHECK(names[0] == '\0');
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, sleep_on, NULL) == 0);
    }
    for (int i = 0; i < 2000 && strcmp(names, "left, left") != 0; i++) {
        sleep_ns(10 * MS);
        sp_stem_threads(names, sizeof names);
    }
    CHECK(strcmp(names, "left, left") == 0);
    char few[8];
    sp_stem_threads(few, sizeof few);
    CHECK(strcmp(few, "left, l") == 0);
    (void)close(SP_PROC_FD);
    sp_stem_threads(names, sizeof names);
    CHECK(strcmp(names, "what /proc/self/task would show") == 0); /* there may be some */
}

#define SHARED "/dev/zero (deleted)"

/* Where coverage is measured, this program has other shared memory as well. */
static void memory_that_is_shared(void) {
    char names[256];
    prepare();
    sp_stem_shared_memory(names, sizeof names);
    CHECK(strstr(names, SHARED) == NULL);
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC); /* nobody can write to it there */
    CHECK(shared != MAP_FAILED && mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0) != MAP_FAILED);
    sp_stem_shared_memory(names, sizeof names);
    CHECK(strstr(names, SHARED) != NULL && strstr(names, "/etc/passwd") == NULL);
    char few[6];
    sp_stem_shared_memory(few, sizeof few);
    CHECK(strlen(few) == sizeof few - 1);
    (void)close(SP_PROC_FD);
    sp_stem_shared_memory(names, sizeof names);
    CHECK(strcmp(names, "what /proc/self/smaps would show") == 0);
}

/* What follows in the list may be shared. What the refusals are counted in is. */
static int find_shared(void) {
    char names[256];
    sp_stem_shared_memory(names, sizeof names);
    const bool found = strstr(names, SHARED) != NULL;
    CHECK(found || strcmp(names, "what /proc/self/smaps would show") == 0);
    return found ? 0 : -ENOMEM;
}

static void what_is_left_is_named(void) {
    const struct sweep sweep = {.prepare = prepare, .act = find_shared, .err = ENOMEM, .most = 3};
    CHECK(in_child(threads_that_run, 40) == 0 && in_child(memory_that_is_shared, 10) == 0);
    CHECK(count_fatal(&sweep, SYS_read) == 3 && count_fatal(&sweep, SYS_openat) == 1);
}

static void a_path_is_looked_for_where_it_will_be(void) {
    struct sp_plan_bind binds[] = {{.path = "/tmp/mine", .staged = true}, {.path = "/data"}, {.path = "/tmp/other"}};
    char elsewhere[64];
    plan.binds = binds;
    plan.config.n_binds = 3;
    CHECK(strcmp(sp_stem_lasting_path("/usr/x.py", elsewhere, sizeof elsewhere), "/usr/x.py") == 0);
    CHECK(strcmp(sp_stem_lasting_path("/tmp/mine/x.py", elsewhere, sizeof elsewhere), SP_STAGED_DIR "/0/x.py") == 0);
    CHECK(sp_stem_lasting_path("/tmp/other/x.py", elsewhere, sizeof elsewhere) == NULL);
    CHECK(sp_stem_lasting_path("/tmp/x.py", elsewhere, sizeof elsewhere) == NULL);
    CHECK(sp_stem_lasting_path("/tmp/mine/x.py", elsewhere, 8) == NULL);
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER;
    CHECK(strcmp(sp_stem_lasting_path("/tmp/x.py", elsewhere, sizeof elsewhere), "/tmp/x.py") == 0);
    memset(&plan, 0, sizeof plan);
}

/* ---- the steps before the loop ---- */

static struct sp_stem stem;

static void prepare_mounts(void) {
    enter_own_mounts();
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0);
    prepare();
    CHECK(begin() == NULL);
    stem = (struct sp_stem){.data_bytes = 0};
}

static int make_ready(void) {
    static const char *const steps[] = {"/proc/self/status", "privileges", "/tmp of the interpreter", "/dev/null"};
    const char *failed = sp_stem_make_ready(&stem);
    const int err = errno;
    bool known = failed == NULL;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        known = known || strcmp(failed, steps[i]) == 0;
    }
    CHECK(known);
    return failed == NULL ? 0 : -err;
}

static void ignore(int number) { (void)number; }

static void ready(void) {
    char name[16];
    prepare_mounts();
    CHECK(signal(SIGUSR1, ignore) != SIG_ERR && signal(SIGINT, SIG_IGN) != SIG_ERR);
    CHECK(make_ready() == 0 && stem.data_bytes != 0 && stem.memory_bytes != 0);
    CHECK(prctl(PR_GET_NAME, name, 0, 0, 0) == 0 && strcmp(name, "sandpool-stem") == 0);
    CHECK(signal(SIGUSR1, SIG_DFL) == SIG_DFL && signal(SIGINT, SIG_DFL) == SIG_DFL &&
          signal(SIGCHLD, ignore) == SIG_DFL);
    const uint64_t before = stem.memory_bytes;
    sp_stem_loop(&stem);
    CHECK(the.sent == SP_REC_HELLO && the.served == 50 && the.image_parts == 2 && stem.image_bytes == 1000);
    CHECK(stem.memory_bytes == before - 1000 && plan.stem == &stem && plan.zygote_filters == 7);
    the.take_over = -EPIPE; /* the host is gone */
    the.served = 0;
    stem.memory_bytes = 10;
    sp_stem_loop(&stem);
    CHECK(the.served == 0 && stem.memory_bytes == 0);
    /* The copy that becomes a tenant. */
    sp_stem_open_up();
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 && signal(SIGCHLD, SIG_DFL) == SIG_DFL);
    CHECK(signal(SIGUSR1, SIG_DFL) == ignore && signal(SIGINT, SIG_DFL) == SIG_IGN);
    CHECK(prctl(PR_GET_NAME, name, 0, 0, 0) == 0 && strcmp(name, "sandpool-stem") != 0);
    CHECK(strcmp(program_invocation_name, "python") == 0);
}

static void ready_in_the_tier(void) {
    prepare();
    CHECK(begin() == NULL);
    plan.config.flags = SP_CONFIG_LANDLOCK_TIER; /* nothing is mounted */
    the.show = -EINVAL;
    CHECK(sp_stem_make_ready(&stem) == NULL);
}

static void not_ready(void) {
    prepare_mounts();
    the.show = -EBUSY;
    CHECK(fails(sp_stem_make_ready(&stem), "writable binds", EBUSY));
    sp_stem_report(&(struct sp_rec_failed){.err = EBUSY});
    CHECK(the.sent == SP_REC_FAILED);
}

static void each_step_before_the_loop_can_fail(void) {
    static const long calls[] = {SYS_capget, SYS_capset, SYS_chdir, SYS_umount2, SYS_openat, SYS_read, SYS_dup3};
    const struct sweep sweep = {.prepare = prepare_mounts, .act = make_ready, .err = EIO};
    CHECK(in_child(ready, 10) == 0 && in_child(ready_in_the_tier, 10) == 0 && in_child(not_ready, 10) == 0);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK(count_fatal(&sweep, calls[i]) != 0);
    }
}

/* ---- in a process that becomes a tenant ---- */

static void one_descriptor_stays(void) {
    const int low = dup(0);
    const int kept_fd = sp_stem_keep_descriptors(low);
    CHECK(kept_fd >= CHANNEL_MIN && fcntl(low, F_GETFD) == -1 && fcntl(kept_fd, F_GETFD) == FD_CLOEXEC);
    CHECK(count_low_fds() == 4);
    CHECK(sp_stem_keep_descriptors(-1) == -1 && count_low_fds() == 3);
}

/* Where it cannot get a higher number, it keeps its own. */
static void it_keeps_its_number(void) {
    const int low = dup(0);
    const struct rlimit few = {40, 40};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0 && dup2(0, low + 1) != -1);
    CHECK(sp_stem_keep_descriptors(low) == low && fcntl(low, F_GETFD) != -1 && fcntl(low + 1, F_GETFD) == -1);
}

static void what_was_left_is_overwritten(void) {
    static unsigned char left[5 * PAGE] __attribute__((aligned(PAGE)));
    memset(left, 'x', sizeof left);
    prepare();
    CHECK(begin() == NULL);
    const void *const at = payload;
    kept.zeros = (uintptr_t)left + 16;
    kept.zeros_end = (uintptr_t)left + 4 * PAGE + 16;
    sp_stem_wipe();
    CHECK(left[15] == 'x' && left[16] == 0 && left[PAGE] == 0 && left[4 * PAGE + 15] == 0 &&
          left[4 * PAGE + 16] == 'x');
    CHECK(the.freed == 1 && msync((void *)(uintptr_t)at, 1, MS_ASYNC) == -1 && errno == ENOMEM);
    memset(left, 'x', sizeof left);
    kept.zeros_end = kept.zeros + 32; /* no page is whole */
    payload = NULL;
    sp_stem_wipe();
    CHECK(left[15] == 'x' && left[16] == 0 && left[47] == 0 && left[48] == 'x');
    overwrite_whole_stack(); /* where pages are larger */
}

static void a_tenant_finds_nothing(void) {
    CHECK(in_child(one_descriptor_stays, 10) == 0 && in_child(it_keeps_its_number, 10) == 0);
    /* The stack of a function is not where the sanitizer has it. */
    CHECK(UNDER_ASAN || in_child(what_was_left_is_overwritten, 10) == 0);
}

int main(void) {
    const char *lack = lack_of_namespaces();
    check_deadline(200);
    RUN(the_hand_over_is_checked);
    RUN(each_refused_call_of_the_hand_over_is_reported);
    RUN(older_kernels_mark_the_descriptors_one_by_one);
    RUN(what_is_left_is_named);
    RUN(a_path_is_looked_for_where_it_will_be);
    RUN_WITHOUT(lack, each_step_before_the_loop_can_fail);
    RUN(a_tenant_finds_nothing);
    return check_report();
}
