/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/host/sandbox/session.c csrc/host/sandbox/control.c csrc/host/sandbox/isolation.c
 * csrc/host/sandbox/launch.c csrc/host/sandbox/birth.c csrc/host/sandbox/error.c csrc/host/sandbox/dying.c
 * csrc/host/sys/own.c csrc/host/sys/thread_linux.c */
/*
 * A file call with a hostile init. Whatever init answers, the host gets an open file only if it is one of the kind that
 * was asked for, a text only of the length that came, and no descriptor is left.
 */
#include "host/execute/file.c" /* NOLINT(bugprone-suspicious-include): with a lease of its own */

#include "hostile.h"

static unsigned kills;

static void count_kill(struct sp_session *session) {
    (void)session;
    kills++;
}

static void never_freed(sp_launcher *launcher) {
    (void)launcher;
    MUST(false);
}

static const struct sp_launch_ops ops = {
    .has_init = true, .session_size = sizeof(struct sp_session), .kill_sandbox = count_kill, .free = never_freed};
static struct sp_launcher launcher = {.ops = &ops, .refs = 1};
static struct sp_session *leased; /* NULL: the lease has ended */

struct sp_session *sp_lease_share(sp_pool *pool, int64_t handle, int *code) {
    MUST(pool != NULL && handle == 1);
    *code = leased != NULL ? SP_OK : SP_E_RELEASED;
    if (leased != NULL) {
        atomic_fetch_add(&leased->refs, 1);
    }
    return leased;
}

/* Sends FILED with a file of some kind, a text and an error, none of which need fit together. */
static void answer(struct hostile *h, struct feed *feed) {
    uint8_t bytes[SP_RECORD_SIZE + SP_FILE_PATH_MAX + 8] = {0};
    const uint8_t how = feed_byte(feed);
    struct sp_record record = {.type = SP_REC_FILED};

    record.u.filed.err = (how & 1) != 0 ? feed_byte(feed) : 0;
    record.u.filed.payload_len = (how & 2) != 0 ? (uint32_t)feed_number(feed, 2) % (SP_FILE_PATH_MAX + 1) : 0;
    record.u.filed.size = feed_byte(feed);
    sp_wire_pack(&record, bytes);
    const size_t text = (how & 4) != 0 ? feed_number(feed, 2) % (SP_FILE_PATH_MAX + 8) : record.u.filed.payload_len;
    (void)send_packet(h->sock, bytes, SP_RECORD_SIZE + text, how >> 5, (how >> 3) & 3);
}

static void run_answers(struct hostile *h, struct feed *feed) {
    for (unsigned n = 1 + feed_byte(feed) % 2; n != 0; n--) {
        if ((feed_byte(feed) & 1) != 0) {
            answer(h, feed);
        } else {
            hostile_record(h, feed, 0);
        }
    }
    hostile_hang_up(h);
}

static void check_result(const struct sp_file *file, const sp_file_result *result) {
    struct stat st;

    MUST(result->text_len <= SP_FILE_PATH_MAX && result->err >= 0 && result->err <= 4095);
    MUST(result->text_len == 0 || (file->op == SP_FILE_READLINK && result->err == 0 && result->text == file->text));
    MUST((file->opened != -1) == (file->op == SP_FILE_OPEN && result->err == 0));
    if (file->opened != -1) {
        MUST(fstat(file->opened, &st) == 0 && S_ISREG(st.st_mode) && (file->flags & SP_FILE_DIRECTORY) == 0);
    }
}

static void call(struct feed *feed, sp_pool *pool, int control) {
    struct hostile *h = calloc(1, sizeof *h);
    char payload[SP_FILE_PAYLOAD_MAX];
    const uint32_t op = 1 + feed_byte(feed) % (SP_FILE_OP_END - 1);
    bool two = op == SP_FILE_RENAME || op == SP_FILE_SYMLINK;
    const sp_file_request request = {.size = sizeof request,
                                     .op = op,
                                     .flags = (uint32_t)feed_number(feed, 2) & SP_FILE_FLAGS,
                                     .path = "a",
                                     .second = two ? "b" : NULL};
    sp_file_result result;
    struct sp_packet packet;
    sp_file *file = NULL;
    int code = SP_AGAIN;

    MUST(h != NULL && sp_file_start(pool, 1, &request, &file, &result) == SP_OK);
    MUST(sp_packet_recv(control, &packet, payload, sizeof payload) == 0 && packet.record.type == SP_REC_FILE);
    h->sock = sp_fd_steal(&packet.fds[0]);
    run_answers(h, feed);
    leased = (feed_byte(feed) & 1) != 0 ? NULL : leased;
    while (code == SP_AGAIN) {
        code = sp_file_poll(file, &result);
    }
    MUST(code == SP_OK || code == SP_E_LOST || (leased == NULL && code == SP_E_RELEASED));
    if (code == SP_OK) {
        check_result(file, &result);
    } else {
        MUST(file->opened == -1);
    }
    sp_file_close(&file);
    sp_fd_close(&h->sock);
    free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t mine = 1;
    struct feed feed = {data, size};
    const uint64_t fds_before = open_fds();
    sp_pool *pool = calloc(1, sizeof *pool);
    struct sp_session *session = sp_session_new(&launcher);
    int pair[2];

    MUST(pool != NULL && session != NULL && sp_control_pair(pair) == 0);
    pool->mine = &mine;
    session->control = pair[0];
    leased = session;
    call(&feed, pool, pair[1]);
    sp_session_end(session);
    sp_fd_close(&pair[1]);
    free(pool);
    MUST(launcher.refs == 1 && open_fds() == fds_before);
    return 0;
}
