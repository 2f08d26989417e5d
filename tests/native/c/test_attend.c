/* sources: csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/wire.c
 * csrc/common/text.c csrc/common/packet.c csrc/init/attend_clock.c */
/* What init does while processes live, with the functions that it calls replaced, the clock too. Its file is part of
 * this program. */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include "refused.h"

/* NOLINTBEGIN(bugprone-suspicious-include): its static functions are tested */
#include "init/attend.c"
#include "init/stem.h"
/* NOLINTEND(bugprone-suspicious-include) */

#define ROUND_NS (SP_MS(1) / 4)

/* The clock, which only a round of killing advances: how busy the machine is does not matter. */
static int64_t now = SP_SEC(1);

int64_t sp_now(void) { return now; }

int sp_wait_fd(int fd, short events, int64_t deadline) {
    struct pollfd p = {.fd = fd, .events = events};
    (void)deadline;
    return poll(&p, 1, 10000) == 1 ? 0 : -ETIMEDOUT;
}

static struct {
    int leftovers; /* rounds in which marked processes are still found */
    bool forking;  /* these are others each time */
    unsigned rounds, looks, kills_of_all, reports;
    int64_t took;
    bool too_much, orphan;
    int started;               /* what sp_child_start() returns */
    int report;                /* what sp_child_report() returns */
    int rc;                    /* what sp_request_next() returns */
    struct sp_request request; /* the next one */
    unsigned kills, detached;
} the;

int sp_kill_tenants(const struct sp_plan *plan) {
    (void)plan;
    the.kills_of_all++;
    the.leftovers = 0;
    return 0;
}

void sp_keeper_reaped(pid_t pid) { (void)pid; }

bool sp_tier_is_orphan(const struct sp_plan *plan) {
    (void)plan;
    return the.orphan;
}

enum sp_leftovers sp_leftovers_kill_marked(const struct sp_plan *plan) {
    (void)plan;
    the.rounds++;
    now += ROUND_NS;
    return the.leftovers-- <= 0 ? SP_LEFTOVERS_NONE : the.forking ? SP_LEFTOVERS_NEW : SP_LEFTOVERS_KILLED;
}

void sp_memory_watch_begin(struct sp_memory_watch *watch, const struct sp_plan *plan,
                           const struct sp_memory_base *base) {
    (void)plan, (void)base;
    *watch = (struct sp_memory_watch)SP_MEMORY_NOT_WATCHED;
    watch->next_look = sp_now();
}

bool sp_memory_watch_look(struct sp_memory_watch *watch) {
    the.looks++;
    watch->next_look = sp_now();
    return the.too_much;
}

void sp_memory_watch_end(struct sp_memory_watch *watch) { watch->next_look = SP_NEVER; }

int sp_child_report(const struct sp_child *child, int status, const struct rusage *usage) {
    (void)child, (void)status, (void)usage;
    the.reports++;
    return the.report;
}

int sp_child_start(struct sp_child *child, const struct sp_plan *plan, const struct sp_request *request,
                   struct sp_command *command) {
    (void)plan, (void)request, (void)command;
    child->pid = the.started == 0 ? 20 : 0;
    return the.started == 0 ? 0 : sp_failed(&child->why, SP_STAGE_SPAWN, -the.started, "fork");
}
void sp_child_read_start(struct sp_child *child) { (void)child; }
void sp_child_read_signals(struct sp_child *child) { (void)child; }
void sp_child_kill(struct sp_child *child) { the.kills += child->pid != 0; }
void sp_child_free_from_tracer(struct sp_child *child) { (void)child; }
void sp_child_detach(pid_t pid, int status) {
    the.detached += WIFSTOPPED(status);
    CHECK(ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0);
}
int sp_file_serve(const struct sp_packet *packet, const char *payload) {
    (void)packet, (void)payload;
    return 0;
}
void sp_request_free_large(void) {}
int sp_request_next(int control, struct sp_request *request, struct sp_command *command, sp_file_server *serve_file) {
    (void)control, (void)command, (void)serve_file;
    *request = the.request;
    return the.rc;
}

static pid_t adopted;
pid_t sp_adopt(int pidfd, uint32_t pid) {
    CHECK(pidfd == 99 && (adopted < 0 || pid == (uint32_t)adopted));
    return adopted;
}

static struct sp_attend attend;

/* A command has ended beside one process. What it has left may fork faster than init kills it. */
static void end_with_leftovers(int rounds, bool forking, bool too_much) {
    const struct rusage usage = {.ru_maxrss = 0};
    const int64_t began = sp_now();
    memset(&the, 0, sizeof the);
    the.forking = forking;
    memset(&attend, 0, sizeof attend);
    the.leftovers = rounds;
    the.too_much = too_much;
    attend.n_processes = 1;
    attend.command.pid = 7;
    attend.watch_at = SP_NEVER;
    sp_memory_watch_begin(&attend.memory, NULL, NULL);
    CHECK(end_command(&attend, 0, &usage) == 0 && the.reports == 1);
    the.took = sp_now() - began;
}

static void memory_is_watched_while_leftovers_are_killed(void) {
    end_with_leftovers(20, false, false);
    CHECK(the.looks >= 20 && the.kills_of_all == 0 && !attend.processes[0].oom);
    end_with_leftovers(1000, false, true);
    CHECK(the.looks == 1 && the.kills_of_all == 1 && attend.processes[0].oom);
}

static bool is_about(int64_t ns, int64_t wanted) { return ns >= wanted && ns <= wanted + 3 * ROUND_NS; }

static void leftovers_that_fork_faster_than_they_are_killed_cost_everything(void) {
    end_with_leftovers(1000000, true, false);
    CHECK(the.kills_of_all == 1 && is_about(the.took, FORKING_NS) && the.rounds > FORKING_ROUNDS);
    CHECK(the.looks <= 1);
    end_with_leftovers(1000000, false, false);
    CHECK(the.kills_of_all == 1 && is_about(the.took, LEFTOVERS_NS)); /* they may be slow to end */
}

/* The host's end of a process socket after an ADOPT: the record that has come. */
static struct sp_record answer_to_adoption(pid_t pid) {
    int pair[2];
    struct sp_packet packet;
    struct sp_request request = {.packet = {.fds = {-1, -1, -1, -1, -1}}};
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    request.packet.fds[0] = pair[1];
    request.packet.fds[1] = 99;
    request.packet.record.u.id.id = (uint32_t)pid;
    adopted = pid;
    adopt(&attend, &request);
    request.packet.fds[1] = -1;
    sp_packet_close(&request.packet);
    CHECK(sp_packet_recv(pair[0], &packet, NULL, 0) == 0);
    (void)close(pair[0]);
    return packet.record;
}

static void only_children_that_are_not_known_are_adopted(void) {
    memset(&attend, 0, sizeof attend);
    attend.command.pid = 7;
    attend.watch_at = SP_NEVER;
    CHECK(answer_to_adoption(8).type == SP_REC_STARTED && attend.n_processes == 1 && attend.served);
    CHECK(attend.processes[0].pid == 8 && attend.processes[0].deadline == SP_NEVER && attend.processes[0].start == -1);
    CHECK(answer_to_adoption(-ESRCH).u.failed.err == ESRCH);
    CHECK(answer_to_adoption(8).u.failed.err == ESRCH); /* of another session, or of popen */
    CHECK(answer_to_adoption(7).u.failed.err == ESRCH); /* the command */
    for (pid_t pid = 100; attend.n_processes < SP_PROCESSES_MAX; pid++) {
        CHECK(answer_to_adoption(pid).type == SP_REC_STARTED);
    }
    CHECK(answer_to_adoption(9).u.failed.err == EAGAIN && attend.n_processes == SP_PROCESSES_MAX);
    for (unsigned i = 0; i < attend.n_processes; i++) {
        sp_fd_close(&attend.processes[i].socket);
    }
}

/* ---- requests ---- */

static int ends[2]; /* the host's end of a socket, and that of init */

static void begin(void) {
    memset(&the, 0, sizeof the);
    memset(&attend, 0, sizeof attend);
    memset(the.request.packet.fds, -1, sizeof the.request.packet.fds);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    attend.watch_at = SP_NEVER;
    attend.memory.next_look = SP_NEVER;
}

static void end(void) {
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static int take(enum sp_record_type type, uint32_t id) {
    the.request.packet.record = (struct sp_record){.type = type, .u.id.id = id};
    the.request.exec.id = id;
    return take_request(&attend);
}

static struct sp_record received(void) {
    struct sp_packet packet = {.n_fds = 0};
    CHECK(sp_packet_recv(ends[0], &packet, NULL, 0) == 0);
    return packet.record;
}

static void a_process_that_cannot_be_started_is_told(void) {
    begin();
    the.started = -EAGAIN;
    the.request.packet.fds[0] = ends[1];
    the.request.packet.n_fds = 1;
    CHECK(take(SP_REC_SPAWN, 1) == 0 && attend.n_processes == 0 && attend.served);
    const struct sp_record diagnostics = received();
    CHECK(diagnostics.type == SP_REC_FAILED && diagnostics.u.failed.err == EAGAIN &&
          diagnostics.u.failed.stage == SP_STAGE_SPAWN);
    char byte;
    CHECK(recv(ends[0], &byte, 1, 0) == 0); /* its socket is closed */
    (void)close(ends[0]);
}

static void one_for_which_there_is_no_room_is_told(void) {
    begin();
    attend.n_processes = SP_PROCESSES_MAX;
    the.request.packet.fds[0] = ends[1];
    the.request.packet.n_fds = 1;
    CHECK(take(SP_REC_SPAWN, 1) == 0 && attend.n_processes == SP_PROCESSES_MAX);
    CHECK(strcmp(received().u.failed.detail, "processes of this sandbox") == 0);
    end();
}

static void a_command_is_acknowledged_before_it_starts(void) {
    begin();
    attend.control = ends[1];
    the.started = -ENOMEM;
    CHECK(take(SP_REC_EXEC, 5) == 0 && attend.command.pid == 0 && received().type == SP_REC_ACK);
    const struct sp_record diagnostics = received();
    CHECK(diagnostics.type == SP_REC_FAILED && diagnostics.u.failed.err == ENOMEM && diagnostics.u.failed.id == 5);
    the.started = 0;
    CHECK(take(SP_REC_EXEC, 6) == 0 && attend.command.pid == 20 && received().u.id.id == 6);
    CHECK(take(SP_REC_EXEC, 7) == -EBADMSG); /* one is running */
    CHECK(take(SP_REC_KILL, 5) == 0 && the.kills == 0 && take(SP_REC_KILL, 6) == 0 && the.kills == 1);
    attend.command.pid = 0;
    CHECK(take(SP_REC_KILL, 6) == 0 && the.kills == 1);
    (void)close(ends[0]);
    CHECK(take(SP_REC_EXEC, 8) == -EPIPE && attend.command.pid == 0); /* the host is gone */
    (void)close(ends[1]);
}

static void what_comes_after_a_serve_is_served(void) {
    begin();
    CHECK(take(SP_REC_FILE, 0) == 0 && attend.served && take(SP_REC_SERVE, 0) == 0 && !attend.served);
    the.rc = -EAGAIN;
    CHECK(take(SP_REC_FILE, 0) == 0 && !attend.served);
    the.rc = -ECONNRESET;
    CHECK(take(SP_REC_FILE, 0) == -ECONNRESET);
    end();
}

static void a_copy_is_taken_with_its_socket(void) {
    begin();
    the.request.packet.fds[0] = ends[1];
    the.request.packet.fds[1] = 99;
    the.request.packet.n_fds = 2;
    adopted = 8;
    CHECK(take(SP_REC_ADOPT, 8) == 0 && attend.n_processes == 1 && received().type == SP_REC_STARTED);
    CHECK(fcntl(ends[1], F_GETFD) != -1 && attend.processes[0].socket == ends[1]);
    end();
}

static void with_few_descriptors(void) {
    struct rlimit few = {SPARE_FDS + 5, SPARE_FDS + 5};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0 && room_for_processes() == 2);
    few.rlim_cur = SPARE_FDS;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0 && room_for_processes() == 0);
}

static void each_process_needs_descriptors(void) {
    CHECK(room_for_processes() == SP_PROCESSES_MAX && in_child(with_few_descriptors, 10) == 0);
}

/* ---- ends ---- */

/* A tenant can make init a tracer (PTRACE_TRACEME): the stop is no end. */
static void a_stop_is_no_end(void) {
    int rc = 0;
    begin();
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20);
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && raise(SIGUSR1) == 0 ? 0 : 1);
    }
    (void)signal(SIGUSR1, SIG_DFL);
    attend.n_processes = 1;
    attend.processes[0] = (struct sp_child){.pid = pid, .socket = -1, .start = -1};
    while (!reap(&attend, REAPED_IN_A_TURN, &rc)) {
        sleep_ns(10 * MS);
    }
    CHECK(the.detached == 1 && rc == 0 && the.reports == 1 && attend.n_processes == 0);
    end();
}

/* One that has ended, and is not reaped yet. */
static pid_t start_and_end(void) {
    const pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    CHECK(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
    return pid;
}

static void a_turn_reaps_no_more_than_it_may(void) {
    int rc = 0;
    begin();
    (void)start_and_end();
    (void)start_and_end();
    CHECK(!reap(&attend, 1, &rc) && !reap(&attend, 1, &rc) && reap(&attend, 1, &rc) && rc == 0);
    end();
}

static void an_end_that_cannot_be_reported_ends_all(void) {
    const struct sp_memory_base base = {0};
    const struct sp_plan plan = {.config.flags = 0};
    begin();
    sp_attend_begin(&attend, &plan, ends[1], &base);
    attend.command.pid = start_and_end();
    the.report = -EPIPE;
    the.orphan = true; /* this is not asked any more */
    CHECK(sp_attend(&attend) == -EPIPE && the.reports == 1);
    end();
}

static void without_ends_to_know(void) {
    int rc = 0;
    refuse(SYS_wait4, EINVAL);
    CHECK(!reap(&attend, 1, &rc) && rc == 0);
}

/* qemu-user knows neither seccomp filters nor ptrace. */
static const char *under_qemu(void) {
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == -1 ? "neither seccomp filters nor ptrace here" : NULL;
}

static void what_is_not_known_is_no_end(void) { CHECK(in_child(without_ends_to_know, 10) == 0); }

static void an_orphan_ends(void) {
    const struct sp_memory_base base = {0};
    const struct sp_plan plan = {.config.flags = 0};
    begin();
    sp_attend_begin(&attend, &plan, ends[1], &base);
    the.orphan = true;
    CHECK(sp_attend(&attend) == -ESRCH);
    the.orphan = false;
    attend.served = true;
    CHECK(sp_attend(&attend) == 0); /* nothing of the tenant lives */
    end();
}

/* With an interpreter, each process that runs it may use as much more as it has. */
static void what_interpreters_share_is_no_ones_memory(void) {
    static const struct sp_stem stem = {.memory_bytes = 100, .image_bytes = 40};
    const struct sp_plan plan = {.stem = &stem, .config.memory_bytes = 1000};
    begin();
    attend.plan = &plan;
    attend.memory = (struct sp_memory_watch){.limit = 1, .next_look = now};
    sp_attend_look_at_memory(&attend, now);
    CHECK(the.looks == 1 && attend.memory.limit == 1000 && attend.memory.image == 0);
    attend.n_processes = 2;
    attend.processes[0].interprets = attend.processes[1].interprets = true;
    sp_attend_look_at_memory(&attend, now);
    CHECK(attend.memory.limit == 1200 && attend.memory.image == 40);
    end();
}

int main(void) {
    check_deadline(60);
    RUN(only_children_that_are_not_known_are_adopted);
    RUN(leftovers_that_fork_faster_than_they_are_killed_cost_everything);
    RUN(memory_is_watched_while_leftovers_are_killed);
    RUN(a_process_that_cannot_be_started_is_told);
    RUN(one_for_which_there_is_no_room_is_told);
    RUN(a_command_is_acknowledged_before_it_starts);
    RUN(what_comes_after_a_serve_is_served);
    RUN(a_copy_is_taken_with_its_socket);
    RUN(each_process_needs_descriptors);
    RUN_WITHOUT(under_qemu(), a_stop_is_no_end);
    RUN(a_turn_reaps_no_more_than_it_may);
    RUN(an_end_that_cannot_be_reported_ends_all);
    RUN_WITHOUT(under_qemu(), what_is_not_known_is_no_end);
    RUN(an_orphan_ends);
    RUN(what_interpreters_share_is_no_ones_memory);
    return check_report();
}
