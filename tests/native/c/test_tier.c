/* sources: csrc/host/linux/reaper.c csrc/host/linux/late.c csrc/host/sandbox/scratch.c
 * csrc/host/sandbox/scratch_root.c csrc/host/sandbox/strays_linux.c csrc/host/sandbox/error.c
 * csrc/host/sandbox/control.c csrc/host/sys/own.c csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c
 * csrc/common/packet.c csrc/common/clock.c csrc/common/wire.c csrc/common/text.c csrc/host/sandbox/isolation.c */
/*
 * When the launcher takes the Landlock tier: after which errors, for which configurations, and where it cannot. The
 * file is part of this program, with some of its calls replaced.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "common/clock.h"
#include "common/wire.h"
#include "host/linux/reaper.h"

static struct {
    const char *file; /* that cannot be opened, with `err` */
    int err, fchmod;
    bool no_memory;
    unsigned lives; /* so often the reaper has not ended */
    int waits[4];   /* what the next waits return; 0: they are made */
    unsigned n_waits;
} the;

static FILE *faulty_fopen(const char *path, const char *mode) {
    if (the.file != NULL && strcmp(path, the.file) == 0) {
        errno = the.err;
        return NULL;
    }
    return fopen(path, mode);
}

static void *faulty_calloc(size_t n, size_t size) { return the.no_memory ? NULL : calloc(n, size); }

static int faulty_fchmod(int fd, mode_t mode) {
    errno = the.fchmod;
    return the.fchmod != 0 ? -1 : fchmod(fd, mode);
}

static bool faulty_reap(struct sp_reaper *reaper) {
    bool lives = the.lives > 0;
    the.lives -= lives ? 1 : 0;
    return !lives && sp_reaper_reap(reaper);
}

static int faulty_wait(int fd, short events, int64_t deadline) {
    const int rc = the.n_waits < 4 ? the.waits[the.n_waits++] : 0;
    return rc != 0 ? rc : sp_wait_fd(fd, events, deadline);
}

#define fopen faulty_fopen
#define calloc faulty_calloc
#define fchmod faulty_fchmod
#define sp_reaper_reap faulty_reap
#define sp_wait_fd faulty_wait
/* NOLINTBEGIN(bugprone-suspicious-include): with other names, see above */
#include "host/linux/tier.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef fopen
#undef fchmod

#define ANSWERS "/proc/self/exe" /* this program, asked for Landlock's ABI: see main() */

static const sp_bind plain[] = {{.path = "/srv/a", .source = "/srv/a"}};
static const sp_bind scratch[] = {{.path = "/srv/a", .source = "/srv/a", .flags = SP_BIND_SCRATCH}};
static const sp_bind elsewhere[] = {{.path = "/srv/a", .source = "/srv/b"}};
static const sp_bind covered[] = {{.path = "/srv/a", .source = "/srv/a", .flags = SP_BIND_COVER}};
static const sp_bind nested[] = {{.path = "/srv/a", .source = "/srv/a", .flags = SP_BIND_WRITABLE},
                                 {.path = "/srv/a/b", .source = "/srv/a/b"}};

static sp_sandbox_options options_for(const char *program) {
    return (sp_sandbox_options){.zygote_path = program, .lease_parent = "/tmp", .landlock_abi_max = 7};
}

static void what_a_namespace_needs_may_be_refused(void) {
    static const int refusals[] = {EPERM, EACCES, ENOSYS, ENOSPC, EINVAL, EROFS, ENODEV, EBUSY};
    static const int stages[] = {SP_STAGE_DROP_ROOT, SP_STAGE_USERNS, SP_STAGE_PIVOT, SP_STAGE_MOUNT_PROC};
    static const int others[] = {SP_STAGE_CGROUP, SP_STAGE_BIND, SP_STAGE_ROOTFS, SP_STAGE_SPAWN_ZYGOTE,
                                 SP_STAGE_LANDLOCK};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        for (size_t s = 0; s < sizeof stages / sizeof stages[0]; s++) {
            CHECK(sp_tier_is_refusal(&(sp_error){.stage = stages[s], .err = refusals[i]}));
        }
        for (size_t s = 0; s < sizeof others / sizeof others[0]; s++) {
            CHECK(!sp_tier_is_refusal(&(sp_error){.stage = others[s], .err = refusals[i]}));
        }
    }
    CHECK(!sp_tier_is_refusal(&(sp_error){.stage = SP_STAGE_USERNS, .err = ENOMEM}));
    CHECK(!sp_tier_is_refusal(&(sp_error){.stage = SP_STAGE_USERNS, .err = EMFILE}));
}

/* The stage of the error, whose detail has to be `detail`; 0: the tier was taken, and its directory is gone again. */
static int lower(const sp_sandbox_options *options, const char *detail) {
    struct sp_tier tier = {0};
    sp_error error = {0};
    struct stat st;
    sp_tier_init(&tier);
    int rc = sp_tier_lower(&tier, options, &error);
    CHECK((rc == 0) == tier.lower && (rc == 0 || strcmp(error.detail, detail) == 0));
    if (rc == 0) {
        CHECK(tier.abi >= 1 && stat(tier.leases, &st) == 0 && S_ISDIR(st.st_mode));
        sp_tier_close(&tier);
        CHECK(stat(tier.leases, &st) == -1 && errno == ENOENT && !sp_tier_tend(&tier));
    }
    sp_tier_free(&tier);
    return rc == 0 ? 0 : error.stage;
}

static void refused_with(sp_sandbox_options options, const char *detail) {
    options.zygote_path = "/bin/false"; /* nobody is asked for Landlock */
    CHECK(lower(&options, detail) == SP_STAGE_TIER);
}

static void a_configuration_that_needs_namespaces_is_refused_by_name(void) {
    refused_with((sp_sandbox_options){.rootfs = "/srv"}, "rootfs");
    refused_with((sp_sandbox_options){.network = SP_NET_LOOPBACK}, "a network");
    refused_with((sp_sandbox_options){.seccomp_profile = SP_SECCOMP_NETWORK}, "a network");
    refused_with((sp_sandbox_options){.allow_unix_sockets = SP_UNIX_ANY}, "allow_unix_sockets");
    refused_with((sp_sandbox_options){.binds = scratch, .n_binds = 1}, "scratch_dirs");
    refused_with((sp_sandbox_options){.binds = elsewhere, .n_binds = 1}, "a bind at another place");
    refused_with((sp_sandbox_options){.binds = covered, .n_binds = 1}, "a set-id file in a writable bind");
    refused_with((sp_sandbox_options){.binds = nested, .n_binds = 2}, "a read-only path in a writable one");
    refused_with((sp_sandbox_options){.binds = nested, .n_binds = 1, .interpreter = "/usr/bin/python3"},
                 "a writable path with an interpreter that is copied, not started (start=\"exec\")");
}

static void without_an_answer_there_is_no_landlock(void) {
    sp_sandbox_options silent = options_for("/bin/true");
    sp_sandbox_options missing = options_for("/no/such/program");
    sp_sandbox_options none = options_for(ANSWERS);
    none.landlock_abi_max = 0;
    CHECK(lower(&silent, "landlock") == SP_STAGE_LANDLOCK);
    CHECK(lower(&missing, "/no/such/program") == SP_STAGE_SPAWN_ZYGOTE);
    CHECK(lower(&none, "landlock") == SP_STAGE_LANDLOCK);
}

/* Not that the kernel has no Landlock. */
static void a_host_without_descriptors_hears_of_that(void) {
    const sp_sandbox_options options = options_for(ANSWERS);
    struct rlimit before;
    unsigned refusals = 0;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    for (int free_fds = 0; free_fds < 4; free_fds++) {
        struct sp_tier tier = {0};
        sp_error error = {0};
        sp_tier_init(&tier);
        const int lowest = fcntl(0, F_DUPFD, 0);
        CHECK(lowest != -1 && close(lowest) == 0);
        CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)(lowest + free_fds), before.rlim_max}) == 0);
        const int rc = sp_tier_lower(&tier, &options, &error);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        CHECK(rc == 0 || (error.stage == SP_STAGE_SPAWN_ZYGOTE && error.err == EMFILE) ||
              error.stage == SP_STAGE_SCRATCH);
        refusals += rc != 0 && error.stage == SP_STAGE_SPAWN_ZYGOTE;
        sp_tier_close(&tier);
        sp_tier_free(&tier);
    }
    CHECK(refusals >= 2);
}

/* Signals end no wait; a reaper that does not end in time is reaped later. */
static void the_answer_is_waited_for(void) {
    const sp_sandbox_options options = options_for(ANSWERS);
    memset(&the, 0, sizeof the);
    the.waits[0] = the.waits[2] = -EINTR;
    the.lives = 2;
    CHECK(lower(&options, "") == 0 && the.n_waits == 4);
    memset(&the, 0, sizeof the);
    the.waits[1] = -ETIMEDOUT;
    the.lives = 2;
    CHECK(lower(&options, "") == 0 && the.n_waits == 2);
    memset(&the, 0, sizeof the);
    the.waits[0] = -ETIMEDOUT;
    CHECK(lower(&options, "landlock") == SP_STAGE_LANDLOCK);
    memset(&the, 0, sizeof the);
    CHECK(lower(&options, "") == 0);
}

static void a_directory_of_leases_is_made_and_removed(void) {
    sp_sandbox_options options = options_for(ANSWERS);
    options.binds = plain;
    options.n_binds = 1;
    CHECK(lower(&options, "") == 0);
    options.lease_parent = "/usr"; /* tenants are shown it, so /tmp takes its place */
    CHECK(lower(&options, "") == 0);
    options.lease_parent = "/no/such/directory";
    CHECK(lower(&options, options.lease_parent) == (geteuid() == 0 ? 0 : SP_STAGE_SCRATCH));
}

static bool gives_ids(void) {
    const sp_sandbox_options options = options_for(ANSWERS);
    struct sp_tier tier = {0};
    sp_error error = {0};
    sp_tier_init(&tier);
    CHECK(sp_tier_lower(&tier, &options, &error) == 0);
    sp_tier_close(&tier);
    bool gives = tier.lease_uids;
    sp_tier_free(&tier);
    return gives;
}

/* Whether leases have ids of their own, when this process lacks a capability. */
static bool gives_ids_without(unsigned lacking) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    int status = -1;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        atomic_store(&check_failures, 0);
        CHECK(syscall(SYS_capget, &header, sets) == 0);
        sets[0].effective &= ~(1u << lacking);
        CHECK(syscall(SYS_capset, &header, sets) == 0);
        bool gives = gives_ids();
        _exit(atomic_load(&check_failures) != 0 ? 2 : gives ? 1 : 0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 1;
}

static void ids_need_each_of_these_capabilities(void) {
    static const unsigned needed[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_KILL, CAP_SETGID, CAP_SETUID};
    const bool gives = gives_ids(); /* root does, unless it has lost some, or has few ids */
    CHECK(gives_ids_without(CAP_NET_RAW) == gives);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        CHECK(!gives_ids_without(needed[i]));
    }
}

static void maps_decide(void) {
    static const char *const maps[] = {"/proc/self/uid_map", "/proc/self/gid_map"};
    const sp_sandbox_options options = options_for(ANSWERS);
    if (!gives_ids()) {
        return; /* nor does it look */
    }
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        the.file = maps[i];
        the.err = EMFILE; /* for a moment: nothing weaker is taken for good */
        CHECK(lower(&options, "/proc/self/uid_map") == SP_STAGE_SCRATCH);
        the.err = ENOENT; /* a kernel without user namespaces */
        CHECK(gives_ids());
    }
    the.file = NULL;
    the.fchmod = EROFS; /* tenants could not pass it */
    CHECK(lower(&options, "/tmp") == SP_STAGE_SCRATCH);
    the.fchmod = 0;
}

/* Without ids of its own, a tenant is not shown what lies elsewhere. */
static void without_ids(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    sp_sandbox_options options = options_for(ANSWERS);
    options.lease_parent = "/no/such/directory";
    CHECK(syscall(SYS_capset, &header, none) == 0);
    CHECK(lower(&options, options.lease_parent) == SP_STAGE_SCRATCH);
}

static void a_directory_that_cannot_be_made_is_named(void) {
    int status = -1;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        atomic_store(&check_failures, 0);
        without_ids();
        _exit(atomic_load(&check_failures) == 0 ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* The directory of a lease is removed once its init is dead: here there is none. */
static void what_a_lease_has_left_is_removed(void) {
    const sp_sandbox_options options = options_for(ANSWERS);
    struct sp_tier tier = {0};
    sp_error error = {0};
    char path[4200];
    struct stat st;
    sp_tier_init(&tier);
    CHECK(!sp_tier_tend(&tier) && sp_tier_lower(&tier, &options, &error) == 0);
    (void)snprintf(path, sizeof path, "%s/l7", tier.leases);
    CHECK(mkdir(path, 0700) == 0);
    sp_tier_leave(&tier, 7, -1);
    for (int i = 0; i < 10 && sp_tier_tend(&tier); i++) {
    }
    CHECK(stat(path, &st) == -1 && errno == ENOENT && tier.left == NULL);
    sp_tier_leave(&tier, 8, 12345); /* no descriptor: left to the end */
    CHECK(tier.left == NULL);
    the.no_memory = true;
    sp_tier_leave(&tier, 8, -1);
    the.no_memory = false;
    CHECK(tier.left == NULL);
    sp_tier_leave(&tier, 9, -1);
    sp_tier_close(&tier);
    CHECK(tier.left == NULL && tier.root == -1);
    const int next = dup(STDERR_FILENO);
    (void)close(next);
    sp_tier_leave(&tier, 10, STDERR_FILENO); /* a session that ends after this */
    CHECK(tier.left == NULL && fcntl(next, F_GETFD) == -1);
    sp_tier_free(&tier);
}

static void not_before_its_init_is_dead(void) {
    const sp_sandbox_options options = options_for(ANSWERS);
    struct sp_tier tier = {0};
    sp_error error = {0};
    char path[4200];
    sp_tier_init(&tier);
    CHECK(sp_tier_lower(&tier, &options, &error) == 0);
    (void)snprintf(path, sizeof path, "%s/l7", tier.leases);
    pid_t init = fork();
    if (init == 0) {
        for (;;) {
            (void)pause();
        }
    }
    int pidfd = (int)syscall(SYS_pidfd_open, init, 0);
    CHECK(mkdir(path, 0700) == 0 && pidfd != -1);
    sp_tier_leave(&tier, 7, pidfd);
    CHECK(close(pidfd) == 0 && sp_tier_tend(&tier) && access(path, F_OK) == 0);
    CHECK(kill(init, SIGKILL) == 0 && waitpid(init, NULL, 0) == init);
    for (int i = 0; i < 10 && sp_tier_tend(&tier); i++) {
    }
    CHECK(access(path, F_OK) == -1 && tier.left == NULL);
    sp_tier_close(&tier);
    sp_tier_free(&tier);
}

/* In place of an init that does not end. */
static pid_t start_stopped(int *pidfd) {
    int status = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        (void)raise(SIGSTOP);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    *pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK(*pidfd != -1);
    return pid;
}

static void an_init_that_does_not_end_is_killed(uint32_t abi) {
    struct sp_tier tier = {.lower = true, .abi = abi};
    int pidfd = -1;
    int status = 0;
    sp_tier_init(&tier);
    const pid_t pid = start_stopped(&pidfd);
    sp_tier_leave(&tier, 7, pidfd);
    CHECK(sp_tier_tend(&tier) && waitpid(pid, &status, WNOHANG) == 0);
    if (tier.left->kill_at != SP_NEVER) {
        CHECK(abi >= 6);
        tier.left->kill_at = sp_now();
    }
    CHECK(sp_tier_tend(&tier) || abi >= 6);
    CHECK(abi >= 6 || (waitpid(pid, &status, WNOHANG) == 0 && kill(pid, SIGKILL) == 0));
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(!sp_tier_tend(&tier) && tier.left == NULL);
    (void)close(pidfd);
    sp_tier_free(&tier);
}

static void where_the_zygote_can_end_all_its_tenants(void) { an_init_that_does_not_end_is_killed(6); }

static void but_not_where_one_may_escape(void) { an_init_that_does_not_end_is_killed(5); }

static void what_has_taken_the_number_of_a_pidfd_stays_open(void) {
    struct sp_tier tier = {.lower = true, .abi = 6};
    int pidfd = -1;
    sp_tier_init(&tier);
    const pid_t pid = start_stopped(&pidfd);
    sp_tier_leave(&tier, 7, pidfd);
    const int number = tier.left->pidfd;
    const int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    tier.left->kill_at = 0;
    CHECK(dup2(other, number) == number);
    CHECK(!sp_tier_tend(&tier) && tier.left == NULL && fcntl(number, F_GETFD) != -1);
    (void)close(number);
    (void)close(other);
    (void)close(pidfd);
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    sp_tier_free(&tier);
}

int main(int argc, char **argv) {
    (void)argc;
    if (strcmp(argv[0], SP_LANDLOCK_QUESTION) == 0) {
        const char abi = 6;
        return write(SP_ZYGOTE_SOCKET, &abi, 1) == 1 ? 0 : 1;
    }
    check_deadline(60);
    RUN(what_a_namespace_needs_may_be_refused);
    RUN(a_configuration_that_needs_namespaces_is_refused_by_name);
    RUN(without_an_answer_there_is_no_landlock);
    RUN(a_host_without_descriptors_hears_of_that);
    RUN(the_answer_is_waited_for);
    RUN(a_directory_of_leases_is_made_and_removed);
    RUN(ids_need_each_of_these_capabilities);
    RUN(maps_decide);
    RUN(a_directory_that_cannot_be_made_is_named);
    RUN(what_a_lease_has_left_is_removed);
    RUN(not_before_its_init_is_dead);
    RUN(where_the_zygote_can_end_all_its_tenants);
    RUN(but_not_where_one_may_escape);
    RUN(what_has_taken_the_number_of_a_pidfd_stays_open);
    return check_report();
}
