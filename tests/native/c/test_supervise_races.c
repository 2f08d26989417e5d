/* sources: csrc/init/landlock.c csrc/init/supervise_call_linux.c csrc/init/supervise_change.c
 * csrc/init/supervise_filter.c csrc/init/supervise_find.c csrc/init/supervise_signal.c csrc/common/fd.c
 * csrc/common/text.c */
/*
 * Tenants that change everything while the supervisor looks at it, and tenants that are killed and stopped meanwhile.
 * Each race is first won against a supervisor that checks what it then looks up once more.
 */
#include <pthread.h>
#include <sys/time.h>

#include "init/supervise_call.h"
#include "supervised.h"

static int choose_read(const struct seccomp_data *data, int task, struct sp_call *call);
static int choose_find(const struct sp_places *places, int task, const struct sp_call *call);

#define sp_call_read choose_read
#define sp_places_find choose_find
/* NOLINTBEGIN(bugprone-suspicious-include): with a choice */
#include "init/supervise.c"
/* NOLINTEND(bugprone-suspicious-include) */
#undef sp_call_read
#undef sp_places_find

#define TRUE_NS 300000000
#define NAIVE_SECONDS 20

static bool naive;
static const struct seccomp_data *the_data;

static int choose_read(const struct seccomp_data *data, int task, struct sp_call *call) {
    the_data = data;
    return sp_call_read(data, task, call);
}

/* What the call says now, wherever that leads. */
static int find_again(int task) {
    static struct sp_call call;
    char name[32];
    int rc = sp_call_read(the_data, task, &call);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(name, sizeof name, call.is_file || call.dir != AT_FDCWD ? "fd/%d" : "cwd", call.dir);
    sp_auto_fd int start = openat(task, name, O_PATH | O_CLOEXEC);
    int fd = call.is_file ? sp_fd_steal(&start) : openat(start, call.path, O_PATH | O_CLOEXEC);
    return fd != -1 ? fd : -errno;
}

static int choose_find(const struct sp_places *places, int task, const struct sp_call *call) {
    sp_auto_fd int checked = sp_places_find(places, task, call);
    return !naive ? sp_fd_steal(&checked) : checked >= 0 ? find_again(task) : checked;
}

/* ---- races ---- */

static atomic_bool stop;
static char shared_path[PATH_MAX];
static int shared_fd, inside_fd, outside_fd;

#define MEETING_SECONDS 20

struct race {
    void (*swap)(void);
    int (*call)(void);
};

static void swap_names(void) { (void)renameat2(AT_FDCWD, "door", AT_FDCWD, "up", RENAME_EXCHANGE); }
static int call_name(void) { return chmod("door/victim", 0777); }

static void swap_text(void) {
    static bool out;
    out = !out;
    /* Both have the same length; a mixture leads nowhere. */
    (void)snprintf(shared_path, sizeof shared_path, out ? "./up/victim" : "door/victim");
}
static int call_text(void) { return chmod(shared_path, 0777); }

static void swap_fd(void) {
    (void)dup2(outside_fd, shared_fd);
    (void)dup2(inside_fd, shared_fd);
}
static int call_fd(void) { return fchmod(shared_fd, 0777); }

static void swap_dir(void) {
    (void)chdir("../../host");
    (void)chdir(at("lease/door"));
}
static int call_dir(void) { return chmod("victim", 0777); }

static const struct race *the_race;

static void *keep_swapping(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        the_race->swap();
    }
    return NULL;
}

static int64_t nanoseconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool is_taken(void) {
    struct stat st;
    return stat(at(VICTIM), &st) == 0 && (st.st_mode & 07777) == 0777;
}

/* 0: the victim was changed. 1: it was not, and the call both failed and succeeded. 2: it was no race. */
static int run_race(void) {
    pthread_t thread;
    unsigned failed = 0;
    unsigned done = 0;
    const int64_t until = nanoseconds() + (naive ? NAIVE_SECONDS * INT64_C(1000000000) : TRUE_NS);
    inside_fd = open("door/victim", O_PATH);
    outside_fd = open(at(VICTIM), O_PATH);
    shared_fd = dup(inside_fd);
    if (the_race->swap == swap_dir && chdir("door") != 0) {
        return NOT_STARTED;
    }
    the_race->swap();
    if (pthread_create(&thread, NULL, keep_swapping, NULL) != 0) {
        return NOT_STARTED;
    }
    /* On a slow machine the swaps need longer to meet a call. */
    const int64_t longest = until + MEETING_SECONDS * INT64_C(1000000000);
    while (!is_taken() && nanoseconds() < (naive || (failed > 0 && done > 0) ? until : longest)) {
        if (the_race->call() == 0) {
            done++;
        } else {
            failed++;
        }
    }
    atomic_store(&stop, true);
    (void)pthread_join(thread, NULL);
    return is_taken() ? 0 : failed > 0 && done > 0 ? 1 : 2;
}

static void prepare_race(void) {
    (void)unlink(at("lease/up"));
    (void)unlink(at("lease/door"));
    (void)unlink(at("lease/door/victim"));
    (void)rmdir(at("lease/door"));
    (void)unlink(at("lease/up/victim"));
    (void)rmdir(at("lease/up"));
    CHECK(mkdir(at("lease/door"), 0700) == 0 && symlink("../host", at("lease/up")) == 0);
    make_file("lease/door/victim", 0600);
    CHECK(chmod(at("host"), 0700) == 0);
    make_victim();
}

static void test_races(void) {
    static const struct race races[] = {
        {swap_names, call_name}, {swap_text, call_text}, {swap_fd, call_fd}, {swap_dir, call_dir}};
    for (unsigned i = 0; i < sizeof races / sizeof races[0]; i++) {
        the_race = &races[i];
        prepare_race();
        naive = true;
        CHECK(as_tenant(SETTING_SUPERVISED, run_race) == 0);
        prepare_race();
        naive = false;
        CHECK(as_tenant(SETTING_SUPERVISED, run_race) == 1);
        CHECK(is_untouched());
    }
}

/* ---- tenants that are killed, stopped and interrupted ---- */

static int call_for_ever(void) {
    while (!atomic_load(&stop)) {
        (void)chmod("a", 0600);
    }
    return 0;
}

static int call_once(void) { return result(chmod("a", 0640)); }

/* Some are stopped for good, the others are killed at any moment. The next one is served nevertheless. */
static int kill_many(void) {
    pid_t stopped[4];
    for (int i = 0; i < 4; i++) {
        stopped[i] = fork_tenant(call_for_ever);
    }
    for (int i = 0; i < 200; i++) {
        const struct timespec wait = {.tv_nsec = (i * 7919 % 600) * 1000};
        pid_t pid = fork_tenant(call_for_ever);
        if (i < 4) {
            (void)kill(stopped[i], SIGSTOP);
        }
        (void)nanosleep(&wait, NULL);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    int rc = exit_of(fork_tenant(call_once));
    for (int i = 0; i < 4; i++) {
        (void)kill(stopped[i], SIGKILL);
        (void)waitpid(stopped[i], NULL, 0);
    }
    return rc;
}

static void test_kills(void) {
    make_file("lease/a", 0600);
    CHECK(as_init(SETTING_SUPERVISED, kill_many) == 0);
    struct stat st;
    CHECK(stat(at("lease/a"), &st) == 0 && (st.st_mode & 07777) == 0640);
}

/* A flood of calls by many makes init no slower: what it waits for comes in time. */
static int flood(void) {
    pid_t pids[24];
    for (int i = 0; i < 24; i++) {
        pids[i] = fork_tenant(call_for_ever);
    }
    int rc = exit_of(fork_tenant(call_once));
    for (int i = 0; i < 24; i++) {
        (void)kill(pids[i], SIGKILL);
        (void)waitpid(pids[i], NULL, 0);
    }
    return rc != 0 ? rc : exit_of(fork_tenant(call_once));
}

static void test_flood(void) { CHECK(as_init(SETTING_SUPERVISED, flood) == 0); }

static void on_alarm(int signal) { (void)signal; }

/* A signal may interrupt a call before the supervisor has taken it, as it may interrupt open(). */
static int call_with_signals(void) {
    const struct itimerval often = {{.tv_usec = 50}, {.tv_usec = 50}};
    const struct sigaction action = {.sa_handler = on_alarm};
    int rc = result(sigaction(SIGALRM, &action, NULL));
    rc = rc != 0 ? rc : result(setitimer(ITIMER_REAL, &often, NULL));
    for (int i = 0; i < 2000 && (rc == 0 || rc == EINTR); i++) {
        rc = result(chmod("a", 0600));
    }
    return rc == EINTR ? 0 : rc;
}

static void test_signals(void) { CHECK(as_tenant(SETTING_SUPERVISED, call_with_signals) == 0); }

int main(void) {
    check_deadline(150);
    set_the_stage();
    RUN(test_races);
    RUN(test_kills);
    RUN(test_flood);
    RUN(test_signals);
    remove_all();
    return check_report();
}
