/* sources: csrc/common/wire.c */
/* The records: their bytes, round trips, and every way in which one can be out of range. */
#include "common/wire.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "check.h"
#include "common/fact.h"
#include "common/stage.h"

#define HEADER 8
#define TYPE_AT 6

static uint64_t seed = 0x9E3779B97F4A7C15U;

/* xorshift: the same run every time */
static uint64_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Often returns one of the two bounds, where mistakes are likely. */
static uint64_t between(uint64_t min, uint64_t max) {
    const uint64_t what = draw() % 8;
    const uint64_t span = max - min;

    if (what < 2) {
        return what == 0 ? min : max;
    }
    return min + (span == UINT64_MAX ? draw() : draw() % (span + 1));
}

static uint32_t between32(uint32_t min, uint32_t max) { return (uint32_t)between(min, max); }

static void random_config(struct sp_rec_config *c) {
    c->flags = between32(0, SP_CONFIG_FLAGS);
    c->n_binds = between32(0, 4096);
    c->template_filter_len = between32(0, 4096);
    c->init_filter_len = between32(0, 4096);
    c->attach_filter_len = between32(0, 4096);
    c->exec_filter_len = between32(0, 4096);
    const uint32_t filters = c->template_filter_len + c->init_filter_len + c->attach_filter_len + c->exec_filter_len;
    c->payload_len = between32(8 * filters, SP_PAYLOAD_MAX);
    c->landlock_abi_max = between32(0, UINT32_MAX);
    c->memory_bytes = between(0, INT64_MAX);
    c->data_bytes = between(0, INT64_MAX);
    c->max_processes = between(0, INT32_MAX);
    c->scratch_bytes = between(0, INT64_MAX);
    c->scratch_inodes = between(0, INT64_MAX);
}

static void random_exec(struct sp_rec_exec *e) {
    e->id = between32(0, UINT32_MAX);
    e->flags = between32(0, SP_EXEC_FLAGS);
    e->argc = between32(1, SP_PAYLOAD_MAX / 2);
    e->envc = between32(0, SP_PAYLOAD_MAX / 2 - 1);
    e->payload_len = between32(e->argc + e->envc + 1, SP_PAYLOAD_MAX);
    e->cpu_seconds = between32(0, UINT32_MAX);
    e->timeout_ns = between(0, INT64_MAX);
    e->rows = between32(0, UINT16_MAX);
    e->cols = between32(0, UINT16_MAX);
}

static void random_exited(struct sp_rec_exited *e) {
    e->id = between32(0, UINT32_MAX);
    e->status = draw() % 2 == 0 ? between32(0, 255) << 8 : (between32(1, 64) | (draw() % 2 == 0 ? 0x80U : 0U));
    e->user_us = between(0, INT64_MAX);
    e->system_us = between(0, INT64_MAX);
    e->max_rss_bytes = between(0, INT64_MAX);
    e->flags = e->status == SIGKILL ? between32(0, SP_EXITED_FLAGS) : 0;
}

static void random_failed(struct sp_rec_failed *f) {
    f->id = between32(0, UINT32_MAX);
    f->stage = between32(1, SP_STAGE_COUNT - 1);
    f->err = between32(0, 4095);
    for (unsigned i = 0; i < SP_DETAIL_SIZE - 1; i++) {
        f->detail[i] = (char)draw();
    }
    f->detail[SP_DETAIL_SIZE - 1] = '\0';
}

static void random_file(struct sp_rec_file *f) {
    f->op = between32(1, SP_FILE_OP_END - 1);
    f->flags = between32(0, SP_FILE_FLAGS);
    f->mode = between32(0, 0777);
    f->payload_len = between32(2, SP_FILE_PAYLOAD_MAX);
}

static void random_filed(struct sp_rec_filed *f) {
    f->err = between32(0, 4095);
    f->mode = between32(0, 0xffff);
    f->nlink = between32(0, UINT32_MAX);
    f->uid = between32(0, UINT32_MAX);
    f->gid = between32(0, UINT32_MAX);
    f->size = between(0, INT64_MAX);
    f->inode = between(0, UINT64_MAX);
    f->device = between(0, UINT64_MAX);
    f->accessed_ns = between(0, INT64_MAX);
    f->modified_ns = between(0, INT64_MAX);
    f->changed_ns = between(0, INT64_MAX);
    f->payload_len = between32(0, SP_FILE_PATH_MAX);
}

static void random_bind(struct sp_rec_bind *b) {
    b->index = between32(0, 4095);
    b->flags = between32(0, SP_BIND_REC_FLAGS);
    b->bindings = between32(0, UINT32_MAX);
    b->device = between(0, UINT64_MAX);
    b->inode = between(0, UINT64_MAX);
}

static void random_attach(struct sp_rec_attach *a) {
    a->mode = between32(SP_ATTACH_RW, SP_ATTACH_COW);
    a->payload_len = between32(2, SP_ATTACH_PATH_MAX);
    a->device = between(0, UINT64_MAX);
    a->inode = between(0, UINT64_MAX);
}

static void random_record(enum sp_record_type type, struct sp_record *record) {
    memset(record, 0, sizeof *record);
    record->type = type;
    switch (type) {
    case SP_REC_CONFIG:
        random_config(&record->u.config);
        break;
    case SP_REC_CREATED:
        record->u.created.bindings = between32(0, UINT32_MAX);
        record->u.created.lease = between32(0, UINT32_MAX);
        record->u.created.stale = between32(0, 1);
        break;
    case SP_REC_BIND:
        random_bind(&record->u.bind);
        break;
    case SP_REC_ATTACH:
        random_attach(&record->u.attach);
        break;
    case SP_REC_READY:
        record->u.ready.landlock_abi = between32(0, 1024);
        record->u.ready.facts = between32(0, SP_FACT_ALL);
        break;
    case SP_REC_EXEC:
    case SP_REC_SPAWN:
        random_exec(&record->u.exec);
        break;
    case SP_REC_ACK:
    case SP_REC_ADOPT:
        record->u.id.id = between32(0, UINT32_MAX);
        break;
    case SP_REC_SIGNAL:
        record->u.signal.number = between32(1, 64);
        break;
    case SP_REC_EXITED:
        random_exited(&record->u.exited);
        break;
    case SP_REC_FAILED:
        random_failed(&record->u.failed);
        break;
    case SP_REC_FILE:
        random_file(&record->u.file);
        break;
    case SP_REC_FILED:
        random_filed(&record->u.filed);
        break;
    default: /* no fields */
        break;
    }
}

static int refused(const uint8_t *bytes, size_t len) {
    struct sp_record ignored;

    return sp_wire_unpack(bytes, len, &ignored) == -EBADMSG;
}

static int taken(const uint8_t *bytes) {
    struct sp_record ignored;

    return sp_wire_unpack(bytes, SP_RECORD_SIZE, &ignored) == 0;
}

/* ---- bytes ---- */

static void every_type_survives_a_round_trip(void) {
    for (int type = SP_REC_CONFIG; type < SP_REC_TYPE_END; type++) {
        for (unsigned i = 0; i < 2000; i++) {
            struct sp_record sent;
            struct sp_record got;
            uint8_t bytes[SP_RECORD_SIZE];

            random_record((enum sp_record_type)type, &sent);
            sp_wire_pack(&sent, bytes);
            memset(&got, 0xff, sizeof got); /* so that a field that it does not write is noticed */
            CHECK(sp_wire_unpack(bytes, sizeof bytes, &got) == 0);
            /* Both were zeroed as a whole, padding included. NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
            CHECK(memcmp(&sent, &got, sizeof got) == 0);
        }
    }
}

/* A round trip does not find a mistake that pack and unpack have in common. This does. */
static void bytes_are_little_endian_and_in_order(void) {
    static const uint8_t wanted[SP_RECORD_SIZE] = {
        'P',         'O', 'O', 'L', 7, 0, SP_REC_EXITED,
        0, /* magic, version, type */
        4,           3,   2,   1,   0, 7, 0,
        0, /* id, status */
        8,           7,   6,   5,   4, 3, 2,
        1, /* user_us */
        9,           0,   0,   0,   0, 0, 0,
        0, /* system_us */
        0,           0,   0,   0,   1, 0, 0,
        0 /* rss */, /* the rest is zero */
    };
    const struct sp_record record = {.type = SP_REC_EXITED,
                                     .u.exited = {.id = 0x01020304,
                                                  .status = 0x0700,
                                                  .user_us = 0x0102030405060708,
                                                  .system_us = 9,
                                                  .max_rss_bytes = UINT64_C(1) << 32}};
    uint8_t bytes[SP_RECORD_SIZE];

    memset(bytes, 0xff, sizeof bytes);
    sp_wire_pack(&record, bytes);
    CHECK(memcmp(bytes, wanted, sizeof bytes) == 0);
}

static void every_other_length_is_refused(void) {
    for (int type = SP_REC_CONFIG; type < SP_REC_TYPE_END; type++) {
        uint8_t bytes[2 * SP_RECORD_SIZE] = {0};
        struct sp_record record;

        random_record((enum sp_record_type)type, &record);
        sp_wire_pack(&record, bytes);
        for (size_t len = 0; len <= sizeof bytes; len++) {
            CHECK(refused(bytes, len) == (len != SP_RECORD_SIZE));
        }
    }
}

static void every_header_byte_is_checked(void) {
    for (int type = SP_REC_CONFIG; type < SP_REC_TYPE_END; type++) {
        uint8_t bytes[SP_RECORD_SIZE];
        struct sp_record record;

        random_record((enum sp_record_type)type, &record);
        sp_wire_pack(&record, bytes);
        for (unsigned at = 0; at < HEADER; at++) {
            bytes[at] ^= 0xff;
            CHECK(refused(bytes, sizeof bytes));
            bytes[at] ^= 0xff;
            for (unsigned bit = 0; bit < 8 && at != TYPE_AT;
                 bit++) { /* some changes of the type give another valid type */
                bytes[at] ^= (uint8_t)(1U << bit);
                CHECK(refused(bytes, sizeof bytes));
                bytes[at] ^= (uint8_t)(1U << bit);
            }
        }
        CHECK(taken(bytes));
    }
}

static void unknown_types_are_refused(void) {
    uint8_t bytes[SP_RECORD_SIZE];

    sp_wire_pack(&(struct sp_record){.type = SP_REC_CREATE}, bytes);
    for (unsigned type = 0; type <= UINT8_MAX; type++) {
        bytes[TYPE_AT] = (uint8_t)type;
        if (type == 0 || type >= SP_REC_TYPE_END) {
            CHECK(refused(bytes, sizeof bytes));
        }
    }
}

/* ---- ranges ---- */

static void poke(uint8_t *bytes, unsigned at, unsigned width, uint64_t value) {
    for (unsigned i = 0; i < width; i++) {
        bytes[at + i] = (uint8_t)(value >> (8 * i));
    }
}

struct field {
    enum sp_record_type type;
    unsigned at;
    unsigned width;
    uint64_t min;
    uint64_t max;
};

/* The offsets are part of the protocol, and are written here once more on purpose. */
static const struct field fields[] = {
    {SP_REC_CONFIG, 8, 4, 0, SP_CONFIG_FLAGS},
    {SP_REC_CONFIG, 12, 4, 0, SP_PAYLOAD_MAX},
    {SP_REC_CONFIG, 16, 4, 0, 4096},
    {SP_REC_CONFIG, 20, 4, 0, 4096},
    {SP_REC_CONFIG, 24, 4, 0, 4096},
    {SP_REC_CONFIG, 28, 4, 0, 4096},
    {SP_REC_CONFIG, 32, 4, 0, 4096},
    {SP_REC_CONFIG, 36, 4, 0, UINT32_MAX},
    {SP_REC_CONFIG, 40, 8, 0, INT64_MAX},
    {SP_REC_CONFIG, 48, 8, 0, INT64_MAX},
    {SP_REC_CONFIG, 56, 8, 0, INT32_MAX},
    {SP_REC_CONFIG, 64, 8, 0, INT64_MAX},
    {SP_REC_CONFIG, 72, 8, 0, INT64_MAX},
    {SP_REC_CREATED, 8, 4, 0, UINT32_MAX},
    {SP_REC_CREATED, 12, 4, 0, UINT32_MAX},
    {SP_REC_CREATED, 16, 4, 0, 1},
    {SP_REC_BIND, 8, 4, 0, 4095},
    {SP_REC_BIND, 12, 4, 0, SP_BIND_REC_FLAGS},
    {SP_REC_BIND, 16, 4, 0, UINT32_MAX},
    {SP_REC_BIND, 20, 8, 0, UINT64_MAX},
    {SP_REC_BIND, 28, 8, 0, UINT64_MAX},
    {SP_REC_ATTACH, 8, 4, SP_ATTACH_RW, SP_ATTACH_COW},
    {SP_REC_ATTACH, 12, 4, 2, SP_ATTACH_PATH_MAX},
    {SP_REC_ATTACH, 16, 8, 0, UINT64_MAX},
    {SP_REC_ATTACH, 24, 8, 0, UINT64_MAX},
    {SP_REC_READY, 8, 4, 0, 1024},
    {SP_REC_READY, 12, 4, 0, SP_FACT_ALL},
    {SP_REC_EXEC, 8, 4, 0, UINT32_MAX},
    {SP_REC_EXEC, 12, 4, 0, SP_EXEC_FLAGS},
    {SP_REC_EXEC, 16, 4, 1, SP_PAYLOAD_MAX - 1}, /* the cwd's NUL is in the payload, too */
    {SP_REC_EXEC, 20, 4, 0, SP_PAYLOAD_MAX - 2},
    {SP_REC_EXEC, 24, 4, 2, SP_PAYLOAD_MAX},
    {SP_REC_EXEC, 32, 8, 0, INT64_MAX},
    {SP_REC_SPAWN, 12, 4, 0, SP_EXEC_FLAGS},
    {SP_REC_SPAWN, 32, 8, 0, INT64_MAX},
    {SP_REC_SIGNAL, 8, 4, 1, 64},
    {SP_REC_ACK, 8, 4, 0, UINT32_MAX},
    {SP_REC_EXITED, 8, 4, 0, UINT32_MAX},
    {SP_REC_EXITED, 16, 8, 0, INT64_MAX},
    {SP_REC_EXITED, 24, 8, 0, INT64_MAX},
    {SP_REC_EXITED, 32, 8, 0, INT64_MAX},
    {SP_REC_EXITED, 40, 4, 0, SP_EXITED_FLAGS},
    {SP_REC_FAILED, 8, 4, 0, UINT32_MAX},
    {SP_REC_FAILED, 12, 4, 1, SP_STAGE_COUNT - 1},
    {SP_REC_FAILED, 16, 4, 0, 4095},
    {SP_REC_FILE, 8, 4, 1, SP_FILE_OP_END - 1},
    {SP_REC_FILE, 12, 4, 0, SP_FILE_FLAGS},
    {SP_REC_FILE, 16, 4, 0, 0777},
    {SP_REC_FILE, 20, 4, 2, SP_FILE_PAYLOAD_MAX},
    {SP_REC_FILED, 8, 4, 0, 4095},
    {SP_REC_FILED, 12, 4, 0, 0xffff},
    {SP_REC_FILED, 28, 8, 0, INT64_MAX},
    {SP_REC_FILED, 36, 8, 0, UINT64_MAX},
    {SP_REC_FILED, 52, 8, 0, INT64_MAX},
    {SP_REC_FILED, 60, 8, 0, INT64_MAX},
    {SP_REC_FILED, 68, 8, 0, INT64_MAX},
    {SP_REC_FILED, 76, 4, 0, SP_FILE_PATH_MAX},
};

/* A record in which this field may take each value of its range while the others stay the same. */
static void plainest(const struct field *field, uint8_t *bytes) {
    struct sp_record record = {.type = field->type};

    if (field->type == SP_REC_EXEC || field->type == SP_REC_SPAWN) {
        record.u.exec = (struct sp_rec_exec){.argc = 1, .payload_len = SP_PAYLOAD_MAX};
    } else if (field->type == SP_REC_CONFIG) {
        record.u.config.payload_len = SP_PAYLOAD_MAX;
    } else if (field->type == SP_REC_EXITED) {
        record.u.exited.status = SIGKILL; /* with another status no flag may be set */
    } else if (field->type == SP_REC_SIGNAL) {
        record.u.signal.number = 1;
    } else if (field->type == SP_REC_ATTACH) {
        record.u.attach = (struct sp_rec_attach){.mode = SP_ATTACH_RW, .payload_len = 2};
    } else if (field->type == SP_REC_FAILED) {
        record.u.failed.stage = 1;
    } else if (field->type == SP_REC_FILE) {
        record.u.file = (struct sp_rec_file){.op = 1, .payload_len = 2};
    }
    sp_wire_pack(&record, bytes);
}

static void every_field_has_its_range(void) {
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const struct field *f = &fields[i];
        const uint64_t last = f->width == 8 ? UINT64_MAX : UINT32_MAX;
        uint8_t bytes[SP_RECORD_SIZE];
        unsigned failures = atomic_load(&check_failures);

        plainest(f, bytes);
        poke(bytes, f->at, f->width, f->min);
        CHECK(taken(bytes));
        poke(bytes, f->at, f->width, f->max);
        CHECK(taken(bytes));
        if (f->min != 0) {
            poke(bytes, f->at, f->width, f->min - 1);
            CHECK(refused(bytes, sizeof bytes));
        }
        if (f->max != last) {
            poke(bytes, f->at, f->width, f->max + 1);
            CHECK(refused(bytes, sizeof bytes));
            poke(bytes, f->at, f->width, last);
            CHECK(refused(bytes, sizeof bytes));
        }
        if (atomic_load(&check_failures) != failures) {
            (void)fprintf(stderr, "  type %d, field at byte %u\n", (int)f->type, f->at);
        }
    }
}

static int exec_is_taken(uint32_t argc, uint32_t envc, uint32_t payload_len) {
    const struct sp_record record = {.type = SP_REC_EXEC,
                                     .u.exec = {.argc = argc, .envc = envc, .payload_len = payload_len}};
    uint8_t bytes[SP_RECORD_SIZE];

    sp_wire_pack(&record, bytes);
    return taken(bytes);
}

static void exec_counts_fit_in_the_payload(void) {
    CHECK(exec_is_taken(1, 0, 2) && !exec_is_taken(1, 0, 1) && !exec_is_taken(1, 0, 0));
    CHECK(exec_is_taken(3, 4, 8) && !exec_is_taken(3, 4, 7));
    CHECK(exec_is_taken(SP_PAYLOAD_MAX / 2, SP_PAYLOAD_MAX / 2 - 1, SP_PAYLOAD_MAX));
    CHECK(!exec_is_taken(SP_PAYLOAD_MAX / 2, SP_PAYLOAD_MAX / 2, SP_PAYLOAD_MAX));
    CHECK(!exec_is_taken(SP_PAYLOAD_MAX, SP_PAYLOAD_MAX, SP_PAYLOAD_MAX));
    CHECK(!exec_is_taken(UINT32_MAX, 2, 2) && !exec_is_taken(2, UINT32_MAX, 2)); /* their sum wraps in 32 bits */
}

static int config_is_taken(uint32_t of_template, uint32_t of_init, uint32_t of_attach, uint32_t of_exec,
                           uint32_t payload_len) {
    const struct sp_record record = {.type = SP_REC_CONFIG,
                                     .u.config = {.template_filter_len = of_template,
                                                  .init_filter_len = of_init,
                                                  .attach_filter_len = of_attach,
                                                  .exec_filter_len = of_exec,
                                                  .payload_len = payload_len}};
    uint8_t bytes[SP_RECORD_SIZE];

    sp_wire_pack(&record, bytes);
    return taken(bytes);
}

static void config_filters_fit_in_the_payload(void) {
    const uint32_t all = 4 * 4096 * 8;
    CHECK(config_is_taken(0, 0, 0, 0, 0));
    CHECK(config_is_taken(1, 0, 0, 0, 8) && !config_is_taken(1, 0, 0, 0, 7));
    CHECK(config_is_taken(0, 1, 0, 0, 8) && !config_is_taken(0, 1, 0, 0, 7));
    CHECK(config_is_taken(0, 0, 1, 0, 8) && !config_is_taken(0, 0, 1, 0, 7));
    CHECK(config_is_taken(0, 0, 0, 1, 8) && !config_is_taken(0, 0, 0, 1, 7));
    CHECK(config_is_taken(2, 3, 4, 5, 112) && !config_is_taken(2, 3, 4, 5, 111));
    CHECK(config_is_taken(4096, 4096, 4096, 4096, all) && !config_is_taken(4096, 4096, 4096, 4096, all - 1));
}

/* Accepted is each status that wait(2) returns for a process that has ended, and no other. */
static void only_statuses_of_ended_processes_are_accepted(void) {
    uint8_t bytes[SP_RECORD_SIZE];

    sp_wire_pack(&(struct sp_record){.type = SP_REC_EXITED}, bytes);
    for (uint32_t status = 0; status <= 0x1ffff; status++) {
        const uint32_t signal = status & 0x7f;
        const bool exited = (status & 0xff) == 0 && status <= 0xff00;
        const bool killed = signal >= 1 && signal <= 64 && status <= 0xff; /* 0x80: dumped core */

        poke(bytes, 12, 4, status);
        CHECK(taken(bytes) == (exited || killed));
    }
    for (unsigned bit = 16; bit < 32; bit++) {
        poke(bytes, 12, 4, UINT64_C(1) << bit);
        CHECK(refused(bytes, sizeof bytes));
    }
    poke(bytes, 12, 4, 0x137f); /* stopped by SIGSTOP */
    CHECK(refused(bytes, sizeof bytes));
    poke(bytes, 12, 4, 0xffff); /* continued */
    CHECK(refused(bytes, sizeof bytes));
}

static void detail_always_ends(void) {
    struct sp_record record = {.type = SP_REC_FAILED, .u.failed = {.stage = 1}};
    uint8_t bytes[SP_RECORD_SIZE];

    memset(record.u.failed.detail, 'x', SP_DETAIL_SIZE);
    sp_wire_pack(&record, bytes);
    CHECK(bytes[20 + SP_DETAIL_SIZE - 1] == 'x');
    CHECK(sp_wire_unpack(bytes, sizeof bytes, &record) == 0);
    CHECK(memchr(record.u.failed.detail, '\0', SP_DETAIL_SIZE) == record.u.failed.detail + SP_DETAIL_SIZE - 1);
}

/* ---- the strings of a payload ---- */

static void strings_are_read_one_by_one(void) {
    static const char text[] = "one\0\0three\0open"; /* the last one's NUL is beyond the end */
    const char *end = text + sizeof text - 1;
    const char *cursor = text;

    CHECK(sp_strings_next(&cursor, end) == text && cursor == text + 4);
    CHECK(sp_strings_next(&cursor, end) == text + 4 && cursor == text + 5); /* an empty string is a string, too */
    CHECK(sp_strings_next(&cursor, end) == text + 5 && cursor == text + 11);
    CHECK(sp_strings_next(&cursor, end) == NULL && cursor == text + 11);
    CHECK(sp_strings_next(&cursor, end + 1) == text + 11 && cursor == end + 1);
    CHECK(sp_strings_next(&cursor, end + 1) == NULL && cursor == end + 1);
}

static void strings_never_go_past_the_end(void) {
    char *exact = calloc(1, 4); /* of the exact size, so that AddressSanitizer sees a read of the next byte */
    const char *cursor = exact;

    if (exact == NULL) {
        abort();
    }
    memcpy(exact, "full", 4);
    CHECK(sp_strings_next(&cursor, exact + 4) == NULL && cursor == exact);
    CHECK(sp_strings_next(&cursor, exact) == NULL && cursor == exact);
    cursor = exact + 4;
    CHECK(sp_strings_next(&cursor, exact) == NULL); /* a cursor beyond the end */
    exact[3] = '\0';
    cursor = exact;
    CHECK(sp_strings_next(&cursor, exact + 3) == NULL);
    CHECK(sp_strings_next(&cursor, exact + 4) == exact && cursor == exact + 4);
    free(exact);
}

static void only_a_kill_can_be_for_memory(void) {
    static const uint32_t others[] = {0, SIGKILL << 8, SIGSEGV, SIGKILL | 0x80};
    uint8_t bytes[SP_RECORD_SIZE];

    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct sp_record record = {.type = SP_REC_EXITED, .u.exited = {.status = others[i], .flags = SP_EXITED_OOM}};
        sp_wire_pack(&record, bytes);
        CHECK(taken(bytes) == (others[i] == (SIGKILL | 0x80)));
    }
}

int main(void) {
    check_deadline(30);
    RUN(every_type_survives_a_round_trip);
    RUN(bytes_are_little_endian_and_in_order);
    RUN(every_other_length_is_refused);
    RUN(every_header_byte_is_checked);
    RUN(unknown_types_are_refused);
    RUN(every_field_has_its_range);
    RUN(exec_counts_fit_in_the_payload);
    RUN(config_filters_fit_in_the_payload);
    RUN(only_statuses_of_ended_processes_are_accepted);
    RUN(detail_always_ends);
    RUN(strings_are_read_one_by_one);
    RUN(strings_never_go_past_the_end);
    RUN(only_a_kill_can_be_for_memory);
    return check_report();
}
