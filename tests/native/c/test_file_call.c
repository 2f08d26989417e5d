/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/host/sandbox/session.c csrc/host/sandbox/control.c csrc/host/sandbox/isolation.c
 * csrc/host/sandbox/launch.c csrc/host/sandbox/birth.c csrc/host/sandbox/error.c csrc/host/sandbox/dying.c
 * csrc/host/sys/own.c csrc/host/sys/thread_linux.c */
/* The calls on files: what cannot be sent, each answer of init, and what becomes of the lease. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "leased.h"

static int64_t late; /* so much later it is in file.c */
static int64_t later_now(void) { return sp_now() + late; }

#define sp_now later_now
#include "host/execute/file.c" /* NOLINT(bugprone-suspicious-include): with a lease of its own */
#undef sp_now

static sp_file_result result;

static sp_file_request request_of(uint32_t op) {
    return (sp_file_request){.size = sizeof(sp_file_request), .op = op, .path = "a"};
}

static sp_file *start(const sp_file_request *request, int expected) {
    sp_file *file = NULL;
    CHECK(sp_file_start(leased.pool, 1, request, &file, &result) == expected);
    CHECK((file != NULL) == (expected == SP_OK));
    return file;
}

/* The reply socket that init gets. */
static int receive_request(void) {
    char payload[SP_FILE_PAYLOAD_MAX];
    struct sp_packet packet;
    CHECK(sp_packet_recv(leased.init, &packet, payload, sizeof payload) == 0 && packet.record.type == SP_REC_FILE);
    CHECK(packet.n_fds == 1);
    return sp_fd_steal(&packet.fds[0]);
}

/* ---- requests ---- */

static void an_unsound_request_is_refused(void) {
    sp_file_request bad[] = {request_of(SP_FILE_STAT),   request_of(0),
                             request_of(SP_FILE_OP_END), request_of(SP_FILE_STAT),
                             request_of(SP_FILE_STAT),   request_of(SP_FILE_STAT),
                             request_of(SP_FILE_STAT),   request_of(SP_FILE_RENAME)};
    bad[0].size--;
    bad[3].flags = SP_FILE_FLAGS + 1;
    bad[4].mode = 01000;
    bad[5].path = NULL;
    bad[6].second = "b";
    begin_lease();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(start(&bad[i], SP_E_INVAL) == NULL);
    }
    end_lease();
}

static void a_path_that_is_too_long_is_not_sent(void) {
    static char longest[SP_FILE_PATH_MAX + 1];
    sp_file_request requests[] = {request_of(SP_FILE_STAT), request_of(SP_FILE_STAT), request_of(SP_FILE_RENAME),
                                  request_of(SP_FILE_SYMLINK)};
    memset(longest, 'x', sizeof longest - 1);
    requests[0].path = longest + 1; /* long enough by itself, and too long below "/tmp" */
    requests[1].path = requests[3].path = longest;
    requests[2].second = requests[3].second = longest;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        begin_lease();
        sp_file *file = start(&requests[i], SP_OK);
        CHECK(result.err == ENAMETOOLONG && sp_file_fd(file) == -1);
        CHECK(sp_file_poll(file, &result) == SP_OK && sp_file_wait(file, &result) == SP_OK && leased.kills == 0);
        sp_file_close(&file);
        CHECK(file == NULL);
        end_lease();
    }
    begin_lease();
    longest[sizeof longest - 2] = '\0'; /* as long as the text of a link may be */
    sp_file *file = start(&requests[3], SP_OK);
    CHECK(result.err == ENAMETOOLONG); /* "/tmp/xxx…" */
    sp_file_close(&file);
    requests[3].second = "b";
    file = start(&requests[3], SP_OK);
    CHECK(result.err == 0);
    int reply = receive_request();
    sp_fd_close(&reply);
    sp_file_close(&file);
    end_lease();
}

static void nothing_is_asked_of_what_is_gone(void) {
    const sp_file_request request = request_of(SP_FILE_STAT);
    begin_lease();
    is_mine = 0;
    CHECK(start(&request, SP_E_FORKED) == NULL);
    is_mine = 1;
    sp_fd_close(&leased.init);
    CHECK(start(&request, SP_E_LOST) == NULL);
    replace_descriptor(leased.session->control);
    CHECK(start(&request, SP_E_DESCRIPTORS) == NULL);
    CHECK(close(leased.session->control) == 0);
    release_lease();
    CHECK(start(&request, SP_E_RELEASED) == NULL);
    end_lease();
}

static void a_launcher_without_init_has_no_files(void) {
    static const struct sp_launch_ops ops = {
        .session_size = sizeof(struct sp_session), .kill_sandbox = count_kill, .free = never_freed};
    const sp_file_request request = request_of(SP_FILE_STAT);
    begin_lease();
    leased_launcher.ops = &ops;
    CHECK(start(&request, SP_E_UNSUPPORTED) == NULL);
    leased_launcher.ops = &leased_ops;
    end_lease();
}

static void a_request_without_a_descriptor_fails(void) {
    const sp_file_request request = request_of(SP_FILE_STAT);
    begin_lease();
    const struct rlimit before = take_free_descriptors();
    sp_file *file = start(&request, SP_OK);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0 && result.err == EMFILE && leased.kills == 0);
    sp_file_close(&file);
    end_lease();
}

/* ---- answers ---- */

struct answer {
    uint32_t op, flags;
    enum sp_record_type type;
    uint32_t err, payload_len;
    const char *text;
    int fd;
    bool is_good;
};

static void answer_once(const struct answer *answer) {
    sp_file_request request = request_of(answer->op);
    request.flags = answer->flags;
    struct sp_record record = {.type = answer->type};
    if (answer->type == SP_REC_FILED) {
        record.u.filed = (struct sp_rec_filed){.err = answer->err, .size = 7, .payload_len = answer->payload_len};
    }
    begin_lease();
    sp_file *file = start(&request, SP_OK);
    int reply = receive_request();
    CHECK(sp_file_poll(file, &result) == SP_AGAIN && sp_file_fd(file) != -1);
    send_answer(reply, &record, answer->text, strlen(answer->text), answer->fd);
    CHECK(sp_file_wait(file, &result) == (answer->is_good ? SP_OK : SP_E_LOST));
    CHECK(leased.kills == (answer->is_good ? 0 : 1));
    if (answer->is_good) {
        CHECK(result.err == (int32_t)answer->err && result.size == 7 && result.text_len == strlen(answer->text));
        CHECK(memcmp(result.text, answer->text, result.text_len) == 0);
    }
    int opened = sp_file_take(file);
    CHECK((opened != -1) == (answer->is_good && answer->fd != -1));
    sp_fd_close(&opened);
    sp_file_close(&file);
    sp_fd_close(&reply);
    end_lease();
}

static void each_answer_is_judged(void) {
    int file = memfd_create("file", MFD_CLOEXEC);
    int directory = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ends[2];
    CHECK(file != -1 && directory != -1 && sp_pipe(ends) == 0);
    const struct answer answers[] = {
        {SP_FILE_STAT, 0, SP_REC_FILED, 0, 0, "", -1, true},
        {SP_FILE_STAT, 0, SP_REC_FILED, ENOENT, 0, "", -1, true},
        {SP_FILE_OPEN, 0, SP_REC_FILED, ENOENT, 0, "", -1, true},
        {SP_FILE_OPEN, 0, SP_REC_FILED, 0, 0, "", file, true},
        {SP_FILE_OPEN, SP_FILE_DIRECTORY, SP_REC_FILED, 0, 0, "", directory, true},
        {SP_FILE_OPEN, SP_FILE_ANY, SP_REC_FILED, 0, 0, "", directory, true},
        {SP_FILE_READLINK, 0, SP_REC_FILED, 0, 4, "text", -1, true},
        {SP_FILE_READLINK, 0, SP_REC_FILED, EINVAL, 0, "", -1, true},
        {SP_FILE_STAT, 0, SP_REC_STARTED, 0, 0, "", -1, false},                 /* no answer to it */
        {SP_FILE_STAT, 0, SP_REC_FILED, 0, 0, "", file, false},                 /* a file that nobody asked for */
        {SP_FILE_STAT, 0, SP_REC_FILED, 0, 4, "text", -1, false},               /* a text */
        {SP_FILE_READLINK, 0, SP_REC_FILED, 0, 5, "text", -1, false},           /* a shorter one than it says */
        {SP_FILE_READLINK, 0, SP_REC_FILED, EINVAL, 4, "text", -1, false},      /* a text and an error */
        {SP_FILE_OPEN, 0, SP_REC_FILED, 0, 0, "", -1, false},                   /* no file */
        {SP_FILE_OPEN, 0, SP_REC_FILED, ENOENT, 0, "", file, false},            /* a file and an error */
        {SP_FILE_OPEN, 0, SP_REC_FILED, 0, 0, "", directory, false},            /* another kind */
        {SP_FILE_OPEN, SP_FILE_DIRECTORY, SP_REC_FILED, 0, 0, "", file, false}, /* another kind */
        {SP_FILE_OPEN, SP_FILE_ANY, SP_REC_FILED, 0, 0, "", ends[0], false},    /* what could block the host */
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        answer_once(&answers[i]);
        if (atomic_load(&check_failures) != 0) {
            (void)fprintf(stderr, "answer %zu\n", i);
            break;
        }
    }
    sp_fd_close(&file);
    sp_fd_close(&directory);
    sp_fd_close(&ends[0]);
    sp_fd_close(&ends[1]);
}

/* init is not to blame. */
static void an_open_file_that_finds_no_room_costs_no_lease(void) {
    const sp_file_request request = request_of(SP_FILE_OPEN);
    const struct sp_record record = {.type = SP_REC_FILED};
    begin_lease();
    sp_file *file = start(&request, SP_OK);
    int reply = receive_request();
    send_answer(reply, &record, NULL, 0, 0);
    const struct rlimit before = take_free_descriptors();
    CHECK(sp_file_poll(file, &result) == SP_OK && result.err == EMFILE && leased.kills == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0 && sp_file_take(file) == -1);
    sp_file_close(&file);
    sp_fd_close(&reply);
    end_lease();
}

static void no_answer_comes(void) {
    const sp_file_request request = request_of(SP_FILE_STAT);
    for (int how = 0; how < 5; how++) {
        static const int codes[] = {SP_E_LOST, SP_E_RELEASED, SP_E_DESCRIPTORS, SP_OK, SP_E_FORKED};
        begin_lease();
        sp_file *file = start(&request, SP_OK);
        int reply = receive_request();
        int foreign = -1;
        if (how <= 1) { /* the sandbox is dead, by itself or with its lease */
            sp_fd_close(&reply);
        }
        if (how == 1) {
            release_lease();
        } else if (how == 2) {
            foreign = sp_file_fd(file);
            replace_descriptor(foreign);
        } else if (how == 3) {
            late = TIMEOUT_NS;
        } else if (how == 4) {
            is_mine = 0;
        }
        CHECK(sp_file_wait(file, &result) == codes[how] && leased.kills == (how == 1 ? 1 : 0));
        CHECK(how != 3 || result.err == ETIMEDOUT);
        late = 0;
        sp_file_close(&file);
        CHECK(foreign == -1 || close(foreign) == 0); /* which is not ours to close */
        sp_fd_close(&reply);
        end_lease();
    }
}

/* ---- waits ---- */

static void *wait_in_a_thread(void *file) {
    CHECK(sp_file_wait(file, &result) == SP_OK);
    return NULL;
}

/* The main thread comes back for signals; another one waits for the answer. */
static void only_the_main_thread_comes_back_before_the_answer(void) {
    const sp_file_request request = request_of(SP_FILE_STAT);
    const struct sp_record record = {.type = SP_REC_FILED};
    pthread_t thread;
    begin_lease();
    sp_file *file = start(&request, SP_OK);
    int reply = receive_request();
    CHECK(sp_file_wait(file, &result) == SP_AGAIN);
    CHECK(pthread_create(&thread, NULL, wait_in_a_thread, file) == 0);
    sleep_ns(2 * IDLE_NS);
    send_answer(reply, &record, NULL, 0, -1);
    CHECK(pthread_join(thread, NULL) == 0);
    sp_file_close(&file);
    sp_file_close(&file);
    sp_fd_close(&reply);
    end_lease();
}

static atomic_uint alarms;

static void count_alarm(int number) {
    (void)number;
    atomic_fetch_add(&alarms, 1);
}

/* A signal comes in the middle of the wait, which ends, so that the application's handler runs. */
static void a_signal_ends_the_wait(void) {
    const sp_file_request request = request_of(SP_FILE_STAT);
    const struct sigaction counted = {.sa_handler = count_alarm};
    const struct itimerval often = {{.tv_usec = 2000}, {.tv_usec = 2000}};
    const struct itimerval never = {{0}, {0}};
    struct sigaction before;
    begin_lease();
    sp_file *file = start(&request, SP_OK);
    int reply = receive_request();
    CHECK(sigaction(SIGALRM, &counted, &before) == 0);
    const unsigned left = alarm(0); /* one clock serves both */
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    while (atomic_load(&alarms) == 0) {
        CHECK(sp_file_wait(file, &result) == SP_AGAIN);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0 && sigaction(SIGALRM, &before, NULL) == 0);
    (void)alarm(left);
    sp_file_close(&file);
    sp_fd_close(&reply);
    end_lease();
}

static void a_wait_ends_with_the_time_of_the_call(void) {
    const sp_file_request request = request_of(SP_FILE_STAT);
    begin_lease();
    sp_file *file = start(&request, SP_OK);
    int reply = receive_request();
    file->deadline = sp_now() + 5 * MS; /* sooner than the wait would end by itself */
    CHECK(sp_file_wait(file, &result) == SP_OK && result.err == ETIMEDOUT);
    sp_file_close(&file);
    sp_fd_close(&reply);
    end_lease();
}

int main(void) {
    check_deadline(60);
    RUN(an_unsound_request_is_refused);
    RUN(a_path_that_is_too_long_is_not_sent);
    RUN(nothing_is_asked_of_what_is_gone);
    RUN(a_launcher_without_init_has_no_files);
    RUN(a_request_without_a_descriptor_fails);
    RUN(each_answer_is_judged);
    RUN(an_open_file_that_finds_no_room_costs_no_lease);
    RUN(no_answer_comes);
    RUN(only_the_main_thread_comes_back_before_the_answer);
    RUN(a_signal_ends_the_wait);
    RUN(a_wait_ends_with_the_time_of_the_call);
    return check_report();
}
