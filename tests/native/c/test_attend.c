/* sources: csrc/common/fd.c csrc/common/fd_linux.c csrc/common/vfork_linux.c csrc/common/wire.c
 * csrc/common/text.c csrc/common/packet.c csrc/init/attend_clock.c */
/* What init does while processes live, with the functions that it calls replaced, the clock too. Its file is part of
 * this program. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"

/* NOLINTBEGIN(bugprone-suspicious-include): its static functions are tested */
#include "init/attend.c"
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
    bool too_much;
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
    return false;
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
    return 0;
}

int sp_child_start(struct sp_child *child, const struct sp_plan *plan, const struct sp_request *request,
                   struct sp_command *command) {
    (void)child, (void)plan, (void)request, (void)command;
    return -1;
}
void sp_child_read_start(struct sp_child *child) { (void)child; }
void sp_child_read_signals(struct sp_child *child) { (void)child; }
void sp_child_kill(struct sp_child *child) { (void)child; }
void sp_child_free_from_tracer(struct sp_child *child) { (void)child; }
void sp_child_detach(pid_t pid, int status) { (void)pid, (void)status; }
int sp_file_serve(const struct sp_packet *packet, const char *payload) {
    (void)packet, (void)payload;
    return 0;
}
void sp_request_free_large(void) {}
int sp_request_next(int control, struct sp_request *request, struct sp_command *command, sp_file_server *serve_file) {
    (void)control, (void)request, (void)command, (void)serve_file;
    return -EAGAIN;
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

int main(void) {
    check_deadline(60);
    RUN(only_children_that_are_not_known_are_adopted);
    RUN(leftovers_that_fork_faster_than_they_are_killed_cost_everything);
    RUN(memory_is_watched_while_leftovers_are_killed);
    return check_report();
}
