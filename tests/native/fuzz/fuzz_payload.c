/* sources: csrc/common/wire.c csrc/common/packet.c csrc/common/clock.c csrc/common/fd.c csrc/common/fd_linux.c
 * csrc/common/vfork_linux.c csrc/common/text.c csrc/init/plan.c csrc/init/command.c csrc/zygote/pending.c */
/*
 * The other direction: the readers of zygote and init. Only a broken host would send such payloads. Even so, what the
 * readers find must lie inside the payload.
 */
#include <sys/mman.h>

#include "common/packet.h"
#include "fuzz.h"

/* The memory of a payload that does not fit the buffer of its reader; freed after each run. */
static struct {
    void *at;
    size_t len;
} mapped;

static void *kept_mmap(size_t len) {
    mapped.at = malloc(len); /* of the exact size, so that AddressSanitizer sees a read beyond it */
    mapped.len = len;
    return mapped.at;
}

#define mmap(at, len, prot, flags, fd, offset) kept_mmap(len)
#include "init/file.c"    /* NOLINT(bugprone-suspicious-include): its reader is static */
#include "init/request.c" /* NOLINT(bugprone-suspicious-include): its readers are static */
#define first first_packet
#include "zygote/config.c" /* NOLINT(bugprone-suspicious-include): its readers are static */
#undef first
#undef mmap
#include "zygote/runtime.c" /* NOLINT(bugprone-suspicious-include): one of them */

#include "hostile.h"
#include "zygote/pending.h"

int sp_zygote_tier_take_over(struct sp_plan *plan) {
    return plan != NULL ? 0 : -EBADMSG;
} /* it reads nothing of CONFIG */

/* What was accepted, so that a corpus that no longer fits this file is noticed: test_fuzz.py. */
static unsigned long plans, runtimes, commands, files, workspaces;

static void report(void) {
    (void)fprintf(stderr, "accepted: %lu plans, %lu runtimes, %lu commands, %lu files, %lu workspaces\n", plans,
                  runtimes, commands, files, workspaces);
}

/* NOLINTBEGIN(readability-non-const-parameter): libFuzzer declares it so */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    /* NOLINTEND(readability-non-const-parameter) */
    (void)argc, (void)argv;
    return atexit(report);
}

/* Sends packets of any sizes. The first begins with a record that is valid but for what the input changes. */
static void send_all(struct feed *feed, int sock, const struct sp_record *record, unsigned n_fds) {
    uint8_t bytes[SP_RECORD_SIZE + SP_PACKET_MAX] = {0};
    size_t len = SP_RECORD_SIZE;

    sp_wire_pack(record, bytes);
    if ((feed_byte(feed) & 15) == 15) {
        bytes[feed_byte(feed) % SP_RECORD_SIZE] = feed_byte(feed);
    }
    do {
        size_t chunk = feed_number(feed, 2);
        len += feed_bytes(feed, bytes + len, chunk % (sizeof bytes - len + 1));
        (void)send_packet(sock, bytes, len, 0, n_fds);
        n_fds = 0;
        len = 0;
    } while (feed->left != 0);
    (void)shutdown(sock, SHUT_WR);
}

/* ---- zygote ---- */

static bool is_inside(const void *at, size_t len, const char *payload, size_t size) {
    return (const char *)at >= payload && (const char *)at + len <= payload + size;
}

static void check_filter(const struct sp_plan_filter *filter, const char *payload, size_t size) {
    MUST((uintptr_t)filter->insns % 8 == 0);
    MUST(is_inside(filter->insns, filter->len * sizeof *filter->insns, payload, size));
}

static void check_runtime(const struct sp_command *runtime, const char *payload, size_t size) {
    MUST(is_inside(runtime->cwd, strlen(runtime->cwd) + 1, payload, size) && runtime->argv[0] != NULL);
    MUST(runtime->env > runtime->argv && runtime->channel == -1);
    for (char **text = runtime->argv; *text != NULL; text++) {
        MUST(is_inside(*text, strlen(*text) + 1, payload, size));
    }
    for (char **text = runtime->env; *text != NULL; text++) {
        MUST(is_inside(*text, strlen(*text) + 1, payload, size));
    }
}

static void check_plan(const struct sp_plan *plan, const char *payload) {
    const size_t size = plan->config.payload_len;

    check_filter(&plan->template_filter, payload, size);
    check_filter(&plan->init_filter, payload, size);
    check_filter(&plan->exec_filter, payload, size);
    const char *const strings[] = {plan->interpreter, plan->parameters, plan->source};
    for (int i = 0; i < 3; i++) {
        const bool has_stem = (plan->config.flags & SP_CONFIG_STEM) != 0;
        MUST((strings[i] != NULL) == has_stem);
        MUST(!has_stem || is_inside(strings[i], strlen(strings[i]) + 1, payload, size));
    }
    MUST(plan->interpreter == NULL || plan->interpreter[0] == '/');
    MUST(plan->rootfs == NULL ||
         (plan->rootfs[0] == '/' && is_inside(plan->rootfs, strlen(plan->rootfs) + 1, payload, size)));
    MUST((plan->runtime != NULL) == ((plan->config.flags & SP_CONFIG_RUNTIME) != 0));
    if (plan->runtime != NULL) {
        runtimes++;
        MUST(plan->runtime_ms >= 0 && plan->runtime_ms < 10000000);
        check_runtime(plan->runtime, payload, size);
    }
    MUST(plan->config.n_binds <= SP_BINDS_MAX);
    for (int i = 0; i < (int)plan->config.n_binds; i++) {
        const struct sp_plan_bind *bind = &plan->binds[i];
        MUST(bind->path[0] == '/' && is_inside(bind->path, strlen(bind->path) + 1, payload, size));
        MUST(i == 0 || strcmp(plan->binds[i - 1].path, bind->path) < 0);
        MUST(bind->parent >= -1 && bind->parent < i);
        MUST(bind->parent == -1 || sp_path_is_below(bind->path, plan->binds[bind->parent].path));
        MUST(!bind->needs_rule || bind->writable || bind->scratch);
        MUST(!bind->covers || (bind->parent != -1 && !bind->writable && !bind->staged));
        MUST(plan->has_staged || !bind->staged);
    }
}

static void configure(struct feed *feed, int pair[2]) {
    struct sp_record record = {.type = SP_REC_CONFIG};
    struct sp_rec_config *c = &record.u.config;
    static struct sp_plan plan;
    struct sp_rec_failed why;
    int host = -1;

    memset(&plan, 0, sizeof plan);
    plan.module = plan.errors = -1;
    c->flags = (uint32_t)feed_number(feed, 2) & SP_CONFIG_FLAGS;
    c->n_binds = feed_byte(feed) % 16;
    c->template_filter_len = feed_byte(feed) % 4;
    c->init_filter_len = feed_byte(feed) % 4;
    c->exec_filter_len = feed_byte(feed) % 4;
    c->payload_len = (uint32_t)feed_number(feed, 2);
    send_all(feed, pair[1], &record, c->flags % 4); /* with up to three descriptors */
    if (sp_zygote_configure(pair[0], &plan, &host, &why) == 0) {
        plans++;
        check_plan(&plan, mapped.at != NULL ? mapped.at
                                            : (const char *)plan.exec_filter.insns + plan.exec_filter.len * 8 -
                                                  plan.config.payload_len);
    }
    sp_fd_close(&host);
    sp_fd_close(&plan.module);
    sp_fd_close(&plan.errors);
}

static const char *attach_path; /* where the record's payload is */

/* In place of the one that mounts. */
void sp_zygote_attach_workspace(const struct sp_plan *plan, const struct sp_rec_attach *attach, const char *path,
                                const int *fds, unsigned n_fds) {
    (void)plan;
    workspaces++;
    MUST(attach->mode >= SP_ATTACH_RW && attach->mode <= SP_ATTACH_COW);
    MUST(path[0] == '/' && strcmp(path, attach_path) == 0 && strlen(path) < attach->payload_len);
    MUST(n_fds == 2 || n_fds == 3);
    for (unsigned i = 0; i < n_fds; i++) {
        MUST(fds[i] != -1);
    }
}

static void attach_request(struct feed *feed, int pair[2]) {
    static char path[SP_ATTACH_PATH_MAX];
    struct sp_record record = {.type = SP_REC_ATTACH};
    struct sp_packet packet;
    record.u.attach.mode = SP_ATTACH_RW + feed_byte(feed) % 3;
    record.u.attach.payload_len = 2 + (uint32_t)feed_byte(feed);
    send_all(feed, pair[1], &record, feed_byte(feed) % 5);
    memset(path, 'x', sizeof path); /* of an older request */
    if (sp_packet_recv(pair[0], &packet, path, sizeof path) != 0) {
        return;
    }
    attach_path = path;
    if (packet.record.type != SP_REC_ATTACH) {
        sp_packet_close(&packet);
    } else if (sp_pending_add(NULL, &packet, path) == 0) {
        struct pollfd p[SP_PENDING_MAX];
        for (unsigned i = sp_pending_polled(p); i-- > 0;) {
            p[i].revents = POLLHUP; /* init is dead */
        }
        sp_pending_step(NULL, p);
    }
}

/* ---- init ---- */

static void check_command(const struct sp_request *r, const struct sp_command *command) {
    size_t len = strlen(command->cwd) + 1;

    MUST(command->cwd == r->payload && command->argv == r->vector && command->env == r->vector + r->exec.argc + 1);
    for (uint32_t i = 0; i < r->exec.argc; i++) {
        MUST(command->argv[i] == r->payload + len);
        len += strlen(command->argv[i]) + 1;
    }
    for (uint32_t i = 0; i < r->exec.envc; i++) {
        MUST(command->env[i] == r->payload + len);
        len += strlen(command->env[i]) + 1;
    }
    MUST(len == r->exec.payload_len && command->argv[r->exec.argc] == NULL && command->env[r->exec.envc] == NULL);
}

/* In place of sp_file_serve(), which would work on files of this machine. */
static int check_file(const struct sp_packet *packet, const char *payload) {
    const struct sp_rec_file *f = &packet->record.u.file;
    const char *paths[2];
    char *copy = malloc(packet->payload_len + 1); /* of the exact size but for one byte, as malloc(0) may be NULL */

    MUST(copy != NULL && packet->payload_len <= SP_PACKET_MAX);
    memcpy(copy, payload, packet->payload_len);
    if (is_whole(packet) && take_paths(f, copy, paths) == 0) {
        size_t len = strlen(paths[0]) + 1;
        bool two = f->op == SP_FILE_RENAME || f->op == SP_FILE_SYMLINK;

        files++;
        MUST(paths[0] == copy && (!two || paths[1] == copy + len));
        MUST(len + (two ? strlen(paths[1]) + 1 : 0) == f->payload_len && packet->n_fds == 1);
    }
    free(copy);
    return 0;
}

static void file_request(struct feed *feed, int pair[2]) {
    struct sp_record record = {.type = SP_REC_FILE};
    struct sp_request r;
    struct sp_command command;

    record.u.file.op = 1 + feed_byte(feed) % (SP_FILE_OP_END - 1);
    record.u.file.payload_len = 2 + (uint32_t)feed_byte(feed) % 32;
    send_all(feed, pair[1], &record, 1 + (record.u.file.payload_len == 2));
    (void)sp_request_next(pair[0], &r, &command, check_file);
    sp_packet_close(&r.packet);
}

static void request(struct feed *feed, int pair[2]) {
    const uint8_t how = feed_byte(feed);
    struct sp_record record = {.type = (how & 32) != 0 ? SP_REC_SPAWN : SP_REC_EXEC};
    struct sp_rec_exec *e = &record.u.exec;
    struct sp_request r;
    struct sp_command command;

    e->flags = how & SP_EXEC_FLAGS;
    e->argc = 1 + feed_byte(feed);
    e->envc = (uint32_t)feed_number(feed, 2) % 2048;
    e->payload_len = (uint32_t)feed_number(feed, 2);
    const unsigned outputs = ((how & 32) != 0 ? 1 + ((how >> 1) & 1) + ((how >> 2) & 1) : 2) + ((how >> 4) & 1);
    send_all(feed, pair[1], &record, outputs + (how & 1) + ((e->envc & 7) == 7));
    int rc = sp_request_next(pair[0], &r, &command, NULL);
    if (r.payload != NULL) {                     /* it has arrived */
        char *copy = malloc(r.exec.payload_len); /* of the exact size */
        MUST(copy != NULL);
        memcpy(copy, r.payload, r.exec.payload_len);
        r.payload = copy;
        MUST((sp_command_parse(&r.exec, r.payload, r.vector, &command) == 0) >= (rc == 0));
        if (rc == 0) {
            commands++;
            check_command(&r, &command);
            MUST(r.packet.n_fds == outputs + (how & 1));
            MUST((command.channel != -1) == ((how & SP_EXEC_RUN) != 0));
        }
        free(copy);
    }
    sp_packet_close(&r.packet);
    mapping = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct feed feed = {data, size};
    const uint64_t fds_before = open_fds();
    int pair[2];

    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    const uint8_t what = feed_byte(&feed);
    if ((what & 1) != 0) {
        configure(&feed, pair);
    } else if ((what & 6) == 4) {
        attach_request(&feed, pair);
    } else if ((what & 2) != 0) {
        file_request(&feed, pair);
    } else {
        request(&feed, pair);
    }
    free(mapped.at);
    mapped.at = NULL;
    sp_fd_close(&pair[0]);
    sp_fd_close(&pair[1]);
    MUST(open_fds() == fds_before);
    return 0;
}
